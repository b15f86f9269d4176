"""`torchrun -m molere_cli train`: one of everything is written, and a killed process costs nothing."""

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


@pytest.mark.parametrize(
    ("flags", "num_runs", "looks"),
    [
        # Scores are those of the ERM runs.
        ("--method erm,lrw --split hard --seeds 0-1", 4, [["test", "tuning"], None]),
        # With fits for the split beside the ERM run, and looks by the selected weights and by the average.
        (
            "--method lrw --seeds 0 --select best --ema 0.9",
            2,
            [*[["tuning"]] * 3, *[["test", "tuning"]] * 2, None],
        ),
    ],
    ids=["hard", "auto"],
)
def test_two_processes_leave_what_one_leaves(flags, num_runs, looks, tmp_path):
    line = f"train {flags} {SMALL}"
    (tmp_path / "listening.py").write_text(LISTENING)
    done = {
        1: call(line, tmp_path / "1", processes=1),
        2: call(line, tmp_path / "2", processes=2, program=(str(tmp_path / "listening.py"),)),
    }
    for each in done.values():
        assert each.returncode == 0, each.stderr
    assert done[2].stdout == done[1].stdout
    num_fits = 0 if "hard" in flags else 2
    check_shared(tmp_path / "2" / "heard-by-1.jsonl", fits=num_fits, runs=num_runs, epochs=3, looks=looks)
    names = {path.name for path in (tmp_path / "1" / "runs").iterdir()}
    assert names == {path.name for path in (tmp_path / "2" / "runs").iterdir()}
    assert len(names) == num_runs
    for name in names:
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


def check_shared(heard: Path, *, fits: int, runs: int, epochs: int, looks: list[list[str] | None]) -> None:
    """Nothing was left to the first process alone: fits on halves of the pool, epochs, and each run's looks
    at its sets, of which None is the pool."""
    said = [json.loads(line) for line in heard.read_text().splitlines()]
    begun = [what["run"] for what in said if isinstance(what, dict) and what.get("run")]
    assert sum("fit" in run for run in begun) == fits and len(begun) == fits + runs
    assert said.count("epoch") == epochs * (fits + runs) and said.count("end") == fits + runs
    assert [what["tests"] for what in said if isinstance(what, dict) and "tests" in what] == looks * runs


def without_places(run: RunDir) -> dict:
    return {name: value for name, value in run.config().items() if name != "data_dir"}


def test_a_mistake_is_told_once_and_ends_all(tmp_path):
    for line, sentence in {
        f"train --method mwn {SMALL}": "molere: --method mwn trains in one process; ",
        f"train --method erm {SMALL} --lr 1e30": "molere: the ",
    }.items():
        done = call(line, tmp_path / "mistake", processes=2)
        assert done.returncode != 0
        told = [said for said in done.stderr.splitlines() if said.startswith("molere:")]
        assert len(told) == 1 and told[0].startswith(sentence), done.stderr


def test_killed_processes_cost_nothing(tmp_path):
    line = f"train --method lrw --split random --reweighter instance {SMALL} --epochs 40 --quiet --out run"
    line += " --checkpoint-every 3steps"
    whole = call(line, tmp_path / "whole", processes=2)
    assert whole.returncode == 0, whole.stderr
    folder = tmp_path / "killed"
    folder.mkdir()
    agent = subprocess.Popen(
        command(line, processes=2, restarts=2),
        cwd=folder,
        env=ENVIRONMENT,
        stderr=subprocess.PIPE,
        text=True,
    )
    run = RunDir(folder / "run")
    try:
        for rank, epochs in ((1, 2), (0, 12)):
            kill_after(agent, run, rank=rank, epochs=epochs)
        said = agent.communicate(timeout=300)[1]
    finally:
        agent.terminate()
    assert agent.returncode == 0, said
    undisturbed = RunDir(tmp_path / "whole" / "run")
    assert run.is_done and without_times(run.metrics()) == without_times(undisturbed.metrics())
    assert_same_tensors(load_file(run.classifier_path), load_file(undisturbed.classifier_path))
    assert {path.name for path in folder.iterdir()} == {"run"}


def kill_after(agent: subprocess.Popen, run: RunDir, *, rank: int, epochs: int) -> None:
    """Kill a rank once so many epochs are written."""
    until = time.monotonic() + 120
    while not run.path.is_dir() or run.num_records() < epochs:
        assert agent.poll() is None and time.monotonic() < until
        time.sleep(0.02)
    os.kill(ranks_of(agent)[rank], signal.SIGKILL)


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
