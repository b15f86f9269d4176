"""Whether a difference is more than chance: tests, a word a row, and how many seeds would settle it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Literal

import numpy

from molere_cli.report.statistics import CONFIDENCE, have_spread

Word = Literal["better", "worse", "undecided"]

LEVEL = 1 - CONFIDENCE
MOST_SEEDS = 1000


@dataclass(frozen=True)
class Verdict:
    """What the seeds say about a row.

    p_value: of the paired t test, two-sided. p_adjusted: after Holm, over the rows of one table.
    more: how many more seeds (or draws of the data) would settle the difference seen, if mean and spread
    stayed; None where it is settled, where there is no difference, or where a thousand would not do.
    """

    word: Word
    p_value: float | None
    p_adjusted: float | None
    more: int | None


@dataclass(frozen=True)
class Flips:
    """Test examples of one seed that ERM has wrong and the method right (fixed), and the reverse (broken)."""

    fixed: int
    broken: int

    @property
    def p_value(self) -> float:
        """Exact McNemar test, two-sided: whether a flip is as likely one way as the other (McNemar 1947)."""
        from scipy.stats import binomtest

        flips = self.fixed + self.broken
        return float(binomtest(self.fixed, flips, 0.5).pvalue) if flips else 1.0


def p_value(gains: Sequence[float]) -> float | None:
    """Of the paired t test that the mean gain is 0, two-sided; None where the gains have no spread."""
    if not have_spread(gains):
        return None
    from scipy.stats import t

    number = len(gains)
    return float(2 * t.sf(abs(fmean(gains)) / stdev(gains) * math.sqrt(number), number - 1))


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values: the chance of any false finding among them stays at the level (Holm 1979)."""
    ordered = sorted(range(len(p_values)), key=p_values.__getitem__)
    adjusted, largest = [0.0] * len(p_values), 0.0
    for place, number in enumerate(ordered):
        largest = max(largest, min(1.0, (len(p_values) - place) * p_values[number]))
        adjusted[number] = largest
    return adjusted


def verdicts(rows: Sequence[Sequence[float]]) -> list[Verdict]:
    """A verdict for each row of one table, from its gains: one a seed, or one a draw of the data."""
    p_values = [p_value(gains) for gains in rows]
    known = iter(holm([value for value in p_values if value is not None]))
    return [
        Verdict("undecided", None, None, None) if p is None else _verdict(gains, p, next(known))
        for gains, p in zip(rows, p_values, strict=True)
    ]


def _verdict(gains: Sequence[float], p: float, p_adjusted: float) -> Verdict:
    if p_adjusted < LEVEL:
        return Verdict("better" if fmean(gains) > 0 else "worse", p, p_adjusted, None)
    return Verdict("undecided", p, p_adjusted, _more(gains, p_adjusted / p))


def _more(gains: Sequence[float], factor: float) -> int | None:
    from scipy.stats import t

    here = len(gains)
    numbers = numpy.arange(here + 1, here + MOST_SEEDS + 1)
    p_values = 2 * t.sf(abs(fmean(gains)) / stdev(gains) * numpy.sqrt(numbers), numbers - 1)
    settling = numbers[factor * p_values < LEVEL]
    return int(settling[0]) - here if settling.size else None
