"""What a command would train, and how long that would take, from a few timed steps; nothing is written."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from molere_cli.api.run_schedule import Schedule
from molere_cli.config.plan import Plan
from molere_cli.data.feed import Feed, batches_in_order, make_feed
from molere_cli.data.source import LoadedDataset, load_dataset
from molere_cli.engine.classifier import Output
from molere_cli.engine.memory import PeakMemory
from molere_cli.hardness.hardness_scores import erm_plan
from molere_cli.registry.specs import Examples
from molere_cli.splits.quota import random_split
from molere_cli.training.build_engine import Engine, build_engine
from molere_cli.training.frozen_features import FrozenFeatures
from molere_cli.training.model_selection import check_selection

TIMED_STEPS = 3
"""At least so many, and as many as there are between two meta-updates."""


@dataclass(frozen=True, kw_only=True)
class CostEstimate:
    """What is known of the runs of one configuration before they are trained.

    num_steps: of the classifier, in a run. seconds: that a run takes, its evaluation included. peak_memory:
    in MiB, None where the system does not tell. before: what has to be trained first, unless it is there
    already, with its seconds.
    """

    label: str
    num_runs: int
    num_epochs: int
    num_steps: int
    seconds: float
    peak_memory: float | None
    before: dict[str, float]

    @property
    def seconds_in_all(self) -> float:
        """Of all runs and of what comes before them, each time."""
        return self.num_runs * (self.seconds + sum(self.before.values()))

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return {**vars(self), "seconds_in_all": self.seconds_in_all}


def estimates(schedule: Schedule) -> list[CostEstimate]:
    """One for each method of a schedule.

    Raises:
        ConfigError, DataError: what would keep a run from being trained.
    """
    found, data = [], dict[str, LoadedDataset]()
    for search in schedule.searches:
        key = search.config.data.model_dump_json()
        if key not in data:
            data[key] = load_dataset(search.config.data, schedule.registry)
        check_selection(search.config.selection, data[key])
        found.append(_estimate(search.jobs[0].plan, data[key], len(search.jobs)))
    return found


def _estimate(plan: Plan, data: LoadedDataset, num_runs: int) -> CostEstimate:
    seconds, num_steps, memory = _of_a_run(plan, data)
    before: dict[str, float] = {}
    if plan.needs_split and not plan.config.split.split_is_file:
        strategy, _argument = plan.registry.split(plan.config.split.split)
        if strategy.needs_score or strategy.needs_training:
            erm, _steps, _memory = _of_a_run(erm_plan(plan.config, plan.registry), data)
            if strategy.needs_score:
                before["ERM for scores"] = erm
            if strategy.needs_training:
                before["ERM on the halves of the pool"] = erm
    name = plan.config.split.split.partition(":")[0] if plan.needs_split else None
    return CostEstimate(
        label=plan.label(name),
        num_runs=num_runs,
        num_epochs=plan.config.classifier.epochs,
        num_steps=num_steps,
        seconds=seconds,
        peak_memory=memory,
        before=before,
    )


def _of_a_run(plan: Plan, data: LoadedDataset) -> tuple[float, int, float | None]:
    """Seconds, steps, and peak memory in MiB."""
    # Weights and splitter at work from the first step on, with a split of the right size.
    config = plan.config.updated(warmup_epochs=0) if plan.reweighter is not None else plan.config
    mask = None
    if plan.needs_split:
        mask = random_split(data.dataset.pool.labels, delta=config.split.delta, seed=0)
    engine = build_engine(replace(plan, config=config), data, mask, blank_features=True)
    memory = PeakMemory(plan.device)
    memory.start()
    epoch, steps_in_epoch = _epoch_seconds(engine)
    peak = memory.mebibytes()
    classifier, selection = plan.config.classifier, plan.config.selection
    sets = dict(data.test_sets())
    looks = {name: _pass_seconds(engine, examples) for name, examples in sets.items()}
    seconds = classifier.epochs * epoch + sum(looks.values()) + _feed_seconds(engine, engine.feed)
    if isinstance(features := engine.feed_settings.features, FrozenFeatures):
        # As if the cache had none of them.
        seconds += sum(
            _backbone_seconds(engine, features, each) for each in (data.dataset.pool, *sets.values())
        )
    if selection.needs_tuning:
        seconds += classifier.epochs * looks["tuning"]
    if plan.config.machine.eval_interval:
        seconds += sum(looks.values()) * ((classifier.epochs - 1) // plan.config.machine.eval_interval)
    return seconds, classifier.epochs * steps_in_epoch, peak


class _Enough(Exception):
    """Enough steps have been timed."""


def _epoch_seconds(engine: Engine) -> tuple[float, int]:
    """Seconds of an epoch, and its steps."""
    loop, config = engine.loop, engine.plan.config
    cycle = config.reweighting.reweighter_interval if engine.plan.reweighter is not None else 1
    warm, timed = max(2, cycle), cycle * math.ceil(TIMED_STEPS / cycle)
    ends: list[float] = []
    in_epoch = 0

    def on_step(step: int, num_steps: int, _loss: float) -> None:
        nonlocal in_epoch
        in_epoch = num_steps
        _wait(engine)
        ends.append(time.perf_counter())
        if num_steps > warm + timed and step == warm + timed:
            raise _Enough

    epochs = loop.epochs(on_step)
    try:
        next(epochs)
    except _Enough:
        step = (ends[-1] - ends[warm - 1]) / timed
        return in_epoch * step + _beginning_seconds(engine), in_epoch
    # Epochs so short that a whole one is timed; the first one warms up.
    if config.classifier.epochs == 1:
        return (ends[-1] - ends[0]) * in_epoch / max(1, in_epoch - 1), in_epoch
    return float(next(epochs)["time/seconds"]), in_epoch


def _beginning_seconds(engine: Engine) -> float:
    """What an epoch takes before its first step, on average over those between two splitter updates."""
    plan = engine.plan
    number = plan.config.splitter.splitter_interval if "splitter" in plan.method.uses else 1
    number = min(number, 10)
    since = time.perf_counter()
    for epoch in range(number):
        engine.loop.method.before_epoch(epoch)
    _wait(engine)
    return (time.perf_counter() - since) / number


def _pass_seconds(engine: Engine, examples: Examples) -> float:
    return _feed_seconds(engine, make_feed(examples, engine.feed_settings.plain()))


def _backbone_seconds(engine: Engine, features: FrozenFeatures, examples: Examples) -> float:
    return _feed_seconds(engine, features.feed(examples), engine.classifier.whole_pass)


def _feed_seconds(engine: Engine, feed: Feed, run: Callable[[Tensor], Output] | None = None) -> float:
    """Of a pass without gradients, by its second batch, or the only one."""
    batches, run = batches_in_order(feed), run or engine.classifier.predict
    ends = [time.perf_counter()]
    for batch in feed.evaluation(batches[:3]):
        run(batch.images)
        _wait(engine)
        ends.append(time.perf_counter())
    if len(batches) == 1:
        return ends[1] - ends[0]
    return (ends[-1] - ends[1]) / (len(ends) - 2) * len(batches)


def _wait(engine: Engine) -> None:
    if engine.plan.device.type == "cuda":
        torch.cuda.synchronize(engine.plan.device)
