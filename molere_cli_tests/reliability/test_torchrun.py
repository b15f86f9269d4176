"""`torchrun -m molere_cli train`: one of everything is written, all processes end together, and a killed one
costs nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file

from molere_cli.runs.run_directory import RunDir
from molere_cli_tests.training import assert_same_tensors, without_times

pytestmark = pytest.mark.slow

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}
PROGRAM = """
import json
import os
import sys
import time
from pathlib import Path
from molere_cli.commands.app import main
from molere_cli.foundation.errors import DataError, PluginError, WriteError

RANK, RESTART = os.environ.get("RANK", "0"), os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
FOLDER = Path.cwd()
if RANK != "0":
    elsewhere = FOLDER.parent / f"{FOLDER.name}-elsewhere-{RANK}"
    elsewhere.mkdir(exist_ok=True)
    os.chdir(elsewhere)


def fails(owner, name, rank, error, *, at=1):
    own, calls = getattr(owner, name), [0]

    def failing(*arguments, **named):
        calls[0] += 1
        if RANK == str(rank) and calls[0] == at:
            (FOLDER.parent / "failed").write_text(str(time.time()))
            raise error
        return own(*arguments, **named)

    setattr(owner, name, failing)


case = os.environ.get("CASE")
if case == "a method":
    from molere_cli.methods.lrw import LRW
    fails(LRW, "loss", 1, PluginError("plugin 'third' failed in loss"), at=2)
elif case == "data":
    from molere_cli.training import process_group
    fails(process_group, "load_dataset", 1, DataError("a file cannot be read"))
elif case == "a step":
    from molere_cli.training.checkpoint_writer import Checkpoints
    fails(Checkpoints, "step_taken", 0, WriteError("no room is left"), at=2)
elif case == "a bug":
    from molere_cli.methods.lrw import LRW
    fails(LRW, "loss", 1, KeyError("a bug"), at=2)
try:
    main()
except BaseException as end:
    code = end.code if isinstance(end, SystemExit) else 1
    ended = {"code": code, "sentence": getattr(end, "sentence", None), "time": time.time()}
    (FOLDER.parent / f"ended-{RANK}.json").write_text(json.dumps(ended))
    raise
