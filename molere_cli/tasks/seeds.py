"""Several runs in turn: one configuration, many seeds; each with the split it needs."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path

from molere_cli.config.paths import with_absolute_paths
from molere_cli.config.plan import make_plan
from molere_cli.config.run_config import RunConfig
from molere_cli.config.sections import MAX_SEED
from molere_cli.data.source import LoadedDataset, load_dataset
from molere_cli.errors import ConfigError, shown
from molere_cli.progress import Progress
from molere_cli.registry.registry import Registry
from molere_cli.run_dir import RunDir, taken
from molere_cli.tasks.scores import announced
from molere_cli.tasks.split import MadeSplits, split_for
from molere_cli.tasks.train import train_run

MAX_SEEDS = 10_000
"""Of one command: as many runs in turn."""


def parse_seeds(text: str) -> list[int]:
    """`0-4` or `0,2,7-9` as a list of seeds, in the order given.

    Raises:
        ConfigError: it is not of that form, names a seed twice, one beyond `MAX_SEED`, or more than
            `MAX_SEEDS`.
    """
    try:
        ranges = [_seed_range(part) for part in text.split(",")]
    except ValueError as error:
        raise ConfigError(f"seeds {shown(text)} are not of the form 0-4 or 0,2,7") from error
    # Of ranges no list is made before it is known to be short; `len` of a huge range would not fit.
    if sum(max(0, part.stop - part.start) for part in ranges) > MAX_SEEDS:
        raise ConfigError(f"seeds {shown(text)} are more than {MAX_SEEDS:,}; give fewer in one command")
    if any(part.stop > MAX_SEED + 1 for part in ranges):
        raise ConfigError(f"seeds {shown(text)} go beyond {MAX_SEED}, the largest that there is")
    seeds = list(chain.from_iterable(ranges))
    if not seeds or len(set(seeds)) < len(seeds):
        raise ConfigError(f"seeds {shown(text)} name {'none' if not seeds else 'one twice'}")
    return seeds


def _seed_range(text: str) -> range:
    first, dash, last = text.partition("-")
    return range(int(first), int(last if dash else first) + 1)


def train_seeds(
    config: RunConfig,
    seeds: Sequence[int],
    registry: Registry,
    *,
    runs: Path,
    out: Path | None = None,
    data: LoadedDataset | None = None,
    made: MadeSplits | None = None,
    progress: Progress,
) -> Iterator[RunDir]:
    """Train one run a seed under `runs` (or the only one into `out`), and yield each when it is done.

    Args:
        data: the dataset, if it has been loaded already; it must be what `config` names.
        made: splits made for other methods, to share (`split_for`).

    Raises:
        ConfigError: `out` with several seeds.
        RunError: `out` exists already.
    """
    if out is not None and len(seeds) > 1:
        raise ConfigError("--out names one run, but there are several seeds; leave it out")
    if out is not None and os.path.lexists(out):
        raise taken(out)
    config = with_absolute_paths(config, registry)
    plans = [make_plan(config.updated(seed=seed), registry) for seed in seeds]
    data = data or load_dataset(config.data, registry)
    for plan in plans:
        split = split_for(plan, data, runs=runs, made=made, progress=progress)
        path, numbered = out or runs / plan.run_name, out is None
        with announced(plan, data, runs=path.parent, note=progress.note):
            run = train_run(plan, data, split, path, numbered=numbered, progress=progress)
        yield run
