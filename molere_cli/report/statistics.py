"""Means, spreads, paired gains and their intervals; plain numbers in, plain numbers out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import numpy
    from numpy.typing import NDArray

GainKind = Literal["points", "relative", "ratio"]

CONFIDENCE = 0.95
# Gains that are equal differ by the rounding of their accuracies alone.
RELATIVE_ROUNDING = 1e-9


@dataclass(frozen=True)
class Spread:
    """Mean and sample standard deviation (ddof 1; None for one value)."""

    mean: float
    std: float | None


@dataclass(frozen=True)
class Estimate:
    """A mean over `num_pairs` paired values, with its 95% interval where there is one."""

    mean: float
    low: float | None
    high: float | None
    num_pairs: int


def spread(values: Sequence[float]) -> Spread:
    """Mean and sample standard deviation of one value or more."""
    return Spread(fmean(values), stdev(values) if len(values) > 1 else None)


def gain(accuracy: float, baseline: float, kind: GainKind) -> float:
    """The gain of one run over its ERM run; accuracies in [0, 1].

    points: the difference in percentage points. relative: accuracy / baseline - 1, in percent.
    ratio: accuracy / baseline, times -1 where accuracy < baseline.

    Raises:
        ZeroDivisionError: `relative` or `ratio` over a baseline of 0.
    """
    if kind == "points":
        return 100 * (accuracy - baseline)
    ratio = accuracy / baseline
    if kind == "relative":
        return 100 * (ratio - 1)
    return -ratio if accuracy < baseline else ratio


def estimate(gains: Sequence[float], *, with_interval: bool = True) -> Estimate:
    """Mean of paired gains with its 95% interval by Student's t.

    No interval for a single pair, nor for gains that are all equal: they have no spread to tell from.
    """
    mean, num_pairs = fmean(gains), len(gains)
    if not with_interval or not have_spread(gains):
        return Estimate(mean, None, None, num_pairs)
    # Not scipy's own interval: it is nan where all differences are equal.
    return _about(mean, _quantile(num_pairs - 1) * stdev(gains) / math.sqrt(num_pairs), num_pairs)


def have_spread(gains: Sequence[float]) -> bool:
    """Whether there are two values or more, not all equal up to rounding."""
    return max(gains) - min(gains) > RELATIVE_ROUNDING * max(1.0, *map(abs, gains))


def crossed_estimate(differences_SI: NDArray[numpy.float64]) -> Estimate:
    """Mean over seeds and examples with its 95% interval for new seeds on new test examples.

    Seeds and examples are crossed random effects without replicates. Their mean squares and that of the
    residual give the variance of the mean, (MS_S + max(0, MS_I - MS_R)) / (S I), and each of its two parts
    its own quantile of Student's t: the modified large-sample interval of Graybill and Wang (1980,
    Confidence intervals on nonnegative linear combinations of variances). It is never shorter than
    `estimate`'s.

    Args:
        differences_SI: what the method gains on an example in a seed, such as 100 * (right - right by ERM).

    Returns:
        No interval for a single seed or example, nor where all seeds have the same mean.
    """
    num_seeds, num_examples = differences_SI.shape
    mean, means_S, means_I = (
        float(differences_SI.mean()),
        *(differences_SI.mean(axis=axis) for axis in (1, 0)),
    )
    if num_examples < 2 or not have_spread(means_S.tolist()):
        return Estimate(mean, None, None, num_seeds)
    residuals_SI = differences_SI - means_S[:, None] - means_I + mean
    of_seeds = num_examples * float(means_S.var(ddof=1))
    of_examples = num_seeds * float(means_I.var(ddof=1))
    of_rest = float((residuals_SI**2).sum()) / ((num_seeds - 1) * (num_examples - 1))
    squared = _quantile(num_seeds - 1) ** 2 * of_seeds
    squared += _quantile(num_examples - 1) ** 2 * max(0.0, of_examples - of_rest)
    return _about(mean, math.sqrt(squared / differences_SI.size), num_seeds)


def example_estimate(differences_I: NDArray[numpy.float64]) -> Estimate:
    """Mean over examples of one pair of runs with its 95% interval for new test examples alone: it says
    nothing about other seeds."""
    found = estimate(differences_I.tolist())
    return Estimate(found.mean, found.low, found.high, 1)


def _quantile(degrees: int) -> float:
    from scipy.stats import t

    return float(t.ppf((1 + CONFIDENCE) / 2, degrees))


def _about(mean: float, reach: float, num_pairs: int) -> Estimate:
    return Estimate(mean, mean - reach, mean + reach, num_pairs)
