"""Hardness scores of a pool: from an ERM run, found or trained, or out of fold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import torch
from torch import Tensor

from molere_cli.config.plan import make_plan
from molere_cli.config.run_config import RunConfig, completed
from molere_cli.config.sections import InPlay
from molere_cli.data.source import LoadedDataset
from molere_cli.engine.method import TrainingContext
from molere_cli.engine.predict import predict_feed
from molere_cli.errors import RunError, SplitError
from molere_cli.files import unique_path
from molere_cli.progress import Progress
from molere_cli.randomness import derived_seed
from molere_cli.registry.registry import Registry
from molere_cli.run_dir import RunDir, finished_runs
from molere_cli.tasks.build import build_engine, training_context
from molere_cli.tasks.train import train_run

OUT_OF_FOLD = "oof-margin"


def erm_context(config: RunConfig, registry: Registry, data: LoadedDataset) -> TrainingContext:
    return training_context(make_plan(erm_config(config), registry), data, None)


def erm_config(config: RunConfig) -> RunConfig:
    """The ERM run on the whole pool that shares all settings of `config` that ERM has."""
    return config.restricted(InPlay(split="optional"), method="erm", train_on="all", method_option={})


def erm_run(
    config: RunConfig, registry: Registry, data: LoadedDataset, *, runs: Path, progress: Progress
) -> RunDir:
    """A finished ERM run with these settings under `runs`: found, or trained."""
    plan = make_plan(erm_config(config), registry)
    for run in finished_runs(runs):
        same = _same_run(run, plan.settings, precision=plan.precision, fingerprint=data.fingerprint)
        if same and (config.split.score == OUT_OF_FOLD or has_score(run, config.split.score)):
            progress.note(f"taking hardness scores from {run.path}")
            return run
    return train_run(plan, data, None, unique_path(runs / plan.run_name), progress=progress)


def _same_run(run: RunDir, settings: Mapping[str, Any], *, precision: str, fingerprint: str) -> bool:
    try:
        environment = run.environment()
        same_numbers = (environment["precision"], environment["fingerprint"]) == (precision, fingerprint)
        return same_numbers and completed(run.config()) == settings
    except (RunError, KeyError):
        return False


def has_score(run: RunDir, name: str) -> bool:
    """Whether a finished run has recorded the score; older ones lack some."""
    return name in pq.read_schema(run.pool_path).names


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
    column = pq.read_table(run.pool_path, columns=[name])[name]
    if column.null_count:
        raise RunError(
            f"{run.path} has no {name} for {column.null_count} examples of the pool: it did not train on "
            "them, or was begun by a version of MOLERE that did not record it; train a new ERM run"
        )
    return torch.tensor(column.to_numpy(), dtype=torch.float64)


def out_of_fold_margins(
    config: RunConfig, registry: Registry, data: LoadedDataset, *, progress: Progress
) -> Tensor:
    """Margin of each pool example under an ERM classifier that never trained on it, float64 (N,).

    k folds, stratified by class; nothing is written.
    """
    from sklearn.model_selection import StratifiedKFold

    labels_N = data.dataset.pool.labels
    smallest = int(labels_N.bincount(minlength=data.num_classes).min())
    if smallest < config.split.folds:
        raise SplitError(
            f"oof-margin with {config.split.folds} folds needs as many examples of every class; "
            f"the smallest has {smallest}"
        )
    base = erm_config(config)
    folds = StratifiedKFold(
        config.split.folds, shuffle=True, random_state=derived_seed(config.machine.seed, "folds") % 2**32
    )
    margins_N = torch.full((len(labels_N),), float("nan"), dtype=torch.float64)
    for number, (_, held_out) in enumerate(folds.split(labels_N, labels_N)):
        in_fold_N = torch.zeros(len(labels_N), dtype=torch.bool)
        in_fold_N[torch.from_numpy(held_out)] = True
        plan = make_plan(base, registry)
        plan = replace(plan, config=plan.config.updated(train_on="train"))
        title = f"ERM, fold {number + 1} of {config.split.folds}"
        progress.run_started(title, seed=config.machine.seed, num_epochs=config.classifier.epochs, path=None)
        engine = build_engine(plan, data, in_fold_N)
        for metrics in engine.loop.epochs():
            progress.epoch_ended(metrics)
        progress.run_ended(None)
        margins_N[in_fold_N] = predict_feed(engine.classifier, engine.feed).margins.double()[in_fold_N]
    return margins_N
