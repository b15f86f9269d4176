"""The reweighters of molere_reweighters."""

from __future__ import annotations

from dataclasses import replace

import molere_reweighters
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from molere_reweighters.hardness import KNOTS
from torch import nn

from molere_cli import ReweighterInput, ReweighterRequest
from molere_cli.config.plan import make_plan
from molere_cli.config.run_config import RunConfig
from molere_cli.foundation.errors import ConfigError
from molere_cli.registry.option_errors import validate_options
from molere_cli.registry.registry import empty_registry, load_plugins

NAMES = ("instance", "hardness", "image", "features", "loss")
NUM_EXAMPLES, NUM_CLASSES, FEATURE_DIM = 20, 3, 5
WANTED = torch.tensor([1.0, 1, 1, 1, -1, -1])  # neither balanced as a whole nor in a class


@pytest.fixture(scope="module")
def installed():
    registry = empty_registry()
    registry.add(molere_reweighters, "molere_reweighters")
    assert registry.problems == []
    return registry


def build(installed, name: str, **options: str) -> nn.Module:
    spec = installed.reweighters.get(name)
    request = ReweighterRequest(
        num_examples=NUM_EXAMPLES,
        num_classes=NUM_CLASSES,
        feature_dim=FEATURE_DIM if spec.needs_features else None,
        options=validate_options(spec.options, options, owner=f"reweighter {name!r}"),
    )
    torch.manual_seed(0)
    return spec.build(request)


def batch(*, features: bool = True) -> ReweighterInput:
    generator = torch.Generator().manual_seed(1)
    return ReweighterInput(
        positions=torch.tensor([3, 0, 19, 7, 11, 5]),
        images=torch.randn(6, 3, 8, 8, generator=generator),
        labels=torch.tensor([0, 1, 2, 0, 1, 2]),
        features=torch.randn(6, FEATURE_DIM, generator=generator) if features else None,
        losses=torch.rand(6, generator=generator),
        hardness_rank=torch.tensor([0.02, 0.05, 0.1, 0.25, 0.7, 0.95]),
        hardness_margin=torch.tensor([-0.9, -0.6, -0.3, 0.0, 0.3, 0.8]),
    )


def relabelled(original: ReweighterInput) -> ReweighterInput:
    return ReweighterInput(
        positions=original.positions,
        images=original.images,
        labels=(original.labels + 1) % NUM_CLASSES,
        features=original.features,
        losses=original.losses,
        hardness_rank=original.hardness_rank,
        hardness_margin=original.hardness_margin,
    )


def trained(reweighter: nn.Module, *, steps: int = 20) -> nn.Module:
    """Raise the log-weights of the first four of the batch, lower the others."""
    optimizer = torch.optim.Adam(reweighter.parameters(), lr=0.05)
    for _ in range(steps):
        optimizer.zero_grad()
        (-(reweighter(batch()) * WANTED).sum()).backward()
        optimizer.step()
    return reweighter


@pytest.mark.parametrize("name", NAMES)
def test_log_weights_start_at_exactly_zero(installed, name):
    log_weights = build(installed, name)(batch())
    assert log_weights.shape == (6,)
    assert log_weights.dtype == torch.float32
    assert (log_weights == 0).all()


@pytest.mark.parametrize("name", NAMES)
def test_learning_starts_in_spite_of_the_zeros(installed, name):
    reweighter = build(installed, name)
    before = {key: parameter.clone() for key, parameter in reweighter.named_parameters()}
    assert (trained(reweighter)(batch()) * WANTED).sum() > 1
    changed = {key for key, p in reweighter.named_parameters() if not torch.equal(p, before[key])}
    assert changed == set(before)


@pytest.mark.parametrize(
    ("name", "lr"), [("hardness", 0.2), ("image", 1e-3), ("features", 1e-3), ("loss", 1e-3)]
)
def test_each_names_its_learning_rate(installed, name, lr):
    assert installed.reweighters.get(name).lr == lr


@pytest.mark.parametrize("num_batches", [1, 16])
def test_instance_learns_at_its_tuned_rate_where_the_pool_is_small(installed, num_batches):
    assert installed.reweighters.get("instance").lr(num_batches) == 0.05


def moved_at_a_visit(reweighter: nn.Module, lr: float, *, num_batches: int) -> float:
    """How far a constant hypergradient moves a weight at a visit, one visit a pass, on average over 20."""
    optimizer = torch.optim.AdamW(reweighter.parameters(), lr=lr, weight_decay=0.0)
    (log_weights,) = reweighter.parameters()
    for step in range(20 * num_batches):
        log_weights.grad = torch.zeros_like(log_weights)
        log_weights.grad[0] = float(step % num_batches == 0)
        optimizer.step()
    return -float(log_weights[0].detach()) / 20


@pytest.mark.parametrize("num_batches", [79, 391])
def test_instance_moves_a_weight_as_far_at_a_visit_in_a_large_pool_as_in_a_small_one(installed, num_batches):
    spec = installed.reweighters.get("instance")
    small = moved_at_a_visit(build(installed, "instance"), spec.lr(16), num_batches=16)
    large = moved_at_a_visit(build(installed, "instance"), spec.lr(num_batches), num_batches=num_batches)
    same_rate = moved_at_a_visit(build(installed, "instance"), spec.lr(16), num_batches=num_batches)
    assert large == pytest.approx(small, rel=0.15)
    assert same_rate > 2 * small


