"""The contract of a split strategy: a mask that follows its generator, in proportion, and within delta.

Shapes: N examples of a pool, C classes.
"""

from __future__ import annotations

import torch
from torch import Tensor

from molere_cli.config.plan import make_plan
from molere_cli.config.run_config import RunConfig
from molere_cli.data.source import load_dataset
from molere_cli.engine.method import TrainingContext
from molere_cli.engine.third_party import checked_tensor
from molere_cli.registry.registry import load_plugins
from molere_cli.registry.specs import SplitRequest, SplitSpec, TargetSet
from molere_cli.splits.quota import validation_size
from molere_cli.testing.contract import expect, seeded, under_test
from molere_cli.testing.tiny_data import TINY_DATASET, TINY_NET, tiny_registry
from molere_cli.training.build_engine import training_context

DELTA = 0.25


def check_split(split: SplitSpec | str, *, argument: str | None = None, stratified: bool = True) -> None:
    """Check what a strategy chooses of a pool of 64 examples in four classes.

    Args:
        split: its record, or the name of an installed one.
        argument: what follows the colon in `--split NAME:ARGUMENT`.
        stratified: whether a strategy that is given delta takes the same share of every class, but for one.

    Raises:
        BrokenContract, PluginError, SplitError: it breaks the contract, in one sentence that says how.
    """
    spec = under_test(load_plugins().splits.get(split) if isinstance(split, str) else split)
    context = _tiny_context()
    request = _request(spec, context, argument)
    given = {name: value.clone() for name, value in vars(request).items() if isinstance(value, Tensor)}
    chosen = _chosen(spec, request, seed=1)
    expect(
        all(torch.equal(value, getattr(request, name)) for name, value in given.items()),
        spec,
        "choose must leave labels and hardness of its request as they are",
    )
    again = _chosen(spec, _request(spec, context, argument), seed=2)
    expect(
        torch.equal(chosen.in_validation, again.in_validation),
        spec,
        "random choices must follow the request's generator alone, not the global random state",
    )
    _check_mask(spec, chosen.in_validation, request.labels, stratified=stratified)
    own = float(chosen.in_validation.double().mean())
    expect(
        chosen.represented_fraction is None or own <= chosen.represented_fraction <= 1,
        spec,
        f"the share that validation represents must lie between its own, {own:g}, and 1",
    )


def _tiny_context() -> TrainingContext:
    registry = tiny_registry()
    config = RunConfig.of(
        dataset=TINY_DATASET.name, backbone=TINY_NET.name, epochs=2, batch_size=16, device="cpu"
    )
    return training_context(make_plan(config, registry), load_dataset(config.data, registry), None)


def _request(spec: SplitSpec, context: TrainingContext, argument: str | None) -> SplitRequest:
    generator = torch.Generator().manual_seed(0)
    hardness_N = torch.rand(len(context.labels), generator=generator, dtype=torch.float64)
    return SplitRequest(
        labels=context.labels.clone(),
        indices=torch.arange(len(context.labels)),
        clean_labels=context.clean_labels,
        hardness=hardness_N if spec.needs_score else None,
        hardness_by=(lambda _score: hardness_N) if spec.needs_score else None,
        delta=DELTA,
        generator=torch.Generator().manual_seed(1),
        argument=argument,
        training=context if spec.needs_training else None,
    )


def _chosen(spec: SplitSpec, request: SplitRequest, *, seed: int) -> TargetSet:
    with seeded(seed):
        found = spec.choose(request)
    selection = found if isinstance(found, TargetSet) else TargetSet(in_validation=found)
    shape = tuple(request.labels.shape)
    checked_tensor(spec, selection.in_validation, "a mask", hook="choose", shape=shape, dtype=torch.bool)
    return selection


def _check_mask(spec: SplitSpec, in_validation_N: Tensor, labels_N: Tensor, *, stratified: bool) -> None:
    if spec.argument_is_dataset:
        expect(
            not in_validation_N.any(), spec, "with validation in another dataset, the pool must stay whole"
        )
        return
    expect(bool(in_validation_N.any()), spec, "validation must not be empty")
    counts_C = labels_N.bincount()
    chosen_C = labels_N[in_validation_N].bincount(minlength=len(counts_C))
    expect(bool((chosen_C < counts_C).all()), spec, "every class must keep an example that trains")
    if not spec.needs_delta:
        return
    most = validation_size(len(labels_N), delta=DELTA)
    number = int(in_validation_N.sum())
    expect(number <= most, spec, f"no more than delta must go to validation: {number}, not {most} at most")
    if stratified:
        off_C = (chosen_C - DELTA * counts_C).abs()
        expect(bool((off_C <= 1).all()), spec, "every class must give the same share, but for one example")
