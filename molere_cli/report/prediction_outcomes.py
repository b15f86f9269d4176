"""What pairs of runs got right, test example by test example."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy
from numpy.typing import NDArray

from molere_cli.foundation.errors import RunError
from molere_cli.report.significance import Flips
from molere_cli.report.statistics import Estimate, crossed_estimate, example_estimate
from molere_cli.runs.run_directory import RunDir

COLUMNS = ["index", "label", "prediction"]


@dataclass(frozen=True, eq=False)
class Tested:
    """Test examples in their order, int64 (N,) each, and what a run predicted."""

    index: NDArray[numpy.int64]
    label: NDArray[numpy.int64]
    prediction: NDArray[numpy.int64]

    @property
    def right(self) -> NDArray[numpy.bool_]:
        """Which predictions were right, (N,)."""
        right: NDArray[numpy.bool_] = self.prediction == self.label
        return right

    def is_on_the_examples_of(self, other: Tested) -> bool:
        """Whether both are of the same examples with the same labels, in one order."""
        return numpy.array_equal(self.index, other.index) and numpy.array_equal(self.label, other.label)


@dataclass(frozen=True, eq=False)
class Flipped:
    """What pairs of runs that were tested on the same examples differ in, in the order of the pairs.

    differences: 100 * (right - right by ERM), float64 (S, I), so that its mean is the gain in points.
    """

    differences: NDArray[numpy.float64]

    @property
    def flips(self) -> list[Flips]:
        """Of each pair."""
        return [Flips(int((row > 0).sum()), int((row < 0).sum())) for row in self.differences]

    @property
    def gain(self) -> Estimate:
        """With its interval for new seeds on new test examples; of a single pair for new examples alone."""
        if len(self.differences) == 1:
            return example_estimate(self.differences[0])
        return crossed_estimate(self.differences)


def flipped(pairs: Sequence[tuple[Path, Path]], test_set: str) -> Flipped:
    """What the first run of each pair of run directories has right and the second has not.

    Raises:
        RunError: a table is missing or damaged, or not all runs were tested on the same examples.
    """
    tested = [tuple(tested_examples(RunDir(path), test_set) for path in pair) for pair in pairs]
    first = tested[0][0]
    for pair, paths in zip(tested, pairs, strict=True):
        for found, path in zip(pair, paths, strict=True):
            if not found.is_on_the_examples_of(first):
                raise RunError(f"{path} and {pairs[0][0]} were not tested on the same examples")
    rows = [ours.right.astype(numpy.float64) - theirs.right for ours, theirs in tested]
    return Flipped(100 * numpy.stack(rows))


def tested_examples(run: RunDir, test_set: str) -> Tested:
    """What a finished run predicted on one test set.

    Raises:
        RunError: the table is missing, damaged, or has no such test set.
    """
    # Here, since most comparisons need no table.
    from molere_cli.runs.run_tables import RunTable

    table = RunTable.predictions(run).read(COLUMNS, test_set=test_set)
    return Tested(*(table[name].to_numpy() for name in COLUMNS))
