"""The columns of a comparison: what each is called, and what stands in its cells."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Literal

from molere_cli.foundation.errors import ConfigError
from molere_cli.report.comparison import Result
from molere_cli.report.comparison_rows import seeds_text
from molere_cli.report.footnotes import Footnotes
from molere_cli.report.measures import MEASURES, Measure
from molere_cli.report.statistics import Estimate, GainKind, Spread

NOT_AVAILABLE = "n/a"
NOT_APPLICABLE = "-"
GAIN_UNITS: dict[GainKind, str] = {"points": "points", "relative": "%", "ratio": "ratio"}
GAIN_DIGITS: dict[GainKind, int] = {"points": 2, "relative": 2, "ratio": 4}
GAIN = "_gain"
OF_GROUPS = ("worst_group", "worst_group_gain")
OF_EXAMPLES = frozenset({"gain_new_examples", "flips", "mcnemar"})
"""Columns for which the predictions of all runs are read."""
USUAL = ("n", "seeds", "accuracy", "gain", "verdict", "margin_gain", *OF_GROUPS, "seconds")


@dataclass(frozen=True)
class Column:
    """A column of numbers.

    cell: its text for a row. value: the number that it is about, None where there is none. best: which of a
    column's values is the best one, None where none is.
    """

    name: str
    heading: str
    cell: Callable[[Result, Footnotes], str]
    value: Callable[[Result], float | None]
    best: Literal["highest", "lowest"] | None = None


def chosen_columns(names: Sequence[str] | None, results: Sequence[Result], kind: GainKind) -> list[Column]:
    """The columns with these names, or the usual ones: without groups where there are none.

    Raises:
        ConfigError: a name is no column's.
    """
    known = all_columns(kind)
    if names is None:
        has_groups = any("worst_group" in result.measured for result in results)
        names = [name for name in USUAL if has_groups or name not in OF_GROUPS]
    for name in names:
        if name not in known:
            raise ConfigError(f"unknown column {name!r}; there are: {', '.join(known)}")
    return [known[name] for name in names]


def all_columns(kind: GainKind) -> dict[str, Column]:
    """Every column by its name."""
    columns = [
        Column("n", "n", lambda result, _: str(len(result.row.runs)), lambda result: len(result.row.runs)),
        Column("seeds", "seeds", lambda result, _: seeds_text(result.row.runs), lambda _: None),
        Column(
            "gain",
            f"gain, {GAIN_UNITS[kind]}",
            _gain_cell(kind),
            lambda result: _mean(result.gain),
            "highest",
        ),
        Column("verdict", "verdict", lambda result, _: verdict_text(result), lambda _: None),
        Column(
            "gain_new_examples",
            "gain, new seeds and examples, points",
            lambda result, _: estimate_cell(result, result.new_examples, digits=2),
            lambda result: _mean(result.new_examples),
            "highest",
        ),
        Column("flips", "fixed / broken", lambda result, _: flips_text(result), lambda _: None),
        Column("mcnemar", "McNemar's p a seed", lambda result, _: mcnemar_text(result), lambda _: None),
        Column("p", "p (Holm)", lambda result, _: p_text(result), lambda _: None),
        *(column for measure in MEASURES.values() for column in _of_measure(measure)),
        Column(
            "ess",
            "effective sample size, %",
            lambda result, _: _percent_or_none(result.effective_sample_size),
            lambda _: None,
        ),
        Column("seconds", "seconds", lambda result, _: f"{result.seconds:.1f}", lambda _: None),
        Column("memory", "peak memory, MiB", lambda result, _: _memory(result), lambda _: None),
    ]
    return {column.name: column for column in columns}


def _of_measure(measure: Measure) -> list[Column]:
    """A measure, and its gain; accuracy has its own gain, as the user wants it expressed."""

    def spread_cell(result: Result, _notes: Footnotes) -> str:
        found = result.spread_of(measure.name)
        return spread_text(found, measure) if found else NOT_APPLICABLE

    def gain_cell(result: Result, _notes: Footnotes) -> str:
        return estimate_cell(result, result.gain_in(measure.name), digits=measure.digits)

    def spread_value(result: Result) -> float | None:
        found = result.spread_of(measure.name)
        return found.mean if found else None

    def gain_value(result: Result) -> float | None:
        return _mean(result.gain_in(measure.name))

    best: Literal["highest", "lowest"] = "highest" if measure.higher_is_better else "lowest"
    unit = ", %" if measure.percent else ""
    columns = [Column(measure.name, f"{measure.heading}{unit}", spread_cell, spread_value, best)]
    if measure.name != "accuracy":
        unit = ", points" if measure.percent else ""
        heading = f"{measure.heading} gain{unit}"
        columns.append(Column(measure.name + GAIN, heading, gain_cell, gain_value, best))
    return columns


def _gain_cell(kind: GainKind) -> Callable[[Result, Footnotes], str]:
    def cell(result: Result, notes: Footnotes) -> str:
        text = estimate_cell(result, result.gain, digits=GAIN_DIGITS[kind], bare=kind == "ratio")
        return f"{text} {notes.mark(result.notes)}".rstrip()

    return cell


def estimate_cell(result: Result, estimate: Estimate | None, *, digits: int, bare: bool = False) -> str:
    """An estimate's text; what stands there without one says whether there could be one."""
    if estimate is None:
        return _empty(result)
    return estimate_text(estimate, digits=digits, bare=bare)


