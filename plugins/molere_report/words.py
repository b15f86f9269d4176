"""What the page says in words, made by rule from the intervals."""

from __future__ import annotations

from collections.abc import Sequence

from molere_cli.report import (
    GAIN_DIGITS,
    GAIN_UNITS,
    MEASURES,
    Estimate,
    GainKind,
    Result,
    Verdict,
    estimate_text,
    verdict_text,
)

SIGNS = {"better": "▲", "worse": "▼", "undecided": "?"}
"""So that a verdict is not a matter of colour alone."""
MOST_ROWS = 6
"""Of a table that the first screen names."""


def headline(results: Sequence[Result]) -> str:
    """The verdict on all rows of a page.

    Only the two verdicts that a test has decided are called better and worse; no row is picked as the best,
    since picking one by its test accuracy would flatter it.
    """
    judged = [result for result in results if result.verdict is not None]
    if not judged:
        return "Nothing is known of a gain: no row shares a seed with runs of ERM"
    words = [result.verdict.word for result in judged if result.verdict is not None]
    if len(judged) == 1:
        label = judged[0].row.label
        return {
            "better": f"{label} is better than ERM",
            "worse": f"{label} is worse than ERM",
            "undecided": f"Whether {label} is better than ERM is undecided",
        }[words[0]]
    counts = [f"{words.count(word)} {word}" for word in SIGNS if word in words]
    return f"Of {len(judged)} methods measured against ERM: {', '.join(counts)}"


def gain_sentence(result: Result, kind: GainKind) -> str:
    """`+2.10 points [+1.00, +3.20] over 5 seeds; undecided (6 more seeds)`, for a row with a baseline."""
    if result.gain is None:
        return "; ".join(result.notes) or "no gain is known"
    gained = estimate_text(result.gain, digits=GAIN_DIGITS[kind], bare=kind == "ratio")
    over = counted(len(result.gains), "seed")
    return f"{gained} {GAIN_UNITS[kind]} over {over}: {verdict_text(result)}"


def worst_sentence(result: Result) -> str | None:
    """What became of the worst group, or where there are no groups of the worst class; None where a run has
    recorded neither."""
    for name in ("worst_group", "worst_class"):
        found, gained = result.spread_of(name), result.gain_in(name)
        if found is not None and gained is not None:
            now = f"{100 * found.mean:.1f}%"
            change = estimate_text(gained, digits=MEASURES[name].digits)
            return f"{MEASURES[name].heading} {now}, {change} points on ERM's"
    return None


def cost_sentence(result: Result) -> str:
    """Training time and memory of a run, beside those of ERM's."""
    sentences = [f"{duration(result.seconds)} a run"]
    if result.baseline is not None and (of_erm := mean_seconds(result)):
        sentences.append(f"{result.seconds / of_erm:.1f} times ERM's {duration(of_erm)}")
    if result.peak_memory is not None:
        memory = f"at most {result.peak_memory:,.0f} MiB"
        of_erms = result.baseline.peak_memory if result.baseline is not None else None
        sentences.append(memory + (f", ERM {of_erms:,.0f}" if of_erms is not None else ""))
    return ", ".join(sentences)


def mean_seconds(result: Result) -> float | None:
    """Of a run of the baseline; None without one."""
    if result.baseline is None:
        return None
    seconds = [run.seconds for run in result.baseline.runs.values()]
    return sum(seconds) / len(seconds)


def duration(seconds: float) -> str:
    """`3.4 s`, `12 min`, `5.2 h`."""
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def word_of(verdict: Verdict | None) -> str:
    """With its sign, so that it can be told without colour; a dash without a verdict."""
    return "-" if verdict is None else f"{SIGNS[verdict.word]} {verdict.word}"


def points(estimate: Estimate | None) -> str:
    """A gain in points with its interval; empty without one."""
    return "" if estimate is None else estimate_text(estimate, digits=2)


def counted(number: int, noun: str) -> str:
    """`1 seed`, `1,200 seeds`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
