"""The rows of a CSV file with a header, each knowing the line it stands on.

Files come from spreadsheets too: with a byte order mark, as UTF-8 or UTF-16, with semicolons or tabs for
commas, and with headers that somebody has typed.
"""

from __future__ import annotations

import codecs
import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from molere_cli.foundation.errors import DataError, on_one_line, shown

DELIMITERS = ",;\t"
MOST_DIGITS = 19


@dataclass(frozen=True, slots=True)
class CsvRow:
    """One row: the cells asked for, by column; `line` is the line of the file that it ends on, from 1."""

    path: Path
    line: int
    cells: Mapping[str, str]

    def __getitem__(self, column: str) -> str:
        return self.cells[column]

    def number(self, column: str, *, below: int | None = None) -> int:
        """A cell as a whole number from 0 on.

        Raises:
            DataError: it is none, or not below `below`.
        """
        cell = self.cells[column].strip()
        if not (cell.isascii() and cell.isdecimal() and len(cell) < MOST_DIGITS):
            raise self.error(f"the {column} {shown(cell)} is no whole number")
        if below is not None and int(cell) >= below:
            raise self.error(f"the {column} is {cell}; it can be 0 to {below - 1}")
        return int(cell)

    def error(self, what: str) -> DataError:
        """What is wrong with this row, as an error that names file and line."""
        return DataError(f"{self.path}, line {self.line}: {on_one_line(what, limit=400)}")


def csv_rows(path: Path, columns: Sequence[str], *, optional: Sequence[str] = ()) -> Iterator[CsvRow]:
    """Every row of a CSV file in order, with `columns` and what the file has of `optional`; blank lines are
    skipped.

    Names of columns match without regard to case and to space around them.

    Raises:
        DataError: the file cannot be read, lacks a column, or has no row or one of another length.
    """
    some = False
    try:
        with path.open(newline="", encoding=_encoding(path)) as file:
            delimiter = _delimiter(file.readline(), (*columns, *optional))
            file.seek(0)
            reader = csv.reader(file, delimiter=delimiter, strict=True)
            header = next(reader, [])
            places = _places(path, header, columns, optional)
            for cells in reader:
                if not cells:
                    continue
                if len(cells) != len(header):
                    what = f"there are {len(cells)} cells under {len(header)} columns"
                    raise DataError(f"{path}, line {reader.line_num}: {what}")
                some = True
                yield CsvRow(path, reader.line_num, {name: cells[place] for name, place in places.items()})
    except (OSError, UnicodeError, csv.Error) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise DataError(f"cannot read {path}: {reason}") from error
    if not some:
        raise DataError(f"{path} has no row below its header")


def _encoding(path: Path) -> str:
    with path.open("rb") as file:
        starts_utf_16 = file.read(2) in {codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE}
    return "utf-16" if starts_utf_16 else "utf-8-sig"


def _folded(names: Sequence[str]) -> list[str]:
    return [name.strip().casefold() for name in names]


def _delimiter(header: str, wanted: Sequence[str]) -> str:
    """The one by which the header line has most of the columns; the comma unless another does better."""

    def num_found(delimiter: str) -> int:
        return len({*_folded(wanted)} & {*_folded(next(csv.reader([header], delimiter=delimiter), []))})

    return max(DELIMITERS, key=num_found)


def _places(
    path: Path, header: Sequence[str], columns: Sequence[str], optional: Sequence[str]
) -> dict[str, int]:
    """Which cell of a row each column is."""
    there, places = _folded(header), {}
    for column in (*columns, *optional):
        (name,) = _folded([column])
        if there.count(name) > 1:
            raise DataError(f"{path}, line 1: there is more than one column {column!r}")
        if name in there:
            places[column] = there.index(name)
        elif column in columns:
            listed = ", ".join(header[:10]) or "none"
            raise DataError(
                f"{path}, line 1: there is no column {column!r}; there are: {on_one_line(listed, limit=300)}"
            )
    return places
