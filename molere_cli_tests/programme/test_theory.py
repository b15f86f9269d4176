"""The exact tri-level optimum of benchmarks/reproduce/theory.py, against other ways to compute it."""

from __future__ import annotations

import functools
import importlib.util
import itertools
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from scipy import optimize

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "reproduce" / "theory.py"


@pytest.fixture(scope="module")
def theory() -> ModuleType:
    spec = importlib.util.spec_from_file_location("theory", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["theory"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("rule", ["kept", "overlap", "nonnegative", "positive", "x-only"])
def test_the_convolution_finds_what_every_subset_finds(theory: ModuleType, rule: str) -> None:
    generator = np.random.default_rng(1)
    for _ in range(3):
        points, labels = generator.integers(0, 3, 9), generator.integers(0, 2, 9)
        pool = theory.count_cells(points, labels, num_points=3)
        expected = theory.brute_force(points, labels, 3, rule, num_points=3)
        assert theory.tri_level(pool, 3, rule) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("size", [2, 3, 5])
def test_the_hardest_subset_is_the_minimum_of_the_worst_mean(theory: ModuleType, size: int) -> None:
    counts = np.array([[5, 2], [3, 3]])
    value, prediction = theory.hardest_subset(counts, size)

    def worst_mean(p: np.ndarray) -> float:
        losses = np.stack([-np.log1p(-p), -np.log(p)], axis=1)
        each = np.sort(np.repeat(losses.ravel(), counts.ravel()))
        return float(each[-size:].mean())

    assert worst_mean(prediction) == pytest.approx(value, abs=1e-6)
    bounds = [(theory.CLIP, 1 - theory.CLIP)] * 2
    starts = itertools.product((0.2, 0.5, 0.8), repeat=2)
    found = [
        optimize.minimize(worst_mean, start, method="Nelder-Mead", bounds=bounds, tol=1e-10).fun
        for start in starts
    ]
    assert value == pytest.approx(min(found), abs=1e-6)


def test_with_validation_kept_in_training_the_levels_coincide(theory: ModuleType) -> None:
    pool = np.array([[30, 10], [25, 15]])
    value, _ = theory.hardest_subset(pool, 8)
    assert theory.tri_level(pool, 8, "kept") == pytest.approx(value, abs=1e-9)
    # Weights phi(x) that do not see the label cannot move a free prediction.
    assert theory.tri_level(pool, 8, "x-only") > value + 0.5


NEGLIGIBLE = 1e-4
WEIGHTS = {
    "kept": (0.0, NEGLIGIBLE, 1.0),
    "nonnegative": (0.0, NEGLIGIBLE, 1.0),
    "positive": (NEGLIGIBLE, 1.0),
}


@pytest.mark.parametrize("rule", WEIGHTS)
def test_the_three_levels_agree_with_trying_everything(theory: ModuleType, rule: str) -> None:
    """Every subset of two, every weighting of the training examples, a numerical fit of each p(x)."""
    points, labels = np.array([0, 0, 0, 1, 1, 2]), np.array([0, 0, 1, 1, 0, 1])
    fitted = functools.cache(fit_prediction)

    def validation_loss(val: list[int], train: list[int], weights: tuple[float, ...]) -> float:
        total = 0.0
        for point in {points[number] for number in val}:
            here = [(labels[n], w) for n, w in zip(train, weights, strict=True) if points[n] == point]
            p = fitted(sum(w for label, w in here if label == 0), sum(w for label, w in here if label == 1))
            total -= sum(np.log(p if labels[n] else 1 - p) for n in val if points[n] == point)
        return total

    best = -np.inf
    for val in map(list, itertools.combinations(range(6), 2)):
        train = [number for number in range(6) if rule == "kept" or number not in val]
        weightings = itertools.product(WEIGHTS[rule], repeat=len(train))
        best = max(best, min(validation_loss(val, train, weights) for weights in weightings))
    pool = theory.count_cells(points, labels, num_points=3)
    assert theory.tri_level(pool, 2, rule) == pytest.approx(best / 2, abs=1e-6)


def fit_prediction(zeros: float, ones: float) -> float:
    """p within [0.01, 0.99] of least weighted cross-entropy, by search; 1/2 without weight."""
    if zeros + ones == 0:
        return 0.5
    found = optimize.minimize_scalar(
        lambda p: -ones * np.log(p) - zeros * np.log1p(-p),
        bounds=(0.01, 0.99),
        method="bounded",
        options={"xatol": 1e-9},
    )
    return float(found.x)


@pytest.mark.parametrize("rule", ["kept", "nonnegative", "positive", "x-only"])
def test_the_closed_form_of_the_weights_is_what_a_search_finds(theory: ModuleType, rule: str) -> None:
    generator = np.random.default_rng(2)
    pool = np.array([[4, 2], [0, 3], [2, 1]])
    for val in ([[1, 2], [0, 1], [1, 0]], [[3, 0], [0, 3], [0, 1]], [[1, 1], [0, 2], [2, 1]]):
        closed = theory.best_response(np.array(val), pool, rule).sum()
        searched = theory.searched_response(np.array(val), pool, rule, generator)
        assert closed == pytest.approx(searched, abs=1e-6)


def test_a_rare_point_that_leaves_training_costs_log_two(theory: ModuleType) -> None:
    pool = np.array([[11, 0], [0, 8], [0, 1]])
    learned = -np.log(1 - theory.CLIP)
    assert theory.tri_level(pool, 2, "nonnegative") == pytest.approx((np.log(2) + learned) / 2)
    for rule in ("kept", "overlap"):
        assert theory.tri_level(pool, 2, rule) == pytest.approx(learned)
    assert theory.hardest_subset(pool, 2)[0] == pytest.approx(learned, abs=1e-9)


def test_overlap_forbids_taking_the_last_example(theory: ModuleType) -> None:
    assert theory.tri_level(np.array([[2, 1]]), 2, "overlap") == -np.inf
    assert theory.tri_level(np.array([[2, 1]]), 1, "overlap") == pytest.approx(-np.log(1 - theory.CLIP))


@pytest.mark.parametrize("domain", ["frequent labels", "rare labels"])
def test_the_hardest_subset_shrinks_towards_a_half_and_flips_nothing(theory: ModuleType, domain: str) -> None:
    (mass,) = (each.mass_X2 for each in theory.DOMAINS if each.name == domain)
    value, prediction = theory.hardest_subset(mass, theory.DELTA)
    share = mass[:, 1] / mass.sum(axis=1)
    assert ((prediction - 0.5) * (share - 0.5) >= 0).all()
    twice_minority = 2 * mass.min(axis=1).sum()
    assert (twice_minority >= theory.DELTA) == (abs(value - np.log(2)) < 1e-9)
