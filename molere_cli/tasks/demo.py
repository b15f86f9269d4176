"""The whole story on the embedded dataset: ERM, LRW on three splits, and MOLERE, over several seeds."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from molere_cli.config.run_config import RunConfig

WORKERS = 2

# One digit in ten has the wrong colour; the test set has colours drawn at random.
STORY: dict[str, Any] = {
    "dataset": "colour-digits",
    "dataset_option": {"rho": "0.9"},
    "precision": "fp32",
    "device": "cpu",
    "threads": 1,
}
ROWS: tuple[dict[str, str], ...] = (
    {"method": "lrw", "split": "easy"},
    {"method": "lrw", "split": "random"},
    {"method": "lrw", "split": "hard"},
    {"method": "molere"},
)


def demo_commands(seeds: str) -> list[str]:
    """The command lines that do the same, one a row of the table."""
    common = "--dataset colour-digits --dataset-option rho=0.9 --precision fp32 --device cpu --threads 1"
    rows = [{"method": "erm"}, *ROWS]
    flags = [" ".join(f"--{key} {value}" for key, value in row.items()) for row in rows]
    return [f"molere train {common} {row} --seeds {seeds}" for row in flags]


def demo_runs(seeds: Sequence[int], *, runs: Path) -> Iterator[Path]:
    """Train every row for every seed under `runs`, in two processes of one thread each.

    Yields:
        Each run directory when it is done: first ERM's, which the splits are made from.
    """
    erm = [{**STORY, "method": "erm", "seed": seed} for seed in seeds]
    rest = [{**STORY, **row, "seed": seed} for seed in seeds for row in ROWS]
    # Fresh processes: a forked one would inherit torch's thread pool in an unusable state.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(WORKERS, os.cpu_count() or 1), mp_context=context) as pool:
        for settings in (erm, rest):
            futures = [pool.submit(_train, values, runs) for values in settings]
            for future in as_completed(futures):
                yield future.result()


def num_demo_runs(seeds: Sequence[int]) -> int:
    """How many runs `demo_runs` yields."""
    return len(seeds) * (1 + len(ROWS))


def _train(settings: dict[str, Any], runs: Path) -> Path:
    from molere_cli.progress import NoProgress
    from molere_cli.registry.registry import load_plugins
    from molere_cli.tasks.seeds import train_seeds

    config = RunConfig.of(**settings)
    # Named by its split too, so that the folder reads like the table.
    name = "-".join(str(settings[key]) for key in ("method", "split") if key in settings)
    path = runs / f"colour-digits-{name}-s{config.machine.seed}"
    (run,) = train_seeds(
        config, [config.machine.seed], load_plugins(), runs=runs, out=path, progress=NoProgress()
    )
    return run.path
