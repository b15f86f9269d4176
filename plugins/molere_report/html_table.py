"""Tables of the page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from molere_cli.commands import harmless
from molere_cli.report import TextGrid
from molere_report.subgroups import Subgroup
from molere_report.words import points, word_of


@dataclass(frozen=True)
class Table:
    """A table of text under its title; the first cell of a row is its heading."""

    title: str
    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = ()

    @classmethod
    def of(cls, grid: TextGrid, notes: Sequence[str]) -> Table:
        """A grid of the comparison, with its footnotes."""
        return cls(grid.title, grid.headings, grid.rows, [harmless(note) for note in notes])


PARTS = ("test examples", "ERM, %", "method, %", "gain, points", "verdict")


def parts_table(title: str, what: str, parts: Sequence[Subgroup]) -> Table:
    """Accuracy in parts of a test set, ERM's beside a method's."""
    rows = [
        (
            part.name,
            f"{part.num_examples:,.0f}",
            f"{100 * part.erm:.1f}",
            f"{100 * part.method:.1f}",
            points(part.gain),
            word_of(part.verdict),
        )
        for part in parts
    ]
    return Table(title, (what, *PARTS), rows)
