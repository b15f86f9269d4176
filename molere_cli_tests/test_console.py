"""What a person sees while a run goes on, and what is left of it behind an error or a signal."""

from __future__ import annotations

import io
import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from rich.console import Console

from molere_cli.commands import console
from molere_cli.commands.console import Bars, Lines, progress_display

HIDE, SHOW = "\x1b[?25l", "\x1b[?25h"
METRICS = {"epoch": 0, "train/loss": 1.25, "train/accuracy": 0.5, "weights/std": 0.125, "test/accuracy": 0.75}


@pytest.fixture
def terminal(monkeypatch) -> io.StringIO:
    """What is written to a terminal of 100 columns."""
    written = io.StringIO()
    shown = Console(file=written, force_terminal=True, width=100, color_system=None)
    monkeypatch.setattr(console, "stderr", shown)
    return written


def test_bars_show_label_epoch_loss_accuracy_and_weight_spread(terminal):
    with progress_display(quiet=False) as display:
        assert isinstance(display, Bars)
        display.run_started("LRW-Hard", seed=3, num_epochs=4, path=None)
        display.step_taken(epoch=0, step=1, num_steps=2, loss=1.25)
        display.epoch_ended(METRICS)
        display.run_ended(None)
    shown = terminal.getvalue()
    assert "LRW-Hard s3" in shown
    assert "1/4 loss 1.250 acc 50.0 weights ±0.12 test acc 75.0" in shown


def test_several_runs_have_a_bar_each_and_one_cursor(terminal):
    with progress_display(quiet=False) as display:
        for seed in range(2):
            display.run_started("ERM", seed=seed, num_epochs=1, path=None)
            display.epoch_ended(METRICS)
            display.run_ended(None)
    shown = terminal.getvalue()
    assert "ERM s0" in shown and "ERM s1" in shown
    assert shown.count(HIDE) == shown.count(SHOW) == 2


@pytest.mark.parametrize("raised", [ValueError, KeyboardInterrupt, SystemExit])
def test_the_cursor_comes_back_behind_an_error(terminal, raised):
    with pytest.raises(raised), progress_display(quiet=False) as display:
        display.run_started("ERM", seed=0, num_epochs=4, path=None)
        assert terminal.getvalue().count(SHOW) < terminal.getvalue().count(HIDE)
        raise raised
    assert terminal.getvalue().rindex(SHOW) > terminal.getvalue().rindex(HIDE)


def test_a_pipe_gets_lines_without_control_characters(monkeypatch):
    written = io.StringIO()
    monkeypatch.setattr(console, "stderr", Console(file=written, width=100))
    with progress_display(quiet=False) as display:
        assert isinstance(display, Lines)
        display.run_started("ERM", seed=0, num_epochs=1, path=None)
        display.epoch_ended(METRICS)
    assert written.getvalue().splitlines()[1].startswith("ERM seed 0: epoch 1/1 loss 1.250")
    assert "\x1b" not in written.getvalue()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGINT, 130)]
)
def test_a_signal_leaves_a_terminal_with_its_cursor(number, code, tmp_path):
    """The real command in a pseudo-terminal."""
    leader, follower = pty.openpty()
    command = [sys.executable, "-m", "molere_cli", "train", "--method", "erm", "--epochs", "5000"]
    streams = {"stdin": follower, "stdout": follower, "stderr": follower}
    with subprocess.Popen(command, **streams, cwd=tmp_path, preexec_fn=heed_all) as process:
        os.close(follower)
        shown = read_until(leader, HIDE)
        time.sleep(0.5)
        process.send_signal(number)
        shown += read_until(leader, None)
        assert process.wait(timeout=30) == code
    os.close(leader)
    assert shown.rindex(SHOW) > shown.rindex(HIDE)
    assert "Traceback" not in shown
    assert Path(tmp_path / "runs" / "digits-erm-s0").is_dir()


def heed_all() -> None:
    """A test run under `nohup` hands its ignored signals down."""
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL if number != signal.SIGINT else signal.default_int_handler)


def read_until(leader: int, wanted: str | None) -> str:
    """What comes out of a pseudo-terminal until `wanted` has, or until its other side is closed."""
    shown = ""
    while wanted is None or wanted not in shown:
        try:
            part = os.read(leader, 4096)
        except OSError:  # Linux says so when the other side is closed
            break
        if not part:
            break
        shown += part.decode(errors="replace")
    return shown


def test_the_end_of_a_command_searches_for_no_garbage(tmp_path):
    """What is frozen is passed over when the interpreter ends, which took longer than some commands."""
    program = """
import atexit, gc, sys
atexit.register(lambda: print("frozen", gc.get_freeze_count() > 0))
sys.argv = ["molere", "plugins", "methods"]
from molere_cli.__main__ import main
main()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "frozen True"
