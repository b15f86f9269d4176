"""Several processes on one folder: nobody writes into another's run, and what can be shared is made once."""

from __future__ import annotations

import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Timer

import pytest

from molere_cli.data.source import load_dataset
from molere_cli.foundation.errors import RunError
from molere_cli.foundation.progress import NoProgress
from molere_cli.hardness.hardness_scores import erm_run
from molere_cli.runs import checkpoint_exchange
from molere_cli.runs.begin_run import new_run
from molere_cli.runs.run_directory import RunDir
from molere_cli.splits.split_file import read_split, write_new_split
from molere_cli.training.resume_run import resume_run
from molere_cli_tests.processes import Together, is_whole
from molere_cli_tests.reliability.test_locks import holder
from molere_cli_tests.training import KilledAfter, Notebook, tiny_config, train_one, without_times
from molere_cli_tests.unit.test_splits import a_split

pytestmark = pytest.mark.slow

QUICK = shlex.split("--epochs 1 --limit-train 100 --threads 1 --precision fp32 --device cpu")
ERM = ["train", "--method", "erm", *QUICK]
PAIRS = 4


@pytest.fixture(scope="module")
def two() -> Iterator[Together]:
    with Together(2) as processes:
        yield processes


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# --- names


def test_two_commands_started_together_are_two_whole_runs(two, tmp_path):
    for number in range(PAIRS):
        folder = tmp_path / str(number)
        folder.mkdir()
        done = two.run([ERM, ERM], cwd=folder)
        assert {each.code for each in done} == {0}, done
        assert names_in(folder / "runs") == ["digits-erm-s0", "digits-erm-s0-2"]
        assert {each.out for each in done} == {"runs/digits-erm-s0\n", "runs/digits-erm-s0-2\n"}
        assert all(is_whole(path) for path in (folder / "runs").iterdir())


def test_of_two_commands_with_the_same_out_one_is_refused(two, tmp_path):
    for number in range(PAIRS):
        folder = tmp_path / str(number)
        folder.mkdir()
        done = two.run([[*ERM, "--out", "mine"]] * 2, cwd=folder)
        assert sorted(each.code for each in done) == [0, 1], done
        (refused,) = (each.err for each in done if each.code)
        assert refused.splitlines()[-1] == (
            "molere: mine exists already; choose another --out, or `--resume mine` if it is unfinished"
        )
        assert names_in(folder) == ["mine"]
        assert is_whole(folder / "mine")


def test_two_splits_made_together_are_two_files_and_one_erm_run(two, tmp_path):
    for number in range(PAIRS):
        folder = tmp_path / str(number)
        folder.mkdir()
        done = two.run([["split", "--delta", "0.2", *QUICK, "--quiet"]] * 2, cwd=folder)
        assert {each.code for each in done} == {0}, done
        assert names_in(folder / "splits") == ["digits-hard-0.2-2.parquet", "digits-hard-0.2.parquet"]
        one, other = (read_split(path) for path in (folder / "splits").iterdir())
        assert one.in_validation.equal(other.in_validation)
        assert names_in(folder / "runs") == ["digits-erm-s0"]


def test_of_two_splits_with_the_same_out_one_is_refused(two, tmp_path):
    for number in range(PAIRS):
        folder = tmp_path / str(number)
        folder.mkdir()
        line = ["split", "--strategy", "random", "--out", "mine.parquet", "--quiet"]
        done = two.run([line] * 2, cwd=folder)
        assert sorted(each.code for each in done) == [0, 1], done
        (refused,) = (each.err for each in done if each.code)
        assert refused == "molere: mine.parquet exists already; choose another --out\n"
        assert read_split(folder / "mine.parquet").info.strategy == "random"
        assert names_in(folder) == ["mine.parquet"]


def test_a_run_has_its_name_only_once_its_first_files_are_there(tmp_path):
    path = tmp_path / "runs" / "run"

    def begin(run):
        assert names_in(path.parent) == [run.path.name]
        assert run.path.name.startswith(".")
        (run.path / "config.json").write_text("{}")

    with new_run(path, begin, numbered=False, note=print) as run:
        assert run.path == path
        assert names_in(path.parent) == ["run"]
        assert names_in(path) == ["config.json", "lock"]
    assert names_in(path) == ["config.json"]


def test_a_run_that_cannot_begin_leaves_nothing(tmp_path):
    def begin(run):
        raise RunError("no")

    with pytest.raises(RunError, match="no"), new_run(tmp_path / "run", begin, numbered=True, note=print):
        pass
    assert names_in(tmp_path) == []


