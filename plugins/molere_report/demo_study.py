"""The whole story on the embedded dataset: ERM, LRW on three splits, and MOLERE, over several seeds."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from molere_cli.commands import keep_freed_memory

WORKERS = 2

# One digit in ten has the wrong colour; the test set has colours drawn at random.
MACHINE: dict[str, Any] = {"precision": "fp32", "device": "cpu", "threads": 1}
Row = dict[str, str]
ERM: Row = {"method": "erm"}
# By job: those that ask the same of the pool find out once.
JOBS: tuple[tuple[Row, ...], ...] = (
    ({"method": "lrw", "split": "random"},),
    ({"method": "lrw", "split": "hard"},),
    ({"method": "lrw", "split": "auto"}, {"method": "molere", "split": "auto"}),
)
ROWS: tuple[Row, ...] = (ERM, *(row for job in JOBS for row in job))


def demo_commands(seeds: str, *, epochs: int | None = None) -> list[str]:
    """The command lines that do the same, one a row of the table."""
    common = "--dataset colour-digits --dataset-option rho=0.9 --precision fp32 --device cpu --threads 1"
    flags = [" ".join(f"--{key} {value}" for key, value in row.items()) for row in ROWS]
    end = f"--seeds {seeds}" if epochs is None else f"--epochs {epochs} --seeds {seeds}"
    return [f"molere train {common} {row} {end}" for row in flags]


def demo_runs(seeds: Sequence[int], *, runs: Path, epochs: int | None = None) -> Iterator[Path]:
    """Train every row for every seed under `runs`, in two processes of one thread each.

    Args:
        epochs: of every run, in place of the default.

    Yields:
        Each run directory when it is done: first ERM's, which the splits are made from.
    """
    erm = [(seed, (ERM,)) for seed in seeds]
    rest = [(seed, job) for seed in seeds for job in JOBS]
    # Fresh processes: a forked one would inherit torch's thread pool in an unusable state.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(WORKERS, os.cpu_count() or 1), mp_context=context) as pool:
        for jobs in (erm, rest):
            futures = [pool.submit(_train, rows, seed, runs, epochs) for seed, rows in jobs]
            for future in as_completed(futures):
                yield from future.result()


def num_demo_runs(seeds: Sequence[int]) -> int:
    """How many runs `demo_runs` yields."""
    return len(seeds) * len(ROWS)


def _train(rows: Sequence[Row], seed: int, runs: Path, epochs: int | None) -> list[Path]:
    from molere_cli import dataset, train

    keep_freed_memory()
    data = dataset("colour-digits", dataset_option={"rho": "0.9"})
    methods = [row["method"] for row in rows]
    split = rows[0].get("split")
    # Of jobs that have a method alike, named by the split too, so that the folder reads like the table.
    out = runs / f"colour-digits-{methods[0]}-{split}-s{seed}" if split and len(rows) == 1 else None
    # Methods of one call share what they ask of the pool.
    settings = MACHINE if epochs is None else {**MACHINE, "epochs": epochs}
    found = train(data, methods=methods, split=split, seeds=seed, runs=runs, out=out, **settings)
    return [run.path for run in found]
