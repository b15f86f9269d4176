"""What MOLERE's splitter finds: labels planted wrong."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from molere_cli import Dataset, DatasetSpec, Examples, hookimpl
from molere_cli.config.plan import make_plan
from molere_cli.config.run_config import RunConfig
from molere_cli.data.source import load_dataset
from molere_cli.foundation.progress import NoProgress
from molere_cli.hardness.make_split import split_for
from molere_cli.training.build_engine import build_engine, engine_on_split
from molere_cli_tests.training import INSTANCE, engine_for, tiny_config

PLANTED = 0.08


class PlantedPlugin:
    @hookimpl
    def register_datasets(self, register):
        register(DatasetSpec(name="planted", description="digits with wrong labels.", load=planted_digits))


def planted_digits(request) -> Dataset:
    """digits; 8% of each class relabelled to the next class, as group 1."""
    from molere_sklearn.digits import digits

    plain = digits(request)
    labels = plain.pool.labels.clone()
    wrong = torch.zeros(len(labels), dtype=torch.long)
    for label in range(10):
        members = (plain.pool.labels == label).nonzero().squeeze(1)
        chosen = members[: round(PLANTED * len(members))]
        labels[chosen], wrong[chosen] = (label + 1) % 10, 1
    pool = Examples(images=plain.pool.images, labels=labels, groups=wrong)
    return Dataset(pool=pool, tests=plain.tests, class_names=plain.class_names, std=(0.3, 0.3, 0.3))


@pytest.mark.slow
@pytest.mark.parametrize(("keeps_base_weight", "holds_planted"), [(True, True), (False, False)])
def test_a_start_says_whether_to_seek_the_hard_or_the_learnable(keeps_base_weight, holds_planted, registry):
    registry.add(PlantedPlugin(), "planted_plugin")
    config = RunConfig.of(
        dataset="planted",
        method="molere",
        split="random",
        **INSTANCE,
        epochs=12,
        device="cpu",
    )
    data = load_dataset(config.data, registry)
    plan = make_plan(config, registry)
    split = split_for(plan, data, runs=Path("nowhere"), progress=NoProgress())
    split = replace(
        split,
        info=split.info.model_copy(
            update={"keeps_base_weight": keeps_base_weight, "represented_fraction": 0.08}
        ),
    )
    engine = engine_on_split(plan, data, split)
    for _ in engine.loop.epochs():
        pass
    in_validation, wrong = engine.loop.method.in_validation(), data.dataset.pool.groups == 1
    assert in_validation.double().mean() <= 0.08
    share = float(wrong[in_validation].double().mean())
    assert share > 0.5 if holds_planted else share < 0.02


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_final_validation_set_holds_the_planted_labels(seed, registry):
    registry.add(PlantedPlugin(), "planted_plugin")
    # A splitter without a start, and weights of every example its own, as in the paper.
    config = RunConfig.of(
        dataset="planted",
        method="molere",
        split="none",
        **INSTANCE,
        train_on="train",
        epochs=20,
        seed=seed,
        precision="fp32",
        device="cpu",
    )
    data = load_dataset(config.data, registry)
    engine = build_engine(make_plan(config, registry), data, None)
    for _ in engine.loop.epochs():
        pass
    in_validation = engine.loop.method.in_validation()
    wrong = data.dataset.pool.groups == 1
    assert in_validation.float().mean() <= 0.1
    assert in_validation[wrong].float().mean() >= 0.8


def test_the_splitter_redraws_the_validation_set_at_its_interval_after_warmup(registry):
    config = tiny_config(
        method="molere", delta=0.25, epochs=7, warmup_epochs=2, splitter_interval=3, splitter_lr=0.05
    )
    engine = engine_for(config, registry)
    sets, records = [], []
    for record in engine.loop.epochs():
        sets.append(engine.loop.method.in_validation().clone())
        records.append(record)
    redrawn = [epoch for epoch, record in enumerate(records) if "split/overlap" in record]
    assert redrawn == [2, 5]
    assert torch.equal(sets[0], sets[1]) and torch.equal(sets[2], sets[4]) and torch.equal(sets[5], sets[6])
    overlap = (sets[2] & sets[1]).sum() / sets[1].sum()
    assert records[2]["split/overlap"] == pytest.approx(float(overlap))
    assert all(record["split/delta"] == 0.25 for record in records)


def test_from_a_start_the_splitter_waits_an_epoch_and_each_set_has_an_order_of_its_own(registry):
    config = tiny_config(
        method="molere",
        split="random",
        delta=0.25,
        epochs=4,
        splitter_interval=2,
        splitter_lr=0.05,
        **INSTANCE,
    ).updated(warmup_epochs=0)
    plan = make_plan(config, registry)
    data = load_dataset(config.data, registry)
    split = split_for(plan, data, runs=Path(), progress=NoProgress())
    engine = engine_on_split(plan, data, split)
    redrawn, tags = [], []
    for record in engine.loop.epochs():
        redrawn.append("split/overlap" in record)
        tags.append(engine.loop.method.state_dict()["reweighting"]["cycle"]["tag"])
    assert redrawn == [False, True, False, True]
    assert tags == [0, 1, 1, 3]
