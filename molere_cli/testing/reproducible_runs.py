"""Runs on tiny data: the same twice, and the same when stopped and gone on with, to the bit."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import Tensor

from molere_cli.config.plan import make_plan
from molere_cli.config.run_config import RunConfig
from molere_cli.data.source import load_dataset
from molere_cli.engine.checkpoint import load_state, load_trained, save_state
from molere_cli.registry.references import Spec
from molere_cli.registry.registry import Registry
from molere_cli.splits.quota import random_split
from molere_cli.testing.contract import copied, expect, same_tensors
from molere_cli.training.build_engine import Engine, build_engine

NUM_EPOCHS, STOPPED_IN_EPOCH, STOPPED_AT_STEP = 3, 1, 2

Trained = tuple[list[dict[str, float]], dict[str, Tensor]]
"""The metrics of each epoch, without times, and the classifier's tensors."""
OnStep = Callable[[int, int, float], None]


class _Stop(Exception):
    """The checkpoint is written."""


def tiny_engine(config: RunConfig, registry: Registry) -> Engine:
    """The engine of a run, with a random validation set where it needs one."""
    plan = make_plan(config, registry)
    data = load_dataset(config.data, registry)
    labels_N = data.dataset.pool.labels
    in_validation_N = random_split(labels_N, delta=0.25, seed=0) if plan.needs_split else None
    return build_engine(plan, data, in_validation_N)


def check_runs(spec: Spec, config: RunConfig, registry: Registry) -> None:
    """Train several times under one configuration, whole and in two parts.

    Raises:
        BrokenContract: two runs differ.
    """
    whole = _trained(tiny_engine(config, registry))
    expect(
        _same(whole, _trained(tiny_engine(config, registry))),
        spec,
        "two runs with one seed must be the same to the bit: chance comes from torch's global generator "
        "within a step, or from generators derived from the seed",
    )
    expect(
        _same(whole, _trained_in_two(config, registry, within=False)),
        spec,
        "a run that goes on between epochs must be the uninterrupted one to the bit: what the method or the "
        "reweighter remembers must be in its state_dict, and come back by load_state_dict",
    )
    if tiny_engine(config, registry).loop.method.resumes_within_epoch:
        expect(
            _same(whole, _trained_in_two(config, registry, within=True)),
            spec,
            "with resumes_within_epoch a run that goes on after any step must be the uninterrupted one to "
            "the bit: state_dict must be whole then, and resume_epoch must give the same positions",
        )


def _trained(engine: Engine, on_step: OnStep | None = None) -> Trained:
    records = [_without_times(record) for record in engine.loop.epochs(on_step)]
    return records, copied(engine.classifier.module.state_dict())


def _trained_in_two(config: RunConfig, registry: Registry, *, within: bool) -> Trained:
    first, second = tiny_engine(config, registry), tiny_engine(config, registry)
    with tempfile.TemporaryDirectory() as folder:
        records = _train_a_part(first, Path(folder), within=within)
        load_trained(second.classifier.module, Path(folder))
        second.loop.load_state_dict(load_state(Path(folder)))
    more, tensors = _trained(second)
    return records + more, tensors


def _train_a_part(engine: Engine, folder: Path, *, within: bool) -> list[dict[str, float]]:
    """The metrics of the epochs up to a checkpoint in the folder."""
    records: list[dict[str, float]] = []

    def stop(step: int, _num_steps: int, _loss: float) -> None:
        # Saved here, since the random state that a resume needs is that of this place in the epoch.
        if within and (len(records), step) == (STOPPED_IN_EPOCH, STOPPED_AT_STEP):
            save_state(engine.loop.state_dict(), engine.classifier.module, folder)
            raise _Stop

    try:
        for record in engine.loop.epochs(stop):
            records.append(_without_times(record))
            if not within and len(records) == STOPPED_IN_EPOCH:
                save_state(engine.loop.state_dict(), engine.classifier.module, folder)
                raise _Stop
    except _Stop:
        return records
    raise AssertionError("an epoch has fewer steps than it should have")


def _without_times(record: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in record.items() if not name.startswith(("time/", "memory/"))}


def _same(one: Trained, other: Trained) -> bool:
    # By their text, in which nan is like nan.
    return repr(one[0]) == repr(other[0]) and same_tensors(one[1], other[1])
