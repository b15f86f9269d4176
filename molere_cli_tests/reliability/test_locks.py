"""Lock files: held by one, let go of by the dead, and taken away by whoever is done."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from threading import Timer

import pytest

from molere_cli.foundation import locks
from molere_cli.foundation.errors import RunError, WriteError
from molere_cli.foundation.locks import SILENCE, heartbeat, locked

HOLD = """
import os, sys, time
from pathlib import Path
from molere_cli.foundation.locks import locked
with locked(Path(sys.argv[1]), doing="is at it", note=print):
    print("held", flush=True)
    if sys.argv[2] == "forking":
        if not os.fork():
            print(os.getpid(), flush=True)
            time.sleep(60)
    sys.stdin.readline()
"""
COUNT = """
import sys
from pathlib import Path
from molere_cli.foundation.locks import locked
lock, inside, counter = (Path(sys.argv[1]) / name for name in ("lock", "inside", "counter"))
for _ in range(int(sys.argv[2])):
    with locked(lock, doing="is at it", note=lambda message: None, wait=True):
        inside.open("x").close()
        counter.write_text(str(int(counter.read_text()) + 1))
        inside.unlink()
"""


@contextmanager
def holder(path, *, forking=False):
    """Another process that holds the lock until it is told to end; `forking`: and says its child's number."""
    command = [sys.executable, "-c", HOLD, str(path), "forking" if forking else "alone"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def hold(path, *, notes=None, wait=False):
    return locked(path, doing="is at it", note=[].append if notes is None else notes.append, wait=wait)


def test_a_lock_is_a_file_that_says_whose_it_is_and_goes_with_it(tmp_path):
    path = tmp_path / "new" / "lock"
    with hold(path):
        said = json.loads(path.read_text())
        assert (said["pid"], said["host"]) == (os.getpid(), socket.gethostname())
    assert not path.exists()
    with pytest.raises(KeyboardInterrupt), hold(path):
        raise KeyboardInterrupt
    assert not path.exists()


def test_what_another_process_holds_is_refused_with_its_number_and_machine(tmp_path):
    path = tmp_path / "lock"
    with holder(path) as process:
        with pytest.raises(RunError) as caught, hold(path):
            pass
        owner = rf"process {process.pid} on {socket.gethostname()} \(since 20.*\)"
        assert caught.match(f"^{owner} is at it; wait until it has finished, or stop it$")
        assert path.exists()


def test_an_owner_who_has_not_signed_is_another_process(tmp_path):
    """It may have been killed before it could, or stopped."""
    path = tmp_path / "lock"
    with holder(path):
        os.truncate(path, 0)
        with pytest.raises(RunError, match=r"^another process is at it; wait until "), hold(path):
            pass


def test_this_very_process_is_kept_out_too(tmp_path):
    again = hold(tmp_path / "lock")
    with hold(tmp_path / "lock"), pytest.raises(RunError, match=f"process {os.getpid()} "), again:
        pass


def test_the_lock_of_a_process_that_was_killed_is_free_at_once(tmp_path):
    path = tmp_path / "lock"
    with holder(path) as process:
        process.kill()
        process.wait()
        assert json.loads(path.read_text())["pid"] == process.pid
        with hold(path):
            assert json.loads(path.read_text())["pid"] == os.getpid()
    assert not path.exists()


def test_who_waits_says_so_once_and_then_has_it(tmp_path):
    path, notes = tmp_path / "lock", []
    with holder(path) as process:
        Timer(1, process.kill).start()
        with hold(path, notes=notes, wait=True):
            assert json.loads(path.read_text())["pid"] == os.getpid()
    (note,) = notes
    assert note.startswith(f"waiting for process {process.pid} on ")
    assert note.endswith(", which is at it")


def test_of_many_one_at_a_time_holds_it(tmp_path):
    """Every one takes the file away when it is done, and a file that is gone locks nobody out."""
    (tmp_path / "counter").write_text("0")
    command = [sys.executable, "-c", COUNT, str(tmp_path), "50"]
    processes = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(4)]
    for process in processes:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
    assert (tmp_path / "counter").read_text() == "200"
    assert [path.name for path in tmp_path.iterdir()] == ["counter"]


