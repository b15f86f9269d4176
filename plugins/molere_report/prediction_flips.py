"""The test examples that a method turns: what it has right and ERM has not, and the reverse.

Shapes: S seeds, I test examples.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import numpy
from numpy.typing import NDArray

from molere_cli import RunError
from molere_cli.report import RunDir
from molere_report.detailed import Detailed, detailed_examples

STEADY = 0.8
"""Share of the seeds in which an example has to be turned the same way."""
MOST_CONFUSIONS = 10


@dataclass(frozen=True, eq=False)
class Pair:
    """What a method's run and ERM's of one seed say of the same examples."""

    method: Detailed
    erm: Detailed

    @property
    def differences(self) -> NDArray[numpy.float64]:
        """In points, (I,)."""
        return 100.0 * (self.method.right.astype(numpy.float64) - self.erm.right)


@dataclass(frozen=True)
class Flip:
    """A test example that a method turned in `num_seeds` of the seeds; predictions are the commonest ones.
    margin_gain: the mean over seeds. Classes by place."""

    index: int
    label: int
    erm_prediction: int
    prediction: int
    num_seeds: int
    margin_gain: float


@dataclass(frozen=True)
class Confusion:
    """How many test examples of a class are predicted as another, a mean over seeds."""

    label: int
    prediction: int
    erm: float
    method: float


def read_pair(method: Path, erm: Path, test_set: str) -> Pair:
    """What two runs of one seed predicted.

    Raises:
        RunError: a table is missing, damaged, or of a version that recorded less, or the runs were not tested
            on the same examples.
    """
    ours, theirs = (detailed_examples(RunDir(path), test_set) for path in (method, erm))
    if not ours.is_on_the_examples_of(theirs):
        raise RunError(f"{method} and {erm} were not tested on the same examples")
    return Pair(ours, theirs)


def flips(pairs: Sequence[Pair]) -> tuple[list[Flip], list[Flip]]:
    """What a method fixed, ERM wrong and the method right in four of five seeds, and what it broke: those of
    most seeds first, then those whose margin has changed most; all pairs on the same examples."""
    differences_SI = numpy.stack([pair.differences for pair in pairs])
    margin_gain_I = numpy.mean([pair.method.margin - pair.erm.margin for pair in pairs], axis=0)
    fixed = _steady(pairs, differences_SI > 0, margin_gain_I)
    return fixed, _steady(pairs, differences_SI < 0, -margin_gain_I)


def _steady(
    pairs: Sequence[Pair], flips_SI: NDArray[numpy.bool_], order_I: NDArray[numpy.float64]
) -> list[Flip]:
    counts_I = flips_SI.sum(axis=0)
    rows = numpy.flatnonzero(counts_I >= math.ceil(STEADY * len(pairs)))
    rows = rows[numpy.lexsort((rows, -order_I[rows], -counts_I[rows]))]
    first = pairs[0].erm
    return [
        Flip(
            index=int(first.index[row]),
            label=int(first.label[row]),
            erm_prediction=_commonest([int(pair.erm.prediction[row]) for pair in pairs]),
            prediction=_commonest([int(pair.method.prediction[row]) for pair in pairs]),
            num_seeds=int(counts_I[row]),
            margin_gain=fmean(float(pair.method.margin[row] - pair.erm.margin[row]) for pair in pairs),
        )
        for row in rows.tolist()
    ]


def _commonest(values: Sequence[int]) -> int:
    return min(values, key=lambda value: (-values.count(value), value))


def confusions(pairs: Sequence[Pair], most: int = MOST_CONFUSIONS) -> list[Confusion]:
    """The mistakes that are commonest under both together."""
    counts: dict[tuple[int, int], list[float]] = {}
    for pair in pairs:
        for place, tested in enumerate((pair.erm, pair.method)):
            wrong = ~tested.right
            both = numpy.stack([tested.label[wrong], tested.prediction[wrong]])
            found, number = numpy.unique(both, axis=1, return_counts=True)
            for label, prediction, count in zip(*found.tolist(), number.tolist(), strict=True):
                counts.setdefault((label, prediction), [0.0, 0.0])[place] += count / len(pairs)
    ordered = sorted(counts.items(), key=lambda item: (-sum(item[1]), item[0]))
    return [Confusion(*classes, *means) for classes, means in ordered[:most]]
