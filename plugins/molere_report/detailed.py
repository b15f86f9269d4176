"""What a run predicted on a test set, with all that is known of each example."""

from __future__ import annotations

from dataclasses import dataclass

import numpy
from numpy.typing import NDArray

from molere_cli.report import RunDir, RunTable, Tested

COLUMNS = ["index", "label", "prediction", "group", "margin", "probability"]
NO_GROUP = -1


@dataclass(frozen=True, eq=False)
class Detailed(Tested):
    """Also group, int64 (N,), `NO_GROUP` for none; margin in [-1, 1] and the predicted class's probability,
    float64 (N,)."""

    group: NDArray[numpy.int64]
    margin: NDArray[numpy.float64]
    probability: NDArray[numpy.float64]


def detailed_examples(run: RunDir, test_set: str) -> Detailed:
    """Of a finished run.

    Raises:
        RunError: the table is missing, damaged, has no such test set, or is of a version that had less.
    """
    table = RunTable.predictions(run).read(COLUMNS, test_set=test_set)
    index, label, prediction, group, margin, probability = (table[name].to_numpy() for name in COLUMNS)
    return Detailed(
        index,
        label,
        prediction,
        numpy.where(numpy.isnan(group), NO_GROUP, group).astype(numpy.int64),
        margin.astype(numpy.float64),
        probability.astype(numpy.float64),
    )