def test_the_rate_follows_the_pool_unless_it_is_given():
    installed = load_plugins()
    plan = make_plan(RunConfig.of(method="lrw", reweighter="instance", batch_size=128), installed)
    assert plan.config.reweighting.reweighter_lr is None
    filled = plan.for_pool(10_000)
    assert filled.config.reweighting.reweighter_lr == filled.settings["reweighter_lr"] == 0.0225
    settled = make_plan(
        RunConfig.of(method="lrw", reweighter="instance", batch_size=128, reweighter_lr=0.3), installed
    )
    assert settled.for_pool(10_000) is settled


def test_only_features_asks_for_features(installed):
    assert [n for n in NAMES if installed.reweighters.get(n).needs_features] == ["features"]
    assert [n for n in NAMES if installed.reweighters.get(n).needs_hardness] == ["hardness"]


@pytest.mark.parametrize(("scale", "lowest"), [("margin", -1.0), ("rank", 0.0)])
@given(data=st.data())
def test_hardness_is_the_curve_that_numpy_draws(data, scale, lowest):
    registry = empty_registry()
    registry.add(molere_reweighters, "molere_reweighters")
    reweighter = build(registry, "hardness", scale=scale)
    knots = KNOTS[scale]
    height = st.floats(-5.0, 5.0, width=32)
    heights = data.draw(st.lists(height, min_size=len(knots), max_size=len(knots)))
    places = data.draw(st.lists(st.floats(lowest, 1.0, width=32), min_size=1, max_size=20))
    with torch.no_grad():
        reweighter.log_weights.copy_(torch.tensor([heights]))
    place_B = torch.tensor(places)
    nowhere = torch.full_like(place_B, torch.nan)
    found = reweighter(
        replace(
            batch(),
            labels=torch.zeros(len(places)).long(),
            hardness_margin=place_B if scale == "margin" else nowhere,
            hardness_rank=place_B if scale == "rank" else nowhere,
        )
    )
    expected = np.interp(place_B.double().numpy(), knots, heights)
    np.testing.assert_allclose(found.detach().numpy(), expected, atol=1e-5)


def test_hardness_by_margin_wants_a_score_that_is_one(installed):
    options = {"options": installed.reweighters.get("hardness").options(), "feature_dim": None}
    request = ReweighterRequest(
        num_examples=2, num_classes=2, hardness=torch.tensor([3.0, 0.1]), hardness_is_margin=False, **options
    )
    with pytest.raises(ConfigError, match="use --reweighter-option scale=rank"):
        installed.reweighters.get("hardness").build(request)


def test_hardness_may_have_a_curve_for_each_class(installed):
    reweighter = trained(build(installed, "hardness", by_class="true"))
    assert reweighter.log_weights.shape == (NUM_CLASSES, len(KNOTS["margin"]))
    assert not torch.equal(reweighter(batch()), reweighter(relabelled(batch())))
    shared = trained(build(installed, "hardness"))
    assert torch.equal(shared(batch()), shared(relabelled(batch())))


def test_instance_moves_the_examples_of_the_batch_alone(installed):
    reweighter = build(installed, "instance")
    reweighter(batch()).sum().backward()
    (log_weights,) = reweighter.parameters()
    assert log_weights.shape == (NUM_EXAMPLES,)
    assert sorted(log_weights.grad.nonzero().flatten().tolist()) == sorted(batch().positions.tolist())


@pytest.mark.parametrize("name", ["image", "features", "loss"])
@pytest.mark.parametrize("label", ["true", "false"])
def test_the_label_counts_if_and_only_if_it_is_joined(installed, name, label):
    reweighter = trained(build(installed, name, label=label))
    same = torch.equal(reweighter(batch()), reweighter(relabelled(batch())))
    assert same == (label == "false")


@pytest.mark.parametrize(("name", "joined"), [("image", True), ("features", True), ("loss", False)])
def test_the_label_is_joined_by_default_except_in_meta_weight_net(installed, name, joined):
    assert installed.reweighters.get(name).options().label is joined


def test_loss_is_the_1_100_1_network_of_meta_weight_net(installed):
    reweighter = build(installed, "loss")
    assert sum(p.numel() for p in reweighter.parameters()) == (100 + 100) + (100 + 1)


def test_features_are_normalised_first(installed):
    reweighter = trained(build(installed, "features"))
    original = batch()
    assert original.features is not None
    scaled = ReweighterInput(
        positions=original.positions,
        images=original.images,
        labels=original.labels,
        features=1000 * original.features + 7,
        losses=original.losses,
    )
    torch.testing.assert_close(reweighter(scaled), reweighter(original), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(("name", "option"), [("image", "width"), ("features", "hidden"), ("loss", "hidden")])
def test_the_width_is_an_option(installed, name, option):
    sizes = [sum(p.numel() for p in build(installed, name, **{option: n}).parameters()) for n in ("4", "8")]
    assert sizes[0] < sizes[1]
    with pytest.raises(ConfigError, match=f"{option} = '0'"):
        build(installed, name, **{option: "0"})


@pytest.mark.parametrize(
    ("settings", "bound"),
    [({"reweighter": "loss"}, 10), ({"reweighter": "loss", "weight_bound": 3.0}, 3), ({}, None)],
)
def test_weights_learned_from_the_loss_have_a_bound_if_none_is_given(settings, bound):
    plan = make_plan(RunConfig.of(method="lrw", **settings), load_plugins())
    assert plan.config.reweighting.weight_bound == bound
