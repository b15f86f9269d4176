"""Hardness scores of a pool: from an ERM run, found or trained, or out of fold."""

from __future__ import annotations

import functools
import os
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from itertools import chain
from pathlib import Path

import torch
from torch import Tensor

from molere_cli.config.plan import Plan, make_plan
from molere_cli.config.run_config import RunConfig
from molere_cli.config.sections import InPlay
from molere_cli.data.feed import Feed
from molere_cli.data.source import LoadedDataset
from molere_cli.engine.classifier import Classifier
from molere_cli.engine.method import AuxiliaryFit, TrainingContext, positions_of
from molere_cli.engine.prediction import predict_feed
from molere_cli.foundation.errors import ConfigError, RunError, SplitError
from molere_cli.foundation.files import digest_of_values, same_fingerprint
from molere_cli.foundation.locks import Note, locked, take_left_behind
from molere_cli.foundation.progress import Progress
from molere_cli.foundation.randomness import derived_seed
from molere_cli.hardness.auxiliary_fits import fit_context, fitted
from molere_cli.registry.entries import PluginWarning
from molere_cli.registry.registry import Registry
from molere_cli.runs.find_runs import CANDIDATES, finished_runs, places_of, unfinished_runs
from molere_cli.runs.run_directory import RunDir
from molere_cli.runs.run_tables import RunTable
from molere_cli.splits.split_file import HeldOut
from molere_cli.training.process_group import joined_ranks
from molere_cli.training.resume_run import resume_run
from molere_cli.training.run_identity import as_planned, has_settings
from molere_cli.training.train_run import train_run

OUT_OF_FOLD = "oof-margin"


def erm_context(config: RunConfig, registry: Registry, data: LoadedDataset) -> TrainingContext:
    return fit_context(erm_plan(config, registry), data)


def erm_config(config: RunConfig) -> RunConfig:
    """The ERM run on the whole pool that shares all settings of `config` that ERM has."""
    return config.restricted(InPlay(split="optional"), method="erm", train_on="all", method_option={})


