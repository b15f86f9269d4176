"""A comparison as tables of text, and what is said below them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from molere_cli.report.columns import Column, chosen_columns
from molere_cli.report.comparison import Comparison, Result
from molere_cli.report.footnotes import Footnotes


@dataclass(frozen=True)
class TextGrid:
    """A table of text: the first column on the left, the others numbers.

    best: the cells, by row and column, that hold the best number of their column; more than one where they
    are equal, none where a column has no best one or there is a single row.
    decided: the rows whose difference is more than chance.
    """

    title: str
    headings: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    best: frozenset[tuple[int, int]] = frozenset()
    decided: frozenset[int] = frozenset()


def grids(
    comparison: Comparison, footnotes: Footnotes, *, columns: Sequence[str] | None = None
) -> list[TextGrid]:
    """A grid for each dataset, backbone and test set; its notes go into `footnotes`.

    Args:
        columns: names of the columns behind the method's, None: the usual ones.

    Raises:
        ConfigError: there is no such column.
    """
    return [
        _grid(
            f"{dataset}, {backbone}: {test_set}",
            results,
            chosen_columns(columns, results, comparison.gain_kind),
            footnotes,
        )
        for (dataset, backbone, test_set), results in comparison.groups.items()
    ]


def explanation(comparison: Comparison) -> str:
    """One line on how gains, intervals and verdicts were made."""
    draws = any(result.num_draws > 1 for result in comparison.results)
    over = "seeds shared with ERM" + (", or over draws of the data" if draws else "")
    made = f"[ ]: 95% interval, paired Student's t over the {over}; ±: standard deviation"
    if any(result.verdict for result in comparison.results):
        made += "; verdict: the same test on accuracy at 5%, after Holm over the rows of a table"
    if comparison.gain_kind == "ratio":
        made += "; the ratio jumps from -1 to 1 where accuracies are equal, so it has no interval"
    return made


def _grid(title: str, results: Sequence[Result], columns: Sequence[Column], footnotes: Footnotes) -> TextGrid:
    return TextGrid(
        title=title,
        headings=("method", *(column.heading for column in columns)),
        rows=[
            (result.row.label, *(column.cell(result, footnotes) for column in columns)) for result in results
        ],
        best=frozenset(
            (row, place)
            for place, column in enumerate(columns, start=1)
            for row in _best_rows(column, results)
        ),
        decided=frozenset(
            row
            for row, result in enumerate(results)
            if result.verdict is not None and result.verdict.word != "undecided"
        ),
    )


def _best_rows(column: Column, results: Sequence[Result]) -> list[int]:
    values = {row: value for row, result in enumerate(results) if (value := column.value(result)) is not None}
    if column.best is None or len(results) < 2 or not values:
        return []
    best = max(values.values()) if column.best == "highest" else min(values.values())
    return [row for row, value in values.items() if value == best]
