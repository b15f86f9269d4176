"""The training examples of one run, as the page shows them.

Shapes: N examples of the pool.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy
import pyarrow as pa
from numpy.typing import NDArray

from molere_cli.report import POOL_SET, RunDir, RunTable
from molere_report.gallery import ImageBudget, Picture

COLUMNS = [
    *("index", "label", "prediction", "probability", "group", "path"),
    *("clean_label", "aum", "mean_weight", "in_validation"),
]


@dataclass(frozen=True, eq=False)
class Pool:
    """The pool of a finished run."""

    run: RunDir
    table: pa.Table
    class_names: list[str]

    @classmethod
    def of(cls, run: RunDir) -> Pool:
        """Read from its table.

        Raises:
            RunError: the table is missing, damaged, or of a version that did not record this.
        """
        table = RunTable.pool(run).read(COLUMNS)
        return cls(run, table, [str(name) for name in run.environment().get("class_names", [])])

    def __len__(self) -> int:
        return len(self.table)

    def numbers(self, column: str) -> NDArray[Any]:
        """A column (N,); float64 with nan for null where some are."""
        found: NDArray[Any] = self.table[column].to_numpy()
        return found

    def name(self, label: int | None) -> str | None:
        """Of a class."""
        return None if label is None else self.class_names[label]

    def pictures(self, rows: Iterable[int], budget: ImageBudget, *others: RunDir) -> list[Picture]:
        """Of some rows; `others` may have the image where the run has not."""
        chosen = self.table.take(pa.array(list(rows), pa.int64())).to_pylist()
        return [self._picture(row, budget, (self.run, *others)) for row in chosen]

    def _picture(self, row: dict[str, Any], budget: ImageBudget, runs: Iterable[RunDir]) -> Picture:
        given, predicted = self.name(row["label"]), self.name(row["prediction"])
        clean = self.name(row["clean_label"])
        aum, weight = row["aum"], row["mean_weight"]
        score = "no AUM: it was not trained on" if aum is None else f"AUM {aum:.2f}"
        facts = [f"given {given}"]
        if clean is not None and clean != given:
            facts.append(f"truly {clean}")
        facts += [f"predicted {predicted} {row['probability']:.2f}", score]
        if weight is not None and weight != 1:
            facts.append(f"weight {weight:.2f}")
        facts.append(row["path"] or f"example {row['index']}")
        return budget.picture(
            runs,
            (POOL_SET, row["index"]),
            alternative=f"given {given}, predicted {predicted}, {score}",
            facts=facts,
        )


def quantile(values: NDArray[Any], share: float) -> float | None:
    """Of the known values; None where there are none."""
    known = values[~numpy.isnan(values)]
    return float(numpy.quantile(known, share)) if len(known) else None
