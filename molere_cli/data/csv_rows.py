"""The rows of a CSV file with a header, each knowing the line it stands on."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from molere_cli.errors import DataError


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
        cell = self.cells[column]
        if not (cell.isascii() and cell.isdecimal()):
            raise self.error(f"the {column} {cell!r} is no whole number")
        if below is not None and int(cell) >= below:
            raise self.error(f"the {column} is {cell}; it can be 0 to {below - 1}")
        return int(cell)

    def error(self, what: str) -> DataError:
        """What is wrong with this row, as an error that names file and line."""
        return DataError(f"{self.path}, line {self.line}: {what}")


def csv_rows(path: Path, columns: Sequence[str]) -> Iterator[CsvRow]:
    """Every row of a CSV file in order, with `columns` alone; blank lines are passed over.

    Raises:
        DataError: the file cannot be read, lacks a column, or has no row or one of another length.
    """
    some = False
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, strict=True)
            header = next(reader, [])
            for column in columns:
                if header.count(column) != 1:
                    there = "no column" if column not in header else "more than one column"
                    raise DataError(f"{path}, line 1: there is {there} {column!r}")
            places = {column: header.index(column) for column in columns}
            for cells in reader:
                if not cells:
                    continue
                if len(cells) != len(header):
                    raise DataError(
                        f"{path}, line {reader.line_num}: there are {len(cells)} cells under "
                        f"{len(header)} columns"
                    )
                some = True
                yield CsvRow(path, reader.line_num, {name: cells[place] for name, place in places.items()})
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise DataError(f"cannot read {path}: {reason}") from error
    if not some:
        raise DataError(f"{path} has no row below its header")