@pytest.mark.parametrize("what", ["a run", "an empty folder", "a file", "a link to nowhere"])
def test_a_name_that_anything_has_is_taken(tmp_path, what):
    path = tmp_path / "v1.0"
    if what == "a file":
        path.touch()
    elif what == "a link to nowhere":
        path.symlink_to(tmp_path / "nowhere")
    else:
        path.mkdir()
        if what == "a run":
            (path / "config.json").touch()
    before = names_in(tmp_path)

    def begin(run):
        (run.path / "config.json").write_text("{}")

    with pytest.raises(RunError, match="exists already"), new_run(path, begin, numbered=False, note=print):
        pass
    assert names_in(tmp_path) == before
    with new_run(path, begin, numbered=True, note=print) as run:
        assert run.path == tmp_path / "v1.0-2"
    with new_run(path, begin, numbered=True, note=print) as run:
        assert run.path == tmp_path / "v1.0-3"


@pytest.mark.parametrize("has_links", [True, False])
def test_a_split_file_is_whole_and_takes_nobodys_name(tmp_path, monkeypatch, has_links):
    """On a file system without hard links too."""
    if not has_links:
        monkeypatch.setattr(os, "link", lambda *_: (_ for _ in ()).throw(PermissionError(1, "no links")))
    path = tmp_path / "v1.0.parquet"
    path.write_text("another's")
    with pytest.raises(FileExistsError):
        write_new_split(a_split(), path, numbered=False)
    numbered = [write_new_split(a_split(), path, numbered=True) for _ in range(2)]
    assert [each.name for each in numbered] == ["v1.0-2.parquet", "v1.0-3.parquet"]
    assert path.read_text() == "another's"
    assert names_in(tmp_path) == ["v1.0-2.parquet", "v1.0-3.parquet", "v1.0.parquet"]
    for each in numbered:
        assert read_split(each).in_validation.equal(a_split().in_validation)


# --- one ERM run for all


def test_an_erm_run_that_two_commands_need_is_trained_once(two, tmp_path):
    """By one of them; the other says once that it waits."""
    for number in range(PAIRS):
        folder = tmp_path / str(number)
        folder.mkdir()
        done = two.run([["train", "--split", split, *QUICK] for split in ("hard", "easy")], cwd=folder)
        assert {each.code for each in done} == {0}, done
        assert names_in(folder / "runs") == ["digits-erm-s0", "digits-lrw-s0", "digits-lrw-s0-2"]
        assert all(is_whole(path) for path in (folder / "runs").iterdir())
        for path in (folder / "runs").glob("*-lrw-*"):
            assert RunDir(path).environment()["split"]["erm_run"] == "runs/digits-erm-s0"
        said = [line for each in done for line in each.err.splitlines() if line.startswith("note: ")]
        notes = [line for line in said if "weights are nearly equal" not in line]
        taking, *waiting = sorted(notes)
        assert taking == "note: taking hardness scores from runs/digits-erm-s0"
        assert len(waiting) <= 1
        assert all(
            " which is training the ERM run that hardness scores come from" in note for note in waiting
        )


def killed_erm(registry, runs: Path, *, epochs: int = 2) -> RunDir:
    """An ERM run of `tiny` that was killed after so many of its 4 epochs."""
    with pytest.raises(KeyboardInterrupt):
        train_one(tiny_config(), registry, runs, progress=KilledAfter(epochs, label_part="erm"))
    (path,) = runs.iterdir()
    return RunDir(path)


def scores_of(registry, runs: Path, notebook: Notebook) -> RunDir:
    config = tiny_config(method="lrw", split="hard")
    data = load_dataset(config.data, registry)
    return erm_run(config, registry, data, score="aum", runs=runs, progress=notebook)


def test_an_unfinished_erm_run_that_nobody_trains_is_finished_for_its_scores(registry, tmp_path):
    unfinished, notebook = killed_erm(registry, tmp_path / "cut"), Notebook()
    found = scores_of(registry, tmp_path / "cut", notebook)
    assert found.path == unfinished.path
    assert notebook.notes == [f"hardness scores are to come from {found.path}, which is unfinished"]
    assert names_in(tmp_path / "cut") == ["tiny-erm-s0"]
    whole = train_one(tiny_config(), registry, tmp_path / "whole")
    assert without_times(found.metrics()) == without_times(whole.metrics())
    assert found.pool_path.read_bytes() == whole.pool_path.read_bytes()


