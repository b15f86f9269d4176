"""A validation set that the user has listed. Shapes: N examples of the pool."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from molere_cli import SplitRequest, csv_rows


def choose_listed(request: SplitRequest) -> Tensor:
    """The examples whose stable index the CSV file `request.argument` has in its column `index`: bool (N,).

    Other columns are skipped.

    Raises:
        DataError: the file cannot be read, or a row holds no index, one that the pool lacks, or one that
            stood there before; the sentence names file and line.
    """
    assert request.argument is not None
    position_of = {index: position for position, index in enumerate(request.indices.tolist())}
    chosen_N = torch.zeros(len(request.labels), dtype=torch.bool)
    for row in csv_rows(Path(request.argument), ("index",)):
        index = row.number("index")
        position = position_of.get(index)
        if position is None:
            raise row.error(f"the pool has no example of index {index}")
        if chosen_N[position]:
            raise row.error(f"index {index} stands there twice")
        chosen_N[position] = True
    return chosen_N
