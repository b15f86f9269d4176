"""What is measured on a test set, under the names of the records, and how it is written."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Measure:
    """One number of a test set.

    name: its key in the records, behind the test set's. heading: over its column, without a unit.
    percent: whether a fraction in [0, 1] is shown in percent, and its gain in percentage points.
    """

    name: str
    heading: str
    percent: bool = True
    higher_is_better: bool = True

    @property
    def scale(self) -> float:
        """From what is recorded to what is shown."""
        return 100.0 if self.percent else 1.0

    @property
    def digits(self) -> int:
        """Behind the point."""
        return 2 if self.percent else 4


MEASURES = {
    measure.name: measure
    for measure in (
        Measure("accuracy", "accuracy"),
        Measure("top5", "top-5"),
        Measure("worst_group", "worst group"),
        Measure("worst_class", "worst class"),
        Measure("balanced_accuracy", "balanced accuracy"),
        Measure("macro_f1", "macro F1"),
        Measure("nll", "NLL", percent=False, higher_is_better=False),
        Measure("ece", "ECE", percent=False, higher_is_better=False),
        Measure("brier", "Brier score", percent=False, higher_is_better=False),
        Measure("margin", "margin", percent=False),
        Measure("median_margin", "median margin", percent=False),
    )
}
