"""Several learning rates, of which the tuning set chooses one for all seeds."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

from molere_cli.api.run_seeds import train_seeds
from molere_cli.config.run_config import RunConfig
from molere_cli.data.source import LoadedDataset
from molere_cli.foundation.errors import ConfigError, RunError
from molere_cli.foundation.files import claim_folder, claim_name, hidden_beside, writing
from molere_cli.foundation.progress import Progress
from molere_cli.hardness.make_split import MadeSplits
from molere_cli.registry.registry import Registry
from molere_cli.runs.find_runs import run_paths
from molere_cli.runs.run_directory import RunDir
from molere_cli.training.model_selection import TUNING

CANDIDATES = ".grid"
"""The folder, among the runs, of the runs of every rate: `*` leaves it out in a shell."""


def parse_rates(text: str) -> list[float]:
    """`0.01,0.03` as numbers, in the order given.

    Raises:
        ConfigError: one is no number, or stands there twice.
    """
    try:
        rates = [float(part) for part in text.split(",")]
    except ValueError as error:
        raise ConfigError(f"--lr {text!r} is no number, nor several with commas between") from error
    if len(set(rates)) < len(rates):
        raise ConfigError(f"--lr {text} names a rate twice")
    return rates


def train_grid(
    config: RunConfig,
    rates: Sequence[float],
    seeds: Sequence[int],
    registry: Registry,
    *,
    runs: Path,
    resume_unfinished: bool = False,
    made: MadeSplits | None = None,
    data: LoadedDataset | None = None,
    progress: Progress,
) -> Iterator[RunDir]:
    """Train every seed with every rate, and yield those of the best one, copied to `runs`; all of them stay
    in its folder `.grid`.

    The best has the highest mean over seeds of what `--select-by` says on the tuning set; of equals, the
    first. A rate with which a seed cannot be trained is passed over.

    Raises:
        ConfigError: the configuration does not select by the tuning set.
        RunError: with no rate can every seed be trained.
    """
    if config.selection.select != "best":
        raise ConfigError(
            "several learning rates need --select best, which chooses among them by the tuning set"
        )
    by, found = config.selection.select_by, dict[float, list[RunDir]]()
    failures: list[str] = []
    for rate in rates:
        failed: list[str] = []
        candidates = train_seeds(
            config.updated(lr=rate),
            seeds,
            registry,
            runs=runs / CANDIDATES,
            resume_unfinished=resume_unfinished,
            failures=failed,
            made=made,
            data=data,
            progress=progress,
        )
        finished = list(candidates)
        if failed:
            progress.note(f"--lr {rate:g} is passed over: not every seed could be trained with it")
            failures += failed
        else:
            found[rate] = finished
    if not found:
        raise RunError(f"no learning rate could be trained with every seed: {'; '.join(failures)}")
    tuned = {
        rate: [run.metrics()[-1][f"{TUNING}/{by}"] for run in finished] for rate, finished in found.items()
    }
    best = max(tuned, key=lambda rate: fmean(tuned[rate]))
    means = ", ".join(f"{rate:g}: {100 * fmean(values):.2f}" for rate, values in tuned.items())
    progress.note(f"--lr {best:g} it is, by {by.replace('_', ' ')} on the tuning set in percent ({means})")
    grid = {"lr": {f"{rate:g}": values for rate, values in tuned.items()}, "by": by, "chosen": best}
    for run in found[best]:
        yield _copied(run, runs, grid)


def _copied(run: RunDir, runs: Path, grid: Mapping[str, Any]) -> RunDir:
    """The run as one of `runs`, under a name of its own unless it is there already."""
    same = [RunDir(path) for path in run_paths(runs) if _is_copy(path, run.path)]
    if same:
        return same[0]
    hidden = hidden_beside(runs / run.path.name)
    try:
        with writing(runs / run.path.name):
            shutil.copytree(run.path, hidden, ignore=shutil.ignore_patterns("lock"))
            RunDir(hidden).write_grid(grid)
            stem = runs / run.path.name
            return RunDir(claim_name(stem, partial(claim_folder, hidden), numbered=True))
    finally:
        shutil.rmtree(hidden, ignore_errors=True)


def _is_copy(path: Path, original: Path) -> bool:
    # It has the time at which the run was finished, and the digests of what it wrote.
    done = path / "DONE"
    return done.is_file() and done.read_bytes() == (original / "DONE").read_bytes()
