"""Making a split: an ERM run says how hard each example is, a strategy chooses.

Shapes: N examples of the pool.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import torch
from torch import Tensor

from molere_cli.building import build_engine, training_context
from molere_cli.config import SPLIT_SUFFIX, RunConfig, completed, flag_name, validate_config
from molere_cli.data.source import LoadedDataset, load_dataset, load_other_dataset
from molere_cli.engine.methods import TrainingContext
from molere_cli.environment import versions
from molere_cli.errors import ConfigError, RunError, SplitError
from molere_cli.evaluation import predict_feed
from molere_cli.plan import Plan, check_takes_other_validation, make_plan
from molere_cli.progress import Progress
from molere_cli.protocols import SplitRequest
from molere_cli.randomness import derived_generator, derived_seed
from molere_cli.registry import Registry
from molere_cli.run_dir import RunDir, finished_runs, unique_path
from molere_cli.splits.artefact import Split, SplitInfo, load_split, verify_split, write_split
from molere_cli.splits.scores import hardness
from molere_cli.training import check_fingerprint, dataset_slug, run_name, train_run

OUT_OF_FOLD = "oof-margin"
# What a strategy must need for a setting to have an effect.
SETTINGS_OF_A_SPLIT = {"delta": "delta", "score": "score", "folds": "score"}


@dataclass(frozen=True, eq=False)
class NewSplit:
    """A split that has just been written, with the configuration and the dataset it is of."""

    path: Path
    config: RunConfig
    split: Split
    data: LoadedDataset


def new_split_file(
    config: RunConfig,
    registry: Registry,
    *,
    erm: Path | None,
    out: Path | None,
    runs: Path,
    progress: Progress,
) -> NewSplit:
    """Make the split `config.split` and write it, by default under `splits/`.

    Args:
        erm: the ERM run to take scores, dataset and settings from; `config` then adds what was given of
            delta, score, folds and seed.

    Raises:
        ConfigError: a setting that `erm` has settled, or a score or delta for a strategy that needs none.
        RunError: `erm` is no ERM run on the whole pool; or `out` exists.
    """
    strategy, _argument = registry.split(config.split)
    without_effect = {"delta", "score"} - strategy.needs
    idle = sorted(
        {name for name in config.model_fields_set if SETTINGS_OF_A_SPLIT.get(name) in without_effect}
    )
    if idle:
        raise ConfigError(f"{flag_name(idle[0])} has no effect with --strategy {strategy.name}; leave it out")
    if out is not None and out.exists():
        raise RunError(f"{out} exists already; choose another --out")
    run = None if erm is None else RunDir(erm)
    if run is not None:
        config = config_of_erm_run(run, config)
    data = load_dataset(config, registry)
    split = make_split(config, registry, data, erm=run, runs=runs, progress=progress)
    what = f"{split.info.delta:g}" if split.info.val_dataset is None else dataset_slug(split.info.val_dataset)
    name = f"{dataset_slug(config.dataset)}-{strategy.name}-{what}{SPLIT_SUFFIX}"
    path = out or unique_path(Path("splits") / name)
    write_split(split, path)
    return NewSplit(path, config, split, data)


def config_of_erm_run(run: RunDir, given: RunConfig) -> RunConfig:
    """The configuration of an ERM run, with what was given of a split's own settings."""
    settings = validate_config(run.config(), source=str(run.path / "config.json"))
    if settings.method != "erm" or settings.train_on != "all":
        raise RunError(
            f"{run.path} is a run of method {settings.method!r}; give one of erm on the whole pool"
        )
    own = given.model_dump(include=given.model_fields_set)
    if settled := sorted(set(own) - {"split", "delta", "score", "folds", "seed"}):
        raise ConfigError(f"{flag_name(settled[0])} is settled by --erm {run.path}; leave it out")
    return settings.updated(**own)


def split_for(plan: Plan, data: LoadedDataset, *, runs: Path, progress: Progress) -> Split | None:
    """The split that a run needs: read from its file, or made on the way; None if it needs none.

    Args:
        runs: where ERM runs are looked for, and where a new one goes.
    """
    if not plan.needs_split:
        return None
    if plan.config.split_is_file:
        split = checked_split(Path(plan.config.split), data, progress=progress)
        if split.info.val_dataset is not None:
            check_takes_other_validation(plan.method, split.info.val_dataset)
        return split
    return make_split(plan.config, plan.registry, data, erm=None, runs=runs, progress=progress)


def checked_split(path: Path, data: LoadedDataset, *, progress: Progress) -> Split:
    """A split file, verified against the dataset; what is merely odd is noted."""
    split, notes = load_split(
        path,
        labels_N=data.dataset.pool.labels,
        indices_N=data.pool_indices,
        fingerprint=data.fingerprint,
        num_classes=data.num_classes,
    )
    for note in notes:
        progress.note(note)
    return split


