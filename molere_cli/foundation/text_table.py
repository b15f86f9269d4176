"""Tables of text that fit the reader's width and encoding; numbers are never cut."""

from __future__ import annotations

import io
from collections.abc import Sequence

from rich.box import ASCII2, HEAVY_HEAD, Box
from rich.cells import cell_len
from rich.console import Console, JustifyMethod
from rich.table import Table
from rich.text import Text

from molere_cli.foundation.plain_text import harmless, in_encoding

LONGEST_WORD = 16
"""Columns of text may break a word that is longer, where there is no room for it."""
LONGEST_CELL = 100
"""Cells of text that are longer are broken anywhere."""
UNBOUNDED = 10_000


def table_text(
    title: str,
    headings: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    width: int | None,
    encoding: str = "utf-8",
    num_texts: int = 1,
) -> str:
    """A table under its title, as text without a final newline; where it does not fit, a line for each cell.

    The title is one line, however narrow the table is.

    Args:
        width: columns that the reader has; None: as wide as the table is.
        encoding: what the reader's characters are.
        num_texts: how many columns, from the first, are text; the others are numbers and stand on the right.
    """
    title, headings = _fit(title, encoding), [_fit(heading, encoding) for heading in headings]
    rows = [[_fit(cell, encoding) for cell in row] for row in rows]
    columns = list(zip(headings, *rows, strict=True))
    least = [
        min(_longest_word(cells), LONGEST_WORD) if number < num_texts else _longest_word(cells)
        for number, cells in enumerate(columns)
    ]
    most = [
        min(_longest(cells), LONGEST_CELL) if number < num_texts else _longest(cells)
        for number, cells in enumerate(columns)
    ]
    available = (UNBOUNDED if width is None else width) - 3 * len(columns) - 1
    if sum(least) > available:
        return _listed(title, headings, rows)
    table = Table(box=_box(encoding))
    widths = _widths(least, most, available)
    for number, (heading, columns_wide) in enumerate(zip(headings, widths, strict=True)):
        justify: JustifyMethod = "left" if number < num_texts else "right"
        table.add_column(Text(heading), justify=justify, width=columns_wide, overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    # In a notebook rich would show the table itself.
    console = Console(
        file=io.StringIO(),
        width=UNBOUNDED,
        color_system=None,
        legacy_windows=False,
        force_jupyter=False,
    )
    with console.capture() as captured:
        console.print(table)
    lines = [line.rstrip() for line in captured.get().splitlines()]
    return "\n".join([title, *lines] if title else lines)


def _listed(title: str, headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """`heading  cell`, a line for each cell and an empty one between rows; a terminal wraps them."""
    wide = _longest(headings)
    blocks = [
        "\n".join(f"{heading:{wide}}  {cell}".rstrip() for heading, cell in zip(headings, row, strict=True))
        for row in rows
    ]
    return "\n\n".join([title, *blocks] if title else blocks)


def _widths(least: Sequence[int], most: Sequence[int], available: int) -> list[int]:
    """Between least and most for each column; those that lack little get it first."""
    widths, spare = list(least), available - sum(least)
    lacking = sorted(range(len(least)), key=lambda column: most[column] - least[column])
    for place, column in enumerate(lacking):
        given = min(max(0, most[column] - least[column]), spare // (len(lacking) - place))
        widths[column] += given
        spare -= given
    return widths


def _fit(text: str, encoding: str) -> str:
    return in_encoding(harmless(text), encoding)


def _box(encoding: str) -> Box:
    return HEAVY_HEAD if encoding.lower().startswith("utf") else ASCII2


def _longest(cells: Sequence[str]) -> int:
    return max(cell_len(cell) for cell in cells)


def _longest_word(cells: Sequence[str]) -> int:
    return max((cell_len(word) for cell in cells for word in cell.split()), default=1)