def test_a_file_that_its_owner_takes_away_between_opening_and_locking_is_none(tmp_path, monkeypatch):
    path, flock, calls = tmp_path / "lock", locks._flock, []

    def late(*args):
        if not calls:
            path.unlink()
        calls.append(args)
        return flock(*args)

    monkeypatch.setattr(locks, "_flock", late)
    with hold(path):
        assert path.exists()
    assert len(calls) == 2


def test_a_forked_child_does_not_keep_the_lock_of_its_dead_parent(tmp_path):
    path = tmp_path / "lock"
    with holder(path, forking=True) as process:
        child = int(process.stdout.readline())
        process.kill()
        process.wait()
        os.kill(child, 0)
        with hold(path):
            pass
        os.kill(child, signal.SIGKILL)


# --- other machines


def left_by(path, *, host, seconds_ago):
    path.write_text(json.dumps({"pid": 7, "host": host, "started": "2025-01-01T00:00:00+00:00"}))
    os.utime(path, (time.time() - seconds_ago,) * 2)


def test_a_lock_that_another_machine_has_touched_of_late_is_held(tmp_path):
    """Whatever the kernel says: the file system may not share its locks."""
    path = tmp_path / "lock"
    left_by(path, host="node9", seconds_ago=SILENCE / 2)
    sentence = rf"^process 7 on node9 .* stop it; if it is gone, delete {path}$"
    with pytest.raises(RunError, match=sentence), hold(path):
        pass
    assert path.exists()


@pytest.mark.parametrize(
    ("host", "seconds_ago"), [("node9", SILENCE + 5), (socket.gethostname(), 0), (None, 0)]
)
def test_a_lock_that_was_left_behind_is_taken(tmp_path, host, seconds_ago):
    path = tmp_path / "lock"
    if host is None:
        path.touch()
    else:
        left_by(path, host=host, seconds_ago=seconds_ago)
    with hold(path):
        assert json.loads(path.read_text())["pid"] == os.getpid()
    assert not path.exists()


def test_who_holds_a_lock_touches_it_now_and_then(tmp_path, monkeypatch):
    path = tmp_path / "lock"
    with hold(path):
        os.utime(path, (0, 0))
        heartbeat()
        assert path.stat().st_mtime == 0
        monkeypatch.setattr("molere_cli.foundation.locks.BEAT", 0)
        heartbeat()
        assert time.time() - path.stat().st_mtime < 60
    heartbeat()


# --- what else may happen


def test_a_file_system_without_locks_is_said_and_keeps_nobody_out(tmp_path, monkeypatch):
    def flock(descriptor, operation):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)
    notes = []
    with hold(tmp_path / "lock", notes=notes), hold(tmp_path / "lock", notes=notes):
        pass
    sentence = f"files in {tmp_path} cannot be locked: nothing keeps a second command from writing there"
    assert notes == [sentence] * 2


def test_a_system_without_locks_is_said_too(tmp_path, monkeypatch):
    monkeypatch.setattr(locks, "fcntl", None)
    notes = []
    with hold(tmp_path / "lock", notes=notes), hold(tmp_path / "lock", notes=notes):
        heartbeat()
    assert len(notes) == 2
    assert notes[0].startswith("this system has no file locks: ")


def test_a_lock_that_somebody_else_has_made_anew_is_left_alone(tmp_path):
    path = tmp_path / "lock"
    with hold(path):
        path.unlink()
        path.write_text("another's")
    assert path.read_text() == "another's"


def test_a_lock_that_cannot_be_made_is_one_sentence(tmp_path):
    (tmp_path / "file").touch()
    with (
        pytest.raises(WriteError, match=r"^cannot make the folder .*file: "),
        hold(tmp_path / "file" / "lock"),
    ):
        pass
    (tmp_path / "lock").mkdir()
    with pytest.raises(RunError, match=r"^cannot make the lock file .*: "), hold(tmp_path / "lock"):
        pass