def make_split(
    config: RunConfig,
    registry: Registry,
    data: LoadedDataset,
    *,
    erm: RunDir | None,
    runs: Path,
    progress: Progress,
) -> Split:
    """Rank the pool and let the strategy `config.split` choose.

    Args:
        erm: the run to take scores from; without one, a fitting run under `runs` is reused, or trained.

    Raises:
        SplitError: the strategy chose nothing, or everything of a class.
        RunError: `erm` is unfinished, or of other data.
    """
    strategy, argument = registry.split(config.split)
    score, aum = None, None
    if strategy.needs_score and config.score == OUT_OF_FOLD:
        score = out_of_fold_margins(config, registry, data, progress=progress)
    elif strategy.needs_score:
        erm = erm or erm_run(config, registry, data, runs=runs, progress=progress)
        check_fingerprint(erm, data)
        score = read_score(erm, config.score)
        aum = read_score(erm, "aum") if config.score == "forgetting" else None
    in_validation = strategy.choose(
        SplitRequest(
            labels=data.dataset.pool.labels,
            indices=data.pool_indices,
            clean_labels=data.dataset.pool.clean_labels,
            hardness=None if score is None else hardness(score, config.score, aum_N=aum),
            delta=config.delta,
            generator=derived_generator(config.seed, "split", strategy.name),
            argument=argument,
            training=_erm_context(config, registry, data) if strategy.needs_training else None,
            note=progress.note,
        )
    ).bool()
    other: LoadedDataset | None = None
    if strategy.argument_is_dataset and argument is not None:
        other = load_other_dataset(config, data, registry, argument, {})
        progress.note(_describe_other(other, data))
    info = SplitInfo(
        dataset=config.dataset,
        fingerprint=data.fingerprint,
        strategy=strategy.name,
        delta=config.delta if strategy.needs_delta else float(in_validation.double().mean()),
        seed=config.seed,
        score_name=config.score if strategy.needs_score else None,
        erm_run=str(erm.path) if erm is not None and score is not None else None,
        versions=versions(),
        argument=argument,
        val_dataset=None if other is None else other.name,
        val_fingerprint=None if other is None else other.fingerprint,
    )
    split = Split(
        labels=data.dataset.pool.labels,
        in_validation=in_validation,
        score=score,
        indices=data.pool_indices,
        info=info,
    )
    notes = verify_split(
        split,
        labels_N=data.dataset.pool.labels,
        indices_N=data.pool_indices,
        fingerprint=data.fingerprint,
        num_classes=data.num_classes,
        source=f"the split that {config.split!r} made",
    )
    for note in notes:
        progress.note(note)
    return split


def _describe_other(other: LoadedDataset, own: LoadedDataset) -> str:
    pool = other.dataset.pool
    absent_C = pool.labels.bincount(minlength=own.num_classes) == 0
    text = f"validation is the pool of {other.name}: {len(pool)} examples"
    if absent := [
        name for name, is_absent in zip(own.dataset.class_names, absent_C, strict=True) if is_absent
    ]:
        more = f" and {len(absent) - 5} more" if len(absent) > 5 else ""
        text += f", none of class {', '.join(absent[:5])}{more}"
    return text


def _erm_context(config: RunConfig, registry: Registry, data: LoadedDataset) -> TrainingContext:
    return training_context(make_plan(erm_config(config), registry), data, None)


def erm_config(config: RunConfig) -> RunConfig:
    """The ERM run on the whole pool that shares all settings of `config` that ERM has."""
    return config.restricted(split="optional", uses=(), method="erm", train_on="all", method_option={})


def erm_run(
    config: RunConfig, registry: Registry, data: LoadedDataset, *, runs: Path, progress: Progress
) -> RunDir:
    """A finished ERM run with these settings under `runs`: found, or trained."""
    plan = make_plan(erm_config(config), registry)
    for run in finished_runs(runs):
        same = _same_run(run, plan.settings, precision=plan.precision, fingerprint=data.fingerprint)
        if same and (config.score == OUT_OF_FOLD or has_score(run, config.score)):
            progress.note(f"taking hardness scores from {run.path}")
            return run
    return train_run(plan, data, None, unique_path(runs / run_name(plan.config)), progress=progress)


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
    if smallest < config.folds:
        raise SplitError(
            f"oof-margin with {config.folds} folds needs as many examples of every class; "
            f"the smallest has {smallest}"
        )
    base = erm_config(config)
    folds = StratifiedKFold(
        config.folds, shuffle=True, random_state=derived_seed(config.seed, "folds") % 2**32
    )
    margins_N = torch.full((len(labels_N),), float("nan"), dtype=torch.float64)
    for number, (_, held_out) in enumerate(folds.split(labels_N, labels_N)):
        in_fold_N = torch.zeros(len(labels_N), dtype=torch.bool)
        in_fold_N[torch.from_numpy(held_out)] = True
        plan = make_plan(base, registry)
        plan = replace(plan, config=plan.config.updated(train_on="train"))
        progress.run_started(f"ERM, fold {number + 1} of {config.folds}", config=plan.config, path=None)
        engine = build_engine(plan, data, in_fold_N)
        for metrics in engine.loop.epochs():
            progress.epoch_ended(metrics)
        progress.run_ended(None)
        margins_N[in_fold_N] = predict_feed(engine.classifier, engine.feed).margins.double()[in_fold_N]
    return margins_N