def erm_plan(config: RunConfig, registry: Registry) -> Plan:
    """The plan of `erm_config`; silent on who else offers an `erm`, since nobody has typed that name."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PluginWarning)
        return make_plan(erm_config(config), registry)


def erm_run(
    config: RunConfig, registry: Registry, data: LoadedDataset, *, score: str, runs: Path, progress: Progress
) -> RunDir:
    """A finished ERM run with these settings that has recorded the score: found (`places_of`), waited for,
    gone on with, or trained under `runs`.

    Of several processes that need it, one trains it, or the next one if that dies.
    """
    plan, ranks = erm_plan(config, registry), joined_ranks()

    tell = functools.cache(progress.note)

    def look() -> str | None:
        finished = chain.from_iterable(map(finished_runs, places_of(runs)))
        fitting = (run for run in finished if _is_run_of(run, plan, data, score, note=tell))
        if (run := next(fitting, None)) is None:
            return None
        progress.note(f"taking hardness scores from {run.path}")
        return str(run.path)

    def look_before_training() -> str | None:
        # One who was killed as it had finished has left its lock there.
        if (path := look()) and (lock := take_left_behind(_lock_path(plan, data, runs=runs))) is not None:
            lock.release()
        return path

    if path := ranks.decided(look_before_training):
        return RunDir(Path(path))
    with ranks.first_holds(lambda: _lock_of(plan, data, runs=runs, note=progress.note, wait=True)):
        if path := ranks.decided(look):
            return RunDir(Path(path))
        return _gone_on_with(plan, data, runs=runs, progress=progress) or train_run(
            plan, data, None, runs / plan.run_name, numbered=True, progress=progress
        )


def _gone_on_with(plan: Plan, data: LoadedDataset, *, runs: Path, progress: Progress) -> RunDir | None:
    """The first unfinished run as planned that can be finished, once it is."""
    fitting = (
        str(run.path)
        for run in chain.from_iterable(map(unfinished_runs, places_of(runs)))
        if _is_run_of(run, plan, data, None, note=progress.note)
    )
    while (path := joined_ranks().decided(lambda: next(fitting, None))) is not None:
        progress.note(f"hardness scores are to come from {path}, which is unfinished")
        try:
            return resume_run(Path(path), plan.registry, data=data, wait=True, progress=progress)
        except RunError as error:
            progress.note(f"{error}; going on without it")
    return None


@contextmanager
def announced(plan: Plan, data: LoadedDataset, *, runs: Path, note: Note) -> Iterator[None]:
    """While the planned run trains: let those who need it for hardness scores know, if it is such a run."""
    with ExitStack() as stack:
        if plan.settings == erm_plan(plan.config, plan.registry).settings:
            # Somebody else may train one like it for scores; this one is wanted for itself.
            with suppress(RunError):
                stack.enter_context(_lock_of(plan, data, runs=runs, note=note))
        yield


@contextmanager
def _lock_of(
    plan: Plan, data: LoadedDataset, *, runs: Path, note: Note, wait: bool = False
) -> Iterator[None]:
    path = _lock_path(plan, data, runs=runs)
    doing, was_there = "is training the ERM run that hardness scores come from", os.path.exists(runs)
    try:
        with locked(path, doing=doing, note=note, wait=wait):
            yield
    finally:
        if not was_there:
            with suppress(OSError):  # a run has come of it
                runs.rmdir()


def _lock_path(plan: Plan, data: LoadedDataset, *, runs: Path) -> Path:
    identity = digest_of_values([as_planned(plan.settings), plan.precision, data.fingerprint])
    # One for a folder and its candidates, since each looks into the other.
    runs = runs.parent if runs.name == CANDIDATES else runs
    return runs / f".erm-{identity[:16]}.lock"


def _is_run_of(run: RunDir, plan: Plan, data: LoadedDataset, score: str | None, *, note: Note) -> bool:
    """Whether a run is the planned one and has recorded the score, if any is asked for; `note` is told of
    one that cannot be read."""
    try:
        environment = run.environment()
        return (
            environment["precision"] == plan.precision
            and same_fingerprint(environment["fingerprint"], data.fingerprint)
            and has_settings(run, plan.settings)
            and (score is None or has_score(run, score))
        )
    except (RunError, ConfigError) as error:
        note(f"{error}; looking for hardness scores elsewhere")
        return False


def has_score(run: RunDir, name: str) -> bool:
    """Whether a finished run has recorded the score; older ones lack some.

    Raises:
        RunError: its table is missing or damaged.
    """
    return _column(name) in RunTable.pool(run).columns()


def _column(score: str) -> str:
    return score.replace("-", "_")


def read_score(run: RunDir, name: str) -> Tensor:
    """The score of every pool example from a finished run, float64 (N,).

    Raises:
        RunError: the run is unfinished, did not train on the whole pool, or is of a version that did not
            record this score.
    """
    if not run.is_done:
        raise RunError(
            f"{run.path} is not finished, so it has no scores; run `molere train --resume {run.path}`"
        )
    if not has_score(run, name):
        raise RunError(
            f"{run.path} was trained by a version of MOLERE that did not record {name}; train a new ERM run, "
            "or choose another --score"
        )
    column = RunTable.pool(run).read([_column(name)])[_column(name)]
    if column.null_count:
        raise RunError(
            f"{run.path} has no {name} for {column.null_count} examples of the pool: it did not train on "
            "them, or was begun by a version of MOLERE that did not record it; train a new ERM run"
        )
    return torch.tensor(column.to_numpy(), dtype=torch.float64)


def out_of_fold(
    config: RunConfig, registry: Registry, data: LoadedDataset, *, progress: Progress
) -> tuple[Tensor, HeldOut]:
    """Margin of each pool example under an ERM classifier that never trained on it, float64 (N,), and what
    else that says of it. Nothing is written."""
    size = len(data.dataset.pool)
    margins_N = torch.full((size,), float("nan"), dtype=torch.float64)
    held_out = HeldOut(torch.zeros(size, dtype=torch.int64), torch.zeros(size), torch.zeros(size))
    for in_fold_N, classifier, feed in folds(config, registry, data, progress=progress):
        found = predict_feed(classifier, feed)
        margins_N[in_fold_N] = found.margin.double()[in_fold_N]
        of_fold = (found.predicted, found.probability, found.label_probability)
        for column, values in zip(held_out.columns, of_fold, strict=True):
            column[in_fold_N] = values[in_fold_N]
    return margins_N, held_out


def folds(
    config: RunConfig, registry: Registry, data: LoadedDataset, *, progress: Progress
) -> Iterator[tuple[Tensor, Classifier, Feed]]:
    """Of each of k folds, stratified by class, which examples are in it, bool (N,), an ERM classifier that
    was trained on the others, and the whole pool.

    Raises:
        SplitError: a class has fewer examples than there are folds.
    """
    from sklearn.model_selection import StratifiedKFold

    labels_N = data.dataset.pool.labels
    smallest = int(labels_N.bincount(minlength=data.num_classes).min())
    if smallest < config.split.folds:
        raise SplitError(
            f"oof-margin with {config.split.folds} folds needs as many examples of every class; "
            f"the smallest has {smallest}"
        )
    context = erm_context(config, registry, data)
    parts = StratifiedKFold(
        config.split.folds, shuffle=True, random_state=derived_seed(config.machine.seed, "folds") % 2**32
    )
    for number, (_, held_out) in enumerate(parts.split(labels_N, labels_N)):
        in_fold_N = torch.zeros(len(labels_N), dtype=torch.bool)
        in_fold_N[torch.from_numpy(held_out)] = True
        title = f"ERM, fold {number + 1} of {config.split.folds}"
        fit = AuxiliaryFit(positions_of(~in_fold_N))
        yield in_fold_N, fitted(context, fit, title=title, progress=progress), context.feed
