"""Which images of a run are worth a look, and so a thumbnail: one choice for who keeps and who shows them.

Shapes: N rows of a table.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy
from numpy.typing import NDArray

HARDEST, EASIEST, MOVED, WRONG = 300, 100, 60, 300
"""How many at most: of all classes together, of all classes, raised and as many lowered, of all test sets."""
FEWEST_A_SET = 4

Floats = NDArray[numpy.float64]
Integers = NDArray[numpy.int64]


def by_class(labels: Integers, score: Floats, *, most: int) -> Integers:
    """Rows of the lowest scores: of every class as many, in the order of the classes, `most` in all; of all
    together where there are more classes than that. Rows without a score (nan) are left out."""
    order = _ascending(score)
    classes = numpy.unique(labels[order])
    if len(classes) > most:
        return order[:most]
    each = most // max(1, len(classes))
    chosen = [order[labels[order] == label][:each] for label in classes]
    return numpy.concatenate([order[:0], *chosen])


def hardest_and_easiest(labels: Integers, aum: Floats) -> tuple[Integers, Integers]:
    """Rows of every class by area under the margin."""
    return by_class(labels, aum, most=HARDEST), by_class(labels, -aum, most=EASIEST)


def raised_and_lowered(weight: Floats, *, most: int = MOVED) -> tuple[Integers, Integers]:
    """Rows of the highest and the lowest weights, `most` of each; none where all weights are equal."""
    known = weight[~numpy.isnan(weight)]
    if not len(known) or known.min() == known.max():
        return numpy.empty(0, numpy.int64), numpy.empty(0, numpy.int64)
    most = min(most, len(known) // 2)
    return _ascending(-weight)[:most], _ascending(weight)[:most]


def nearly_right(labels: Integers, predictions: Integers, margin: Floats, *, num_sets: int) -> Integers:
    """Rows of a test set, one of `num_sets`, that are predicted wrong, those nearest to right first: what
    another seed or method may turn."""
    wrong = numpy.flatnonzero(labels != predictions)
    most = max(FEWEST_A_SET, WRONG // num_sets)
    return wrong[numpy.argsort(-margin[wrong], kind="stable")][:most]


def together(parts: Iterable[Integers]) -> Integers:
    """Every row once, in ascending order."""
    return numpy.unique(numpy.concatenate([numpy.empty(0, numpy.int64), *parts]))


def _ascending(score: Floats) -> Integers:
    order = numpy.argsort(score, kind="stable")
    return order[~numpy.isnan(score[order])]
