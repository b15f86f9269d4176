"""Means, spreads and paired gains; plain numbers in, plain numbers out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Literal

GainKind = Literal["points", "relative", "ratio"]

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Spread:
    """Mean and sample standard deviation (ddof 1; None for one value)."""

    mean: float
    std: float | None


@dataclass(frozen=True)
class Estimate:
    """A mean over `num_pairs` paired values, with its interval where there is one."""

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
    """Mean of paired gains with its 95% interval by Student's t; no interval for a single pair."""
    mean, num_pairs = fmean(gains), len(gains)
    if num_pairs < 2 or not with_interval:
        return Estimate(mean, None, None, num_pairs)
    from scipy.stats import t

    # Not scipy's own interval: it is nan where all differences are equal.
    quantile = float(t.ppf((1 + CONFIDENCE) / 2, num_pairs - 1))
    reach = quantile * stdev(gains) / math.sqrt(num_pairs)
    return Estimate(mean, mean - reach, mean + reach, num_pairs)