def test_an_unfinished_erm_run_that_somebody_trains_is_waited_for(registry, tmp_path):
    unfinished, notebook = killed_erm(registry, tmp_path), Notebook()
    with holder(unfinished.lock_path) as process:
        Timer(1, process.kill).start()
        found = scores_of(registry, tmp_path, notebook)
    assert found.path == unfinished.path
    assert found.is_done
    _, note = notebook.notes
    assert note.startswith(f"waiting for process {process.pid} on ")
    assert note.endswith(f", which is training {unfinished.path}")


def test_an_unfinished_erm_run_that_cannot_be_finished_is_skipped_and_said(registry, tmp_path):
    unfinished, notebook = killed_erm(registry, tmp_path), Notebook()
    for name in ("checkpoint", "checkpoint.old"):
        (unfinished.path / name / "state.json").write_text("{")
    found = scores_of(registry, tmp_path, notebook)
    assert found.path != unfinished.path
    assert "state.json is damaged" in notebook.notes[-1]
    assert notebook.notes[-1].endswith("; going on without it")


@pytest.mark.parametrize("change", [{"seed": 1}, {"epochs": 3}, {"lr": 0.01}])
def test_an_unfinished_erm_run_of_other_settings_is_left_alone(registry, tmp_path, change):
    unfinished = killed_erm(registry, tmp_path)
    before = names_in(unfinished.path)
    config = tiny_config(method="lrw", split="hard", **change)
    data = load_dataset(config.data, registry)
    found = erm_run(config, registry, data, score="aum", runs=tmp_path, progress=NoProgress())
    assert found.path != unfinished.path
    assert names_in(unfinished.path) == before


# --- one process a run


def test_a_run_that_somebody_trains_is_not_resumed(registry, tmp_path):
    run = killed_erm(registry, tmp_path)
    with holder(run.lock_path) as process:
        with pytest.raises(RunError) as caught:
            resume_run(run.path, registry, progress=NoProgress())
        owner = rf"process {process.pid} on {socket.gethostname()} \(since .*\)"
        assert caught.match(f"^{owner} is training {run.path}; wait until it has finished, or stop it$")
        assert len(run.metrics()) == 2
        process.kill()
        process.wait()
        assert resume_run(run.path, registry, progress=NoProgress()).is_done
    assert not run.lock_path.exists()


def test_a_run_holds_its_lock_while_it_trains_and_leaves_none(registry, tmp_path):
    seen = []

    class Looking(KilledAfter):
        def step_taken(self, **step):
            (path,) = tmp_path.glob("[!.]*")
            seen.append(json.loads((path / "lock").read_text())["pid"])
            super().step_taken(**step)

    with pytest.raises(KeyboardInterrupt):
        train_one(tiny_config(), registry, tmp_path, progress=Looking(2, label_part="erm"))
    (path,) = tmp_path.iterdir()
    assert not (path / "lock").exists()
    resume_run(path, registry, progress=Looking(9, label_part="erm"))
    assert not (path / "lock").exists()
    assert len(seen) >= 4 * 3
    assert set(seen) == {os.getpid()}
    assert names_in(tmp_path) == [path.name]


# --- readers

TRAINER = """
import sys
from pathlib import Path
from molere_cli.runs.run_directory import RunDir
run = RunDir(Path(sys.argv[1]))
for number in range(1, 10**9):
    run.write_metrics([{"epoch": epoch} for epoch in range(number % 7 + 1)])
    with run.new_checkpoint() as folder:
        for name in ("classifier.safetensors", "state.safetensors", "state.json"):
            (folder / name).write_text(f'{{"number": {number}}}')
    if number == 1:
        print("begun", flush=True)
"""


def test_a_checkpoint_that_moves_while_one_looks_is_not_taken_for_the_one_before(tmp_path, monkeypatch):
    """The reader looks at the first place before the new one is there, at the second after it has gone."""
    run = RunDir(tmp_path)
    for name in ("checkpoint.new", "checkpoint.old"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "state.json").write_text(name)
    is_complete = checkpoint_exchange._is_complete

    def moving(checkpoint: Path) -> bool:
        if checkpoint.name == "checkpoint.new" and checkpoint.exists():
            checkpoint.rename(tmp_path / "checkpoint")
        return is_complete(checkpoint)

    monkeypatch.setattr(checkpoint_exchange, "_is_complete", moving)
    assert run.checkpoint() == tmp_path / "checkpoint"
    assert (run.checkpoint() / "state.json").read_text() == "checkpoint.new"


