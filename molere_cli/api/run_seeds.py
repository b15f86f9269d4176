"""Several seeds in turn; each with the split it needs, taken up where it stopped."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path

import torch

from molere_cli.config.paths import with_absolute_paths
from molere_cli.config.plan import Plan, make_plan
from molere_cli.config.run_config import RunConfig
from molere_cli.config.sections import MAX_SEED
from molere_cli.data.source import LoadedDataset, load_dataset
from molere_cli.foundation.errors import ConfigError, MolereError, RunError, SplitError, shown
from molere_cli.foundation.locks import Note
from molere_cli.foundation.progress import Progress
from molere_cli.hardness.hardness_scores import announced
from molere_cli.hardness.make_split import MadeSplits, split_for
from molere_cli.registry.registry import Registry
from molere_cli.runs.find_runs import run_paths
from molere_cli.runs.run_directory import RunDir, clear_beginning, taken
from molere_cli.splits.split_file import read_split
from molere_cli.training.model_selection import check_selection
from molere_cli.training.run_identity import (
    MACHINE_SETTINGS,
    check_fingerprint,
    check_test_sets,
    has_settings,
)
from molere_cli.training.train_run import resume_run, train_run

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
    resume_unfinished: bool = False,
    failures: list[str] | None = None,
    data: LoadedDataset | None = None,
    made: MadeSplits | None = None,
    progress: Progress,
) -> Iterator[RunDir]:
    """Train one run a seed under `runs` (or the only one into `out`), and yield each when it is done.

    Args:
        resume_unfinished: whether a run that has these settings already, and is there or under `runs`, is
            taken if it is finished, and gone on with if not.
        failures: where to put what went wrong with a seed, so that the others are trained; else it is raised.
        data: the dataset, if it has been loaded already; it must be what `config` names.
        made: splits made for other methods, to share (`split_for`).

    Raises:
        ConfigError: `out` with several seeds.
        RunError: `out` exists already.
    """
    if out is not None and len(seeds) > 1:
        raise ConfigError("--out names one run, but there are several seeds; leave it out")
    if out is not None and os.path.lexists(out) and not resume_unfinished:
        _make_room(out, note=progress.note)
    config = with_absolute_paths(config, registry)
    plans = [make_plan(config.updated(seed=seed), registry) for seed in seeds]
    data = data or load_dataset(config.data, registry)
    check_selection(config.selection, data)
    for plan in plans:
        try:
            with announced(plan, data, runs=runs if out is None else out.parent, note=progress.note):
                run = _train_seed(
                    plan, data, runs=runs, out=out, resume=resume_unfinished, made=made, progress=progress
                )
        except MolereError as error:
            if failures is None:
                raise
            progress.run_ended(None)
            failures.append(f"{plan.config.method.method} with seed {plan.config.machine.seed}: {error}")
            progress.note(f"{failures[-1]}; going on with the others")
        else:
            yield run


def _train_seed(
    plan: Plan,
    data: LoadedDataset,
    *,
    runs: Path,
    out: Path | None,
    resume: bool,
    made: MadeSplits | None,
    progress: Progress,
) -> RunDir:
    paths = run_paths(runs) if out is None else [out]
    tell = progress.note if resume else _say_nothing
    fitting = [run for run in map(RunDir, paths) if _is_run_of(run, plan, data, note=tell)]
    if resume and (run := _finished(fitting, plan, data, progress=progress)) is not None:
        return run
    like: RunDir | None = None
    if out is None:
        # A run that has no checkpoint is as good as none.
        idle = [run for run in fitting if not run.is_being_trained()]
        like = next((run for run in idle if not clear_beginning(run.path, note=progress.note)), None)
    elif os.path.lexists(out):
        _make_room(out, note=progress.note)
    split = split_for(plan, data, runs=runs, made=made, progress=progress)
    path, numbered = out or runs / plan.run_name, out is None
    return train_run(plan, data, split, path, numbered=numbered, like=like, progress=progress)


def _finished(
    fitting: Sequence[RunDir], plan: Plan, data: LoadedDataset, *, progress: Progress
) -> RunDir | None:
    """The newest finished one of the runs, or the one that has come furthest, once it is finished; None if
    there is none."""
    if done := [run for run in fitting if run.is_done]:
        newest = max(done, key=lambda run: (run.path / "DONE").stat().st_mtime)
        newest.is_being_trained()  # what is left of its lock is removed
        progress.note(f"{newest.path} is finished with these settings")
        return newest
    if not fitting:
        return None
    furthest = max(fitting, key=lambda run: (run.checkpoint() is not None, run.num_records()))
    progress.note(f"going on with {furthest.path}")
    machine = plan.config.machine
    return resume_run(
        furthest.path,
        plan.registry,
        data=data,
        checkpoint_every=machine.checkpoint_every if "checkpoint_every" in plan.config.given else None,
        progress=progress,
    )


def _say_nothing(_message: str) -> None:
    pass


def _make_room(out: Path, *, note: Note) -> None:
    """Remove a beginning of a run at `out`.

    Raises:
        RunError: it is more than that, or somebody trains it.
    """
    if not clear_beginning(out, note=note):
        raise taken(out)


def _is_run_of(run: RunDir, plan: Plan, data: LoadedDataset, *, note: Note) -> bool:
    """Whether the run was begun with these settings, those of the machine aside, and with these data; `note`
    is told of one that has the settings and other data, or cannot be read."""
    settings = plan.for_pool(len(data.dataset.pool)).settings
    try:
        if not has_settings(run, settings, but=MACHINE_SETTINGS) or not _has_split_of(run, plan):
            return False
        check_fingerprint(run, data)
        check_test_sets(run, data)
    except (RunError, ConfigError, SplitError) as error:
        note(f"{error}; it is left as it is")
        return False
    return True


def _has_split_of(run: RunDir, plan: Plan) -> bool:
    """Whether the run has the split of the plan's file; a strategy gives the same one again."""
    if not plan.needs_split or not plan.config.split.split_is_file:
        return True
    theirs, ours = read_split(run.split_path), read_split(Path(plan.config.split.split))
    return torch.equal(theirs.in_validation, ours.in_validation)
