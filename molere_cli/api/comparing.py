"""`molere.compare`: runs as a table that shows itself."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from molere_cli.api.logger import LOGGER
from molere_cli.report import render
from molere_cli.report.cells import explanation, grids
from molere_cli.report.comparison import Comparison, compare_runs
from molere_cli.report.footnotes import Footnotes
from molere_cli.report.statistics import GainKind
from molere_cli.report.table import Format, as_json


@dataclass(frozen=True, eq=False)
class ComparisonTable:
    """Gains over ERM with their intervals, as `molere compare` has them."""

    comparison: Comparison
    columns: Sequence[str] | None = None

    @property
    def rows(self) -> list[dict[str, Any]]:
        """All numbers, a row each: accuracies in [0, 1], gains as `gain` said."""
        return [as_json(result, self.comparison) for result in self.comparison.results]

    def render(self, format: Format = "table") -> str:
        """As text: `table`, `markdown`, `csv`, `json` or `latex`."""
        return render(self.comparison, format, columns=self.columns)

    def __repr__(self) -> str:
        return self.render()

    def _repr_html_(self) -> str:
        footnotes = Footnotes()
        parts = []
        for grid in grids(self.comparison, footnotes, columns=self.columns):
            head = "".join(f'<th scope="col">{escape(text)}</th>' for text in grid.headings)
            body = "".join(
                "<tr>"
                + f'<th scope="row">{escape(cells[0])}</th>'
                + "".join(f"<td>{escape(cell)}</td>" for cell in cells[1:])
                + "</tr>"
                for cells in grid.rows
            )
            caption = f"<caption>{escape(grid.title)}</caption>"
            parts.append(f"<table>{caption}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>")
        lines = [explanation(self.comparison), *footnotes.lines()]
        return "".join([*parts, *(f"<p>{escape(line)}</p>" for line in lines)])


def compare(
    runs: Iterable[str | os.PathLike[str]],
    *,
    gain: GainKind = "points",
    test_set: str = "test",
    columns: Sequence[str] | None = None,
) -> ComparisonTable:
    """Compare runs with ERM, seed by seed.

    Args:
        runs: what `train` returned, or run directories.
        gain: `points`, `relative` or `ratio`.
        columns: names of the columns to show, None: the usual ones.

    Raises:
        RunError: none is finished, or none was tested on `test_set`.
    """
    comparison = compare_runs([Path(run) for run in runs], gain=gain, test_set=test_set)
    for warning in comparison.warnings:
        LOGGER.warning("%s", warning)
    return ComparisonTable(comparison, columns)
