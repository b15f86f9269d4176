"""How far weights may go: the cap, the floor, and what passes backwards."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import brentq

from molere_cli.methods.weight_limits import WeightLimits, _Within, weight_limits

LOG_WEIGHTS = st.lists(st.floats(-20, 20), min_size=1, max_size=40)


def weights(log_weights: list[float]) -> torch.Tensor:
    exponents = torch.tensor(log_weights, dtype=torch.float64)
    return len(log_weights) * exponents.softmax(0)


@given(LOG_WEIGHTS, st.floats(1.01, 50))
def test_what_is_cut_off_is_shared_out_in_proportion(log_weights, cap):
    """min(cap, s w) for the one s that keeps the mean at 1."""
    weights_B = weights(log_weights)
    found = WeightLimits(cap).apply(weights_B)
    w = weights_B.numpy()
    if w.max() <= cap:
        expected = w
    elif len(w) * cap <= len(w) * (1 + 1e-9):
        return
    else:
        scale = math.exp(
            brentq(lambda s: (w * math.exp(s)).clip(max=cap).mean() - 1, 0, 60, xtol=1e-13, rtol=1e-13)
        )
        expected = (scale * w).clip(max=cap)
    assert found.numpy() == pytest.approx(expected, rel=1e-6, abs=1e-9)


@given(LOG_WEIGHTS, st.floats(1.01, 50), st.floats(0, 0.9))
def test_limits_hold_and_the_mean_stays_1(log_weights, cap, floor):
    found = WeightLimits(cap, floor).apply(weights(log_weights))
    assert float(found.mean()) == pytest.approx(1, rel=1e-9)
    assert float(found.max()) <= cap * (1 + 1e-9)
    # What is cut off goes to the others, so that none falls below its floor.
    assert float(found.min()) >= min(floor, 1) * (1 - 1e-9)


def test_equal_weights_stay_exactly_1():
    for limits in (WeightLimits(), WeightLimits(3.0), WeightLimits(3.0, 0.5), WeightLimits(None, 0.25)):
        assert (limits.apply(torch.ones(7)) == 1).all()


def test_no_gradient_pushes_a_weight_beyond_the_cap_but_any_brings_it_back():
    log_weights = torch.tensor([3.0, 3.0, 0.0, 0.0], requires_grad=True)
    weights_B = 4 * log_weights.softmax(0)
    weights_B.retain_grad()
    # A hypergradient below 0 asks for more weight.
    WeightLimits(1.5).apply(weights_B).backward(torch.tensor([-1.0, 1.0, -1.0, 1.0]))
    assert weights_B.grad.tolist() == [0.0, 1.0, -1.0, 1.0]


def test_a_floor_scales_the_gradient_by_what_is_learned():
    weights_B = torch.tensor([0.5, 1.5], requires_grad=True)
    WeightLimits(None, 0.25).apply(weights_B).backward(torch.tensor([1.0, -1.0]))
    assert weights_B.grad.tolist() == [0.75, -0.75]


def test_only_a_cap_of_1_leaves_nothing():
    assert WeightLimits(1.0).leave_nothing
    assert not WeightLimits(1.5).leave_nothing
    assert not WeightLimits().leave_nothing


def test_a_bound_stops_what_pushes_outward_and_lets_back_what_has_left():
    values = torch.tensor([2.0, 2.0, -2.0, -2.0, 0.0], requires_grad=True)
    _Within.apply(values, 1.0).backward(torch.tensor([-1.0, 1.0, -1.0, 1.0, 1.0]))
    assert values.grad.tolist() == [0.0, 1.0, -1.0, 0.0, 1.0]


@pytest.mark.parametrize(("represents", "cap"), [(0.02, 10.0), (0.25, 4.0), (None, None)])
def test_no_weight_is_higher_than_what_the_split_represents_or_its_delta_leave(represents, cap):
    info = SimpleNamespace(represented_fraction=represents, delta=0.1, keeps_base_weight=False)
    settings = SimpleNamespace(weight_cap=None, weight_floor=None, weight_normalization="mean")
    context = SimpleNamespace(
        config=SimpleNamespace(reweighting=settings),
        split=SimpleNamespace(info=info),
        reweighter=SimpleNamespace(limits_weights=True),
    )
    assert weight_limits(context).cap == (cap if cap is None else pytest.approx(cap))
