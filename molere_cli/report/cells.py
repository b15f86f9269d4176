"""What a person reads in the cells of a table: rounded numbers, units in the heading, footnote marks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from molere_cli.report.comparison import Comparison, Result
from molere_cli.report.rows import seeds_text
from molere_cli.report.statistics import Estimate, GainKind, Spread

NOT_AVAILABLE = "n/a"
NOT_APPLICABLE = "-"
GAIN_UNITS: dict[GainKind, str] = {"points": "points", "relative": "%", "ratio": "ratio"}
GAIN_DIGITS: dict[GainKind, int] = {"points": 2, "relative": 2, "ratio": 4}
SUPERSCRIPTS = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")


@dataclass(frozen=True)
class Grid:
    """A table of text: the first column on the left, the others numbers."""

    title: str
    headings: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]


@dataclass
class Footnotes:
    """Notes in the order of their numbers; the same sentence has one number."""

    notes: list[str] = field(default_factory=list)

    def mark(self, notes: Sequence[str]) -> str:
        """The superscript numbers of `notes`."""
        self.notes += [note for note in dict.fromkeys(notes) if note not in self.notes]
        return " ".join(superscript(self.notes.index(note) + 1) for note in notes)

    def lines(self) -> list[str]:
        """`¹ sentence`, one a line."""
        return [f"{superscript(number)} {note}" for number, note in enumerate(self.notes, start=1)]


def grids(comparison: Comparison, footnotes: Footnotes) -> list[Grid]:
    """A grid for each dataset and backbone; its notes go into `footnotes`."""
    kind = comparison.gain_kind
    return [
        Grid(
            title=f"{dataset}, {backbone}: {comparison.test_set}",
            headings=_headings(results, kind),
            rows=[_cells(result, results, kind, footnotes) for result in results],
        )
        for (dataset, backbone), results in comparison.groups.items()
    ]


def explanation(comparison: Comparison) -> str:
    """One line on how gains and intervals were made."""
    made = "[ ]: 95% interval, paired Student's t over the seeds shared with ERM; ±: standard deviation"
    if comparison.gain_kind == "ratio":
        made += "; the ratio jumps from -1 to 1 where accuracies are equal, so it has no interval"
    return made


def superscript(number: int) -> str:
    """`12` as `¹²`."""
    return str(number).translate(SUPERSCRIPTS)


def _headings(results: Sequence[Result], kind: GainKind) -> tuple[str, ...]:
    groups = ("worst group, %", "its gain, points") if _has_groups(results) else ()
    return (
        "method",
        "n",
        "seeds",
        "accuracy, %",
        f"gain, {GAIN_UNITS[kind]}",
        "margin gain",
        *groups,
        "seconds",
    )


def _cells(
    result: Result, results: Sequence[Result], kind: GainKind, footnotes: Footnotes
) -> tuple[str, ...]:
    def estimate_cell(estimate: Estimate | None, digits: int) -> str:
        empty = NOT_APPLICABLE if result.row.is_baseline else NOT_AVAILABLE
        return estimate_text(estimate, digits=digits) if estimate else empty

    gain = estimate_cell(result.gain, GAIN_DIGITS[kind])
    groups = (
        (
            percent_text(result.worst_group) if result.worst_group else NOT_APPLICABLE,
            estimate_cell(result.worst_group_gain, 2),
        )
        if _has_groups(results)
        else ()
    )
    return (
        result.row.label,
        str(len(result.row.runs)),
        seeds_text(result.row.runs),
        percent_text(result.accuracy),
        f"{gain} {footnotes.mark(result.notes)}".rstrip(),
        estimate_cell(result.margin_gain, 4),
        *groups,
        f"{result.seconds:.1f}",
    )


def percent_text(spread: Spread) -> str:
    """`71.20 ± 0.35`, from a fraction."""
    std = NOT_AVAILABLE if spread.std is None else f"{100 * spread.std:.2f}"
    return f"{100 * spread.mean:.2f} ± {std}"


def estimate_text(estimate: Estimate, *, digits: int) -> str:
    """`+1.20 [+0.40, +2.00]`; `+1.20 [n/a]` for a single pair; `+1.20` for what has no interval."""
    mean = f"{estimate.mean:+.{digits}f}"
    if estimate.num_pairs < 2:
        return f"{mean} [{NOT_AVAILABLE}]"
    if estimate.low is None or estimate.high is None:
        return mean
    return f"{mean} [{estimate.low:+.{digits}f}, {estimate.high:+.{digits}f}]"


def _has_groups(results: Sequence[Result]) -> bool:
    return any(result.worst_group for result in results)
