"""The exact tri-level optimum of benchmarks/reproduce/theory.py, against other ways to compute it."""

from __future__ import annotations

import importlib.util
import itertools
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from scipy import optimize

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "reproduce" / "theory.py"


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