"""
"""`python -m molere_cli` whose processes have a folder each, and one of which may fail."""
SMALL = "--dataset digits --limit-train 200 --epochs 3 --device cpu --precision fp32"


def command(
    line: str, *, processes: int, restarts: int = 0, program: tuple[str, ...] = ("-m", "molere_cli")
) -> list[str]:
    alone = [*program, *line.split()]
    if processes == 1:
        return [sys.executable, *alone]
    flags = ["--standalone", "--nproc-per-node", str(processes), "--max-restarts", str(restarts)]
    return [sys.executable, "-m", "torch.distributed.run", *flags, *alone]


def call(line: str, folder: Path, *, processes: int, **more) -> subprocess.CompletedProcess[str]:
    folder.mkdir(exist_ok=True)
    return subprocess.run(
        command(line, processes=processes, **more),
        cwd=folder,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.fixture
def program(tmp_path) -> tuple[str, ...]:
    path = tmp_path / "program.py"
    path.write_text(PROGRAM)
    return (str(path),)


@pytest.mark.long
@pytest.mark.parametrize(
    ("flags", "num_runs"),
    [
        # Scores are those of the ERM runs.
        ("--method erm,lrw --split hard --seeds 0-1", 4),
        # With fits for the split beside the ERM run, and looks by the selected weights and by the average.
        ("--method lrw --seeds 0 --select best --ema 0.9", 2),
        # The best rate's run is a copy.
        ("--method erm --lr 0.01,0.1 --select best", 1),
    ],
    ids=["hard", "auto", "rates"],
)
def test_two_processes_leave_what_one_leaves(flags, num_runs, tmp_path, program):
    line = f"train {flags} {SMALL}"
    done = {
        number: call(line, tmp_path / str(number), processes=number, program=program) for number in (1, 2)
    }
    for each in done.values():
        assert each.returncode == 0, each.stderr
    assert done[2].stdout == done[1].stdout
    assert list((tmp_path / "2-elsewhere-1").iterdir()) == []
    names = {path.name for path in (tmp_path / "1" / "runs").iterdir()}
    assert names == {path.name for path in (tmp_path / "2" / "runs").iterdir()}
    assert len(names - {".grid"}) == num_runs
    for name in names - {".grid"}:
        one, two = (RunDir(tmp_path / str(processes) / "runs" / name) for processes in (1, 2))
        assert two.is_done and without_places(one) == without_places(two)
        for table in ("pool.parquet", "predictions.parquet"):
            rows = [pq.read_table(run.path / table) for run in (one, two)]
            assert rows[0].schema == rows[1].schema and rows[0]["index"] == rows[1]["index"]
            losses = [torch.tensor(part["loss"].to_numpy()) for part in rows]
            torch.testing.assert_close(*losses, rtol=1e-3, atol=1e-4)
        if "lrw" in name:
            splits = [pq.read_table(run.path / "split.parquet")["in_validation"] for run in (one, two)]
            assert splits[0] == splits[1]


def without_places(run: RunDir) -> dict:
    return {name: value for name, value in run.config().items() if name != "data_dir"}


@pytest.mark.long
def test_a_mistake_is_told_once_and_ends_all(tmp_path):
    for line, sentence in {
        f"train --method mwn {SMALL}": "molere: --method mwn trains in one process; ",
        # Both come upon it alike, and so go on with the next run.
        f"train --method erm --seeds 0-1 {SMALL} --lr 1e30": "molere: 2 of 2 runs failed: ",
    }.items():
        done = call(line, tmp_path / "mistake", processes=2)
        assert done.returncode != 0
        told = told_in(done.stderr)
        assert len(told) == 1 and told[0].startswith(sentence), done.stderr


def told_in(stderr: str) -> list[str]:
    return [said for said in stderr.splitlines() if said.startswith("molere:")]


@pytest.mark.parametrize(
    ("case", "sentence"),
    [
        pytest.param("a method", "plugin 'third' failed in loss", marks=pytest.mark.long),
        pytest.param("data", "a file cannot be read", marks=pytest.mark.long),
        ("a step", "no room is left"),
        pytest.param("a bug", "process 1 has failed: KeyError: 'a bug'", marks=pytest.mark.long),
    ],
)
def test_what_ends_one_process_ends_all_by_the_same_sentence(case, sentence, tmp_path, program, monkeypatch):
    monkeypatch.setitem(ENVIRONMENT, "CASE", case)
    line = f"train --method lrw --split random {SMALL} --quiet"
    done = call(line, tmp_path / "one-fails", processes=2, program=program)
    assert done.returncode == 1
    assert told_in(done.stderr) == [f"molere: {sentence}"], done.stderr
    failed = float((tmp_path / "failed").read_text())
    for rank in (0, 1):
        ended = json.loads((tmp_path / f"ended-{rank}.json").read_text())
        assert (ended["code"], ended["time"] - failed < 10) == (1, True)
        assert ended["sentence"] == sentence or (case == "a bug" and rank == 1)
    runs = tmp_path / "one-fails" / "runs"
    assert not runs.exists() or not list(runs.iterdir())


EPOCHS = 24
DISTURBED = (
    f"train --method lrw --split random --reweighter instance {SMALL} --epochs {EPOCHS} --quiet --out run "
    "--checkpoint-every 3steps"
)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> RunDir:
    folder = tmp_path_factory.mktemp("undisturbed")
    done = call(DISTURBED, folder, processes=2)
    assert done.returncode == 0, done.stderr
    return RunDir(folder / "run")


@pytest.mark.long
def test_a_signal_stops_all_and_the_rest_is_as_undisturbed(undisturbed, tmp_path, program):
    """torchrun passes it on to every process."""
    folder = tmp_path / "stopped"
    folder.mkdir()
    agent = subprocess.Popen(
        command(DISTURBED, processes=2, program=program),
        cwd=folder,
        env=ENVIRONMENT,
        stderr=subprocess.PIPE,
        text=True,
    )
    run = RunDir(folder / "run")
    await_epochs(agent, run, 3)
    signalled = time.time()
    agent.send_signal(signal.SIGTERM)
    said = agent.communicate(timeout=60)[1]
    assert told_in(said) == [
        "molere: stopped by SIGTERM and saved: go on with `molere train --resume run`; the same command with "
        "--resume-unfinished goes on with all of it"
    ]
    for rank in (0, 1):
        ended = json.loads((tmp_path / f"ended-{rank}.json").read_text())
        assert ended["code"] == 128 + signal.SIGTERM and ended["time"] - signalled < 10
    assert 3 <= run.num_records() < EPOCHS
    rest = call("train --resume run --quiet", folder, processes=2, program=program)
    assert rest.returncode == 0, rest.stderr
    check_same(run, undisturbed)
    assert list((tmp_path / "stopped-elsewhere-1").iterdir()) == []


def check_same(run: RunDir, undisturbed: RunDir) -> None:
    assert run.is_done and without_times(run.metrics()) == without_times(undisturbed.metrics())
    assert_same_tensors(load_file(run.classifier_path), load_file(undisturbed.classifier_path))


@pytest.mark.long
def test_killed_processes_cost_nothing(undisturbed, tmp_path):
    folder = tmp_path / "killed"
    folder.mkdir()
    agent = subprocess.Popen(
        command(DISTURBED, processes=2, restarts=2),
        cwd=folder,
        env=ENVIRONMENT,
        stderr=subprocess.PIPE,
        text=True,
    )
    run = RunDir(folder / "run")
    try:
        for rank, epochs in ((1, 2), (0, 8)):
            kill_after(agent, run, rank=rank, epochs=epochs)
        said = agent.communicate(timeout=300)[1]
    finally:
        agent.terminate()
    assert agent.returncode == 0, said
    check_same(run, undisturbed)
    assert {path.name for path in folder.iterdir()} == {"run"}


def kill_after(agent: subprocess.Popen, run: RunDir, *, rank: int, epochs: int) -> None:
    """Kill a rank once so many epochs are written."""
    await_epochs(agent, run, epochs)
    os.kill(ranks_of(agent)[rank], signal.SIGKILL)


def await_epochs(agent: subprocess.Popen, run: RunDir, number: int) -> None:
    until = time.monotonic() + 120
    while not run.path.is_dir() or run.num_records() < number:
        assert agent.poll() is None and time.monotonic() < until
        time.sleep(0.02)


def ranks_of(agent: subprocess.Popen) -> dict[int, int]:
    """The process of each rank, by the environment that the agent has given it."""
    children = Path(f"/proc/{agent.pid}/task/{agent.pid}/children").read_text().split()
    found = {}
    for child in children:
        environment = dict(
            entry.partition("=")[::2]
            for entry in Path(f"/proc/{child}/environ").read_text().split("\0")
            if entry
        )
        if "RANK" in environment:
            found[int(environment["RANK"])] = int(child)
    return found