def test_readers_beside_a_trainer_see_one_epoch_at_a_time_and_leave_it_alone(tmp_path):
    def read(folder: Path) -> tuple[str, ...]:
        names = ("classifier.safetensors", "state.safetensors", "state.json")
        return tuple((folder / name).read_text() for name in names)

    run, seen = RunDir(tmp_path), []
    command = [sys.executable, "-c", TRAINER, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as trainer:
        assert trainer.stdout.readline() == "begun\n"
        while len(set(seen)) < 100:
            assert trainer.poll() is None
            assert run.checkpoint() is not None
            contents = run.read_checkpoint(read, note=print)
            assert contents is not None
            assert len(set(contents)) == 1
            seen.append(json.loads(contents[0])["number"])
            epochs = [record["epoch"] for record in run.metrics()]
            assert epochs == list(range(len(epochs)))
        trainer.kill()
    assert seen == sorted(seen)


# --- kills


def start(line: list[str], cwd: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "molere_cli", *line]
    return subprocess.Popen(command, cwd=cwd, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def stop_after(process: subprocess.Popen[str], run: RunDir, *, epochs: int) -> None:
    """Stop the trainer, alive and with its lock, once it has so many epochs."""
    deadline = time.monotonic() + 120
    while not (run.path / "metrics.jsonl").exists() or len(run.metrics()) < epochs:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(signal.SIGSTOP)


@pytest.mark.long
@pytest.mark.slow
def test_a_run_is_resumed_to_the_same_bits_once_its_trainer_is_dead(tmp_path):
    long = ["train", "--method", "erm", *QUICK, "--epochs", "16", "--out"]
    whole, other = start([*long, "whole"], tmp_path), start([*long, "cut"], tmp_path)
    run = RunDir(tmp_path / "cut")
    stop_after(other, run, epochs=3)
    refused = start(["train", "--resume", "cut"], tmp_path)
    _, sentence = refused.communicate(timeout=120)
    assert refused.returncode == 1
    assert sentence.startswith(f"molere: process {other.pid} on {socket.gethostname()} (since ")
    assert sentence.endswith(" is training cut; wait until it has finished, or stop it\n")
    assert not run.is_done
    other.kill()
    other.communicate()
    resumed = start(["train", "--resume", "cut"], tmp_path)
    assert (resumed.communicate(timeout=300)[0], resumed.returncode) == ("cut\n", 0)
    whole.communicate(timeout=300)
    assert is_whole(run.path, epochs=16)
    assert without_times(run.metrics()) == without_times(RunDir(tmp_path / "whole").metrics())
    for name in ("checkpoint/classifier.safetensors", "pool.parquet", "predictions.parquet"):
        assert (run.path / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name


@pytest.mark.long
@pytest.mark.slow
def test_who_waits_for_an_erm_run_takes_over_from_a_trainer_that_dies(tmp_path):
    line = ["train", *QUICK, "--epochs", "16", "--split"]
    first = start([*line, "hard"], tmp_path)
    erm = RunDir(tmp_path / "runs" / "digits-erm-s0")
    stop_after(first, erm, epochs=3)
    second = start([*line, "easy"], tmp_path)
    for text in second.stderr:
        if text.startswith("note: waiting for"):
            break
    assert text.startswith(f"note: waiting for process {first.pid} on ")
    first.kill()
    first.communicate()
    _, errors = second.communicate(timeout=300)
    assert second.returncode == 0, errors
    assert "note: hardness scores are to come from runs/digits-erm-s0, which is unfinished" in errors
    assert names_in(tmp_path / "runs") == ["digits-erm-s0", "digits-lrw-s0"]
    assert all(is_whole(path, epochs=16) for path in (tmp_path / "runs").iterdir())


@pytest.mark.long
@pytest.mark.slow
def test_commands_of_a_shell_started_together_are_as_many_runs(tmp_path):
    line = shlex.join([sys.executable, "-m", "molere_cli", *ERM])
    subprocess.run(f"{line} & {line} & {line} & wait", shell=True, cwd=tmp_path, check=True, timeout=300)  # noqa: S602 - ours
    assert names_in(tmp_path / "runs") == ["digits-erm-s0", "digits-erm-s0-2", "digits-erm-s0-3"]
    assert all(is_whole(path) for path in (tmp_path / "runs").iterdir())
