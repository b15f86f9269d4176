"""Several methods in turn, each for several seeds, with one learning rate or the best of several."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from molere_cli.api.rate_search import train_grid
from molere_cli.api.run_seeds import train_seeds
from molere_cli.config.run_config import RunConfig
from molere_cli.data.source import LoadedDataset
from molere_cli.foundation.errors import ConfigError, RunError
from molere_cli.foundation.progress import Progress
from molere_cli.hardness.make_split import MadeSplits
from molere_cli.registry.registry import Registry
from molere_cli.runs.run_directory import RunDir


@dataclass(frozen=True)
class Outcome:
    """The runs that are finished, and what went wrong with the others, a sentence each."""

    finished: list[RunDir]
    failures: list[str]

    def check(self) -> None:
        """Raise RunError if any failed, naming all."""
        if not self.failures:
            return
        failed, number = len(self.failures), len(self.failures) + len(self.finished)
        raise RunError(f"{failed} of {number} runs failed: {'; '.join(self.failures)}")


def train_methods(
    configs: Sequence[RunConfig],
    seeds: Sequence[int] | None,
    registry: Registry,
    *,
    runs: Path,
    out: Path | None = None,
    resume_unfinished: bool = False,
    rates: Sequence[float] = (),
    data: LoadedDataset | None = None,
    progress: Progress,
) -> Outcome:
    """Train every configuration for every seed (default: its own); with several, one that fails is noted, and
    the others are trained.

    Args:
        data: the dataset of all of them, if it has been loaded already.
        rates: learning rates, of which the tuning set chooses one for each configuration (`train_grid`).

    Raises:
        ConfigError: `out` with several.
        MolereError: what keeps all of a configuration from being trained; or a single run has failed.
    """
    if out is not None and (len(configs) > 1 or rates):
        several = "learning rates" if rates else "methods"
        raise ConfigError(f"--out names one run, but there are several {several}; leave it out")
    outcome, made = Outcome([], []), MadeSplits()
    common: dict[str, Any] = {
        "runs": runs,
        "resume_unfinished": resume_unfinished,
        "made": made,
        "data": data,
    }
    several_runs = len(configs) * len(seeds or [0]) > 1
    for config in configs:
        own_seeds = seeds or [config.machine.seed]
        if rates:
            trained = train_grid(config, rates, own_seeds, registry, **common, progress=progress)
        else:
            failures = outcome.failures if several_runs else None
            trained = train_seeds(
                config, own_seeds, registry, **common, out=out, failures=failures, progress=progress
            )
        outcome.finished.extend(trained)
    return outcome
