"""Making a split: an ERM run says how hard each example is, a strategy chooses.

Shapes: N examples of the pool.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from molere_cli.config.plan import Plan, check_takes_other_validation
from molere_cli.config.run_config import RunConfig
from molere_cli.data.source import LoadedDataset, load_other_dataset
from molere_cli.engine.third_party import checked_tensor
from molere_cli.foundation.progress import Progress
from molere_cli.foundation.randomness import derived_generator
from molere_cli.hardness.hardness_scores import (
    OUT_OF_FOLD,
    erm_context,
    erm_plan,
    erm_run,
    out_of_fold,
    read_score,
)
from molere_cli.registry.registry import Registry
from molere_cli.registry.specs import SplitRequest, SplitSpec, TargetSet
from molere_cli.runs.run_directory import RunDir
from molere_cli.splits.score_direction import hardness
from molere_cli.splits.split_file import HeldOut, Split, SplitInfo, verify_split
from molere_cli.training.process_group import joined_ranks
from molere_cli.training.run_environment import versions
from molere_cli.training.run_identity import check_fingerprint, checked_split
from molere_cli.training.told_to_all import same_split

ScoreOf = Callable[[str], Tensor]
"""The score of that name of every example of the pool, float64 (N,)."""


MadeSplits = dict[str, Split]
"""The splits that a command has made so far, by what they were made from."""


def split_for(
    plan: Plan, data: LoadedDataset, *, runs: Path, made: MadeSplits | None = None, progress: Progress
) -> Split | None:
    """The split that a run needs: read from its file, or made on the way; None if it needs none.

    Args:
        runs: where ERM runs are looked for, and where a new one goes.
        made: splits that are taken from there instead of being made again, and put there once made, so that
            methods that need the same one share it.
    """
    if not plan.needs_split:
        return None
    if made is None:
        return _split_for(plan, data, runs=runs, progress=progress)
    split_settings = plan.config.split.model_dump(mode="json", exclude={"train_on"})
    identity = json.dumps(
        [erm_plan(plan.config, plan.registry).settings, plan.precision, split_settings, data.fingerprint],
        sort_keys=True,
    )
    if identity not in made:
        made[identity] = _split_for(plan, data, runs=runs, progress=progress)
    return made[identity]


def _split_for(plan: Plan, data: LoadedDataset, *, runs: Path, progress: Progress) -> Split:
    if plan.config.split.split_is_file:
        path = Path(plan.config.split.split)
        split = same_split(joined_ranks(), lambda: checked_split(path, data, note=progress.note))
        if split.info.val_dataset is not None:
            check_takes_other_validation(plan.method, split.info.val_dataset)
        return split
    return make_split(plan.config, plan.registry, data, erm=None, runs=runs, progress=progress)


def make_split(
    config: RunConfig,
    registry: Registry,
    data: LoadedDataset,
    *,
    erm: RunDir | None,
    score_of: ScoreOf | None = None,
    runs: Path,
    progress: Progress,
) -> Split:
    """Rank the pool and let the strategy `config.split.split` choose.

    Args:
        erm: the run to take scores from; without one, a fitting run under `runs` is reused, or trained.
        score_of: where scores come from, if not from a run; `erm` is then what they are said to be of.

    Raises:
        SplitError: the strategy chose nothing, or everything of a class.
        RunError: `erm` is unfinished, or of other data.
    """
    strategy, argument = registry.split(config.split.split)
    score: Tensor | None = None
    held_out: HeldOut | None = None
    score_name = strategy.score or config.split.score
    if strategy.needs_score and score_name == OUT_OF_FOLD:
        score, held_out = out_of_fold(config, registry, data, progress=progress)
    elif strategy.needs_score:
        if score_of is None:
            erm = erm or erm_run(config, registry, data, score=score_name, runs=runs, progress=progress)
            joined_ranks().decided(partial(check_fingerprint, erm, data))
            score_of = partial(_score_of, erm)
        score = score_of(score_name)
    request = SplitRequest(
        labels=data.dataset.pool.labels,
        indices=data.pool_indices,
        clean_labels=data.dataset.pool.clean_labels,
        hardness=None if score is None else _hardness(score, score_name, score_of),
        hardness_by=None if score_of is None else partial(_hardness_by, score_of),
        delta=config.split.delta,
        generator=derived_generator(config.machine.seed, "split", strategy.name),
        argument=argument,
        training=erm_context(config, registry, data) if strategy.needs_training else None,
        note=progress.note,
    )
    found = strategy.choose(request)
    selection = found if isinstance(found, TargetSet) else TargetSet(in_validation=found)
    in_validation = checked_tensor(
        strategy,
        selection.in_validation,
        "a mask",
        hook="choose",
        shape=tuple(request.labels.shape),
        dtype=torch.bool,
    )
    if selection.score is not None and score_of is not None:
        score_name, score = selection.score, score_of(selection.score)
    other: LoadedDataset | None = None
    if strategy.argument_is_dataset and argument is not None:
        other = joined_ranks().after_first(
            partial(load_other_dataset, config.data, data, registry, argument, {}, purpose="validate")
        )
        progress.note(_describe_other(other, data))
    info = SplitInfo(
        dataset=config.data.dataset,
        fingerprint=data.fingerprint,
        strategy=strategy.name,
        delta=config.split.delta if strategy.needs_delta else float(in_validation.double().mean()),
        seed=config.machine.seed,
        score_name=score_name if strategy.needs_score else None,
        erm_run=str(erm.path) if erm is not None and score is not None else None,
        versions=versions(),
        argument=argument,
        val_dataset=None if other is None else other.name,
        val_fingerprint=None if other is None else other.fingerprint,
        represented_fraction=_represented_fraction(selection, strategy) if other is None else None,
        keeps_base_weight=selection.keeps_base_weight,
        finding=selection.finding,
    )
    if selection.finding is not None:
        progress.note(selection.finding)
    made = Split(
        labels=data.dataset.pool.labels,
        in_validation=in_validation,
        score=score,
        indices=data.pool_indices,
        info=info,
        held_out=held_out,
    )
    # On every rank the first one's, whatever the others' arithmetic.
    split = same_split(joined_ranks(), lambda: made)
    notes = verify_split(
        split,
        labels_N=data.dataset.pool.labels,
        indices_N=data.pool_indices,
        fingerprint=data.fingerprint,
        num_classes=data.num_classes,
        source=f"the split that {config.split.split!r} made",
    )
    for note in notes:
        progress.note(note)
    return split


def _score_of(erm: RunDir, name: str) -> Tensor:
    return joined_ranks().decided(partial(read_score, erm, name))


def _hardness(score_N: Tensor, name: str, score_of: ScoreOf | None) -> Tensor:
    aum_N = score_of("aum") if name == "forgetting" and score_of is not None else None
    return hardness(score_N, name, aum_N=aum_N)


def _hardness_by(score_of: ScoreOf, name: str) -> Tensor:
    return _hardness(score_of(name), name, score_of)


def _represented_fraction(selection: TargetSet, strategy: SplitSpec) -> float:
    """What validation represents of the pool; at least what it is."""
    own = float(selection.in_validation.double().mean())
    if selection.represented_fraction is None:
        return own
    if not own <= selection.represented_fraction <= 1:
        raise strategy.error(
            f"gave share {selection.represented_fraction:g}, which must lie between {own:g} and 1"
        )
    return selection.represented_fraction


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
