"""A comparison as LaTeX tables, for the package booktabs."""

from __future__ import annotations

from collections.abc import Sequence

from molere_cli.foundation.plain_text import harmless
from molere_cli.report.cells import TextGrid

SPECIAL = str.maketrans(
    {
        **{character: f"\\{character}" for character in "&%$#_{}"},
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "±": r"$\pm$",
        **{sign: f"\\textsuperscript{{{number}}}" for number, sign in enumerate("⁰¹²³⁴⁵⁶⁷⁸⁹")},
    }
)
# Behind the name of a method that is decidedly better or worse than ERM.
MARK = "$^{*}$"


def as_latex(grids: Sequence[TextGrid], notes: Sequence[str]) -> str:
    """A `table` for each grid: its title the caption, the best of a column bold, a star at every method
    that the verdict is decided on; the notes below the last one."""
    tables = [_table(grid) for grid in grids]
    explained = [f"{MARK} decided; bold: the best of its column", *map(escaped, notes)]
    below = "\n\n".join(rf"\noindent{{\footnotesize {note}\par}}" for note in explained)
    return "\n\n".join(["% needs \\usepackage{booktabs}", *tables, below])


def escaped(text: str) -> str:
    """Text whose every character LaTeX prints as it is."""
    return harmless(text).translate(SPECIAL)


def _table(grid: TextGrid) -> str:
    lines = [_line([escaped(heading) for heading in grid.headings])]
    body = [
        _line([_cell(grid, row, column) for column in range(len(grid.headings))])
        for row in range(len(grid.rows))
    ]
    layout = "l" + "r" * (len(grid.headings) - 1)
    return "\n".join(
        [
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{escaped(grid.title)}}}",
            rf"\begin{{tabular}}{{{layout}}}",
            r"\toprule",
            *lines,
            r"\midrule",
            *body,
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
        ]
    )


def _cell(grid: TextGrid, row: int, column: int) -> str:
    text = escaped(grid.rows[row][column])
    if (row, column) in grid.best:
        text = rf"\textbf{{{text}}}"
    return text + MARK if column == 0 and row in grid.decided else text


def _line(cells: Sequence[str]) -> str:
    return " & ".join(cells) + r" \\"