def percent_text(spread: Spread) -> str:
    """`71.20 ± 0.35`, from a fraction."""
    return spread_text(spread, MEASURES["accuracy"])


def spread_text(spread: Spread, measure: Measure) -> str:
    """A mean with its standard deviation, in the measure's unit."""
    scale, digits = measure.scale, measure.digits
    std = NOT_AVAILABLE if spread.std is None else f"{scale * spread.std:.{digits}f}"
    return f"{scale * spread.mean:.{digits}f} ± {std}"


def estimate_text(estimate: Estimate, *, digits: int, bare: bool = False) -> str:
    """`+1.20 [+0.40, +2.00]`; `+1.20 [n/a]` without an interval, or `+1.20` where none could be (`bare`)."""
    mean = f"{estimate.mean:+.{digits}f}"
    if estimate.low is None or estimate.high is None:
        return mean if bare and estimate.num_pairs > 1 else f"{mean} [{NOT_AVAILABLE}]"
    return f"{mean} [{estimate.low:+.{digits}f}, {estimate.high:+.{digits}f}]"


def verdict_text(result: Result) -> str:
    """`better`, `worse` or `undecided`, and what would settle it: `undecided (6 more seeds)`."""
    verdict = result.verdict
    if verdict is None:
        return _empty(result)
    if verdict.more is None:
        return verdict.word
    unit = "draw" if result.num_draws > 1 else "seed"
    return f"{verdict.word} ({verdict.more} more {unit}{'s' if verdict.more > 1 else ''})"


def flips_text(result: Result) -> str:
    """`31.2 / 20.4`: test examples that ERM has wrong and the method right, and the reverse, a seed."""
    if not result.flips:
        return _empty(result)
    fixed, broken = (fmean(getattr(flips, name) for flips in result.flips) for name in ("fixed", "broken"))
    return f"{fixed:.1f} / {broken:.1f}"


def mcnemar_text(result: Result) -> str:
    """The p-value of each seed, in their order; not adjusted."""
    return ", ".join(_p(flips.p_value) for flips in result.flips) or _empty(result)


def p_text(result: Result) -> str:
    """The verdict's p-value, after Holm."""
    verdict = result.verdict
    return _empty(result) if verdict is None or verdict.p_adjusted is None else _p(verdict.p_adjusted)


def _p(value: float) -> str:
    return "<0.001" if value < 0.001 else f"{value:.3f}"


def _empty(result: Result) -> str:
    """What stands where there is no number: whether there could be one."""
    return NOT_APPLICABLE if result.row.is_baseline else NOT_AVAILABLE


def _percent_or_none(spread: Spread | None) -> str:
    return percent_text(spread) if spread else NOT_APPLICABLE


def _memory(result: Result) -> str:
    return NOT_AVAILABLE if result.peak_memory is None else f"{result.peak_memory:.0f}"


def _mean(estimate: Estimate | None) -> float | None:
    return None if estimate is None else estimate.mean
