"""Many examples as few numbers, for charts.

Shapes: N examples.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy
from numpy.typing import NDArray

Floats = NDArray[numpy.float64]


@dataclass(frozen=True)
class Bin:
    """Examples with a score from low to high, both included, and how many."""

    low: float
    high: float
    count: int


@dataclass(frozen=True)
class WeightBin:
    """Weights of `count` examples of like hardness: the median score, and percentiles of the weights."""

    score: float
    low: float
    median: float
    high: float
    count: int


@dataclass(frozen=True)
class CalibrationBin:
    """Mean probability of the predicted class among `count` examples, and how many of them are right."""

    confidence: float
    accuracy: float
    count: int


def histogram(values: Floats, bins: int = 40) -> list[Bin]:
    """Counts in bins of one width between the lowest and the highest of the values (N,), none of them nan.

    Values that lie too close for so many bins count as equal: they are in the middle of a range of 1.
    """
    low, high = float(values.min()), float(values.max())
    has_room = bool((numpy.diff(numpy.linspace(low, high, bins + 1)) > 0).all())
    counts, edges = numpy.histogram(
        values, bins=bins, range=(low, high) if has_room else (low - 0.5, high + 0.5)
    )
    return [
        Bin(float(low), float(high), int(count))
        for low, high, count in zip(edges[:-1], edges[1:], counts, strict=True)
    ]


def weight_bins(scores: Floats, weights: Floats, bins: int = 20) -> list[WeightBin]:
    """Weights by hardness: the examples in the order of their scores, in parts of one size within one; the
    10th, 50th and 90th percentile of the weights of each."""
    order = numpy.argsort(scores, kind="stable")
    found = []
    for part in numpy.array_split(order, bins):
        if len(part):
            low, median, high = (float(value) for value in numpy.percentile(weights[part], [10, 50, 90]))
            found.append(WeightBin(float(numpy.median(scores[part])), low, median, high, len(part)))
    return found


def calibration_bins(
    probability: Floats, right: NDArray[numpy.bool_], bins: int = 15
) -> list[CalibrationBin]:
    """Examples by the probability of their predicted class, in bins of one width; empty ones are left out
    (the reliability diagram of Guo et al. 2017, arXiv 1706.04599)."""
    place = numpy.minimum((probability * bins).astype(int), bins - 1)
    return [
        CalibrationBin(float(probability[members].mean()), float(right[members].mean()), int(members.sum()))
        for number in range(bins)
        if (members := place == number).any()
    ]
