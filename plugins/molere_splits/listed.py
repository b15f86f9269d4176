"""A validation set that the user has listed. Shapes: N examples of the pool."""

from __future__ import annotations

import csv
from pathlib import Path

import torch
from torch import Tensor

from molere_cli import SplitError, SplitRequest


def choose_listed(request: SplitRequest) -> Tensor:
    """The examples whose stable index the CSV file `request.argument` has in its column `index`: bool (N,).

    Other columns are passed over.

    Raises:
        SplitError: the file cannot be read, or a row holds no index, one that the pool lacks, or one that
            stood there before; the sentence names file and line.
    """
    assert request.argument is not None
    path = Path(request.argument)
    position_of = {index: position for position, index in enumerate(request.indices.tolist())}
    chosen_N = torch.zeros(len(request.labels), dtype=torch.bool)
    for line, text in _index_column(path):
        where = f"{path}, line {line}"
        if not (text or "").strip().isdecimal():
            raise SplitError(f"{where}: {text or ''!r} is no index")
        position = position_of.get(int(text))
        if position is None:
            raise SplitError(f"{where}: the pool has no example of index {int(text)}")
        if chosen_N[position]:
            raise SplitError(f"{where}: index {int(text)} stands there twice")
        chosen_N[position] = True
    return chosen_N


def _index_column(path: Path) -> list[tuple[int, str]]:
    """(line, text) of every row."""
    try:
        # Spreadsheets begin UTF-8 with a byte-order mark.
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            if (reader.fieldnames or []).count("index") != 1:
                raise SplitError(f"{path} must have a header with one column index")
            return [(reader.line_num, row["index"]) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise SplitError(f"cannot read the list of validation examples {path}: {reason}") from error
