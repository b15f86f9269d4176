"""Command lines that start at the very same moment, in processes that have imported everything beforehand.

For tests, and for `benchmarks/concurrency.py`.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import multiprocessing.synchronize
import os
import sys
import traceback
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

import pyarrow.parquet as pq

from molere_cli.registry.registry import load_plugins
from molere_cli.runs.run_directory import RunDir
from molere_cli.training.trained_model import load_for_evaluation


class Done(NamedTuple):
    """What became of a command line."""

    code: int
    out: str
    err: str


class Together:
    """As many processes as there are to be command lines at once; they stay for the next ones.

    with Together(2) as processes:
        first, second = processes.run([["train", "--method", "erm"]] * 2, cwd=folder)
    """

    def __init__(self, size: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._barrier = context.Barrier(size)
        self._ends = []
        self._processes = []
        for _ in range(size):
            ours, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(theirs, self._barrier), daemon=True)
            process.start()
            self._ends.append(ours)
            self._processes.append(process)

    def __enter__(self) -> Together:
        for end in self._ends:
            end.recv()
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            process.kill()
            process.join()

    def run(self, lines: Sequence[Sequence[str]], *, cwd: Path) -> list[Done]:
        """The command lines, each in a process of its own that stands in `cwd`."""
        for end, line in zip(self._ends, lines, strict=True):
            end.send((list(line), str(cwd)))
        return [end.recv() for end in self._ends]


def is_whole(path: Path, *, epochs: int = 1) -> bool:
    """Whether a run on 100 examples of digits is all there: every file and no other, a record an epoch, a
    checkpoint of the last."""
    run = RunDir(path)
    names = {each.name for each in path.iterdir()} - {"split.parquet", "checkpoint.old"}
    state = json.loads((path / "checkpoint" / "state.json").read_text())
    return (
        names
        == {
            *("config.json", "environment.json", "metrics.jsonl", "checkpoint"),
            *("pool.parquet", "predictions.parquet", "thumbnails.parquet", "DONE"),
        }
        and [record["epoch"] for record in run.metrics()] == list(range(epochs))
        and state["next_epoch"] == epochs
        and pq.read_table(run.pool_path).num_rows == 100
        and load_for_evaluation(run, load_plugins())[1].name == "digits"
    )


def _serve(end: Connection, barrier: multiprocessing.synchronize.Barrier) -> None:
    from molere_cli.commands import app as entry

    importlib.import_module("molere_cli.api.run_schedule")
    load_plugins()
    end.send("ready")
    while True:
        line, folder = end.recv()
        os.chdir(folder)
        sys.argv = ["molere", *line]
        out, err, code = io.StringIO(), io.StringIO(), 0
        barrier.wait()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                entry.main()
            except SystemExit as left:
                code = int(left.code or 0)
            except BaseException:
                traceback.print_exc()
                code = 99
        end.send(Done(code, out.getvalue(), err.getvalue()))
