"""What was taken of a dataset and what was not, in a line and for the record.

Shapes: N examples of a part.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from molere_cli.registry.specs import Dataset, Examples

SHOWN_CLASSES = 10
HOW_TAKEN = {
    "animated": "animated, of which the first frame is taken",
    "transparent": "with transparency, put on white",
    "16 bits": "of 16 bits a channel, scaled to 8",
}


@dataclass(frozen=True)
class DatasetSummary:
    """classes, groups: examples of each in every part, by name. skipped: files or rows that are no
    examples, by why. converted: images that could be read in more than one way, by what they are."""

    name: str
    classes: Mapping[str, Mapping[str, int]]
    groups: Mapping[str, Mapping[str, int]]
    skipped: Mapping[str, int]
    converted: Mapping[str, int]
    notes: Sequence[str]

    def line(self) -> str:
        """All of it that fits: sizes of the parts, and of the classes of the first one."""
        first, *others = self.classes
        sizes = [f"{first} {sum(self.classes[first].values()):,} ({_listed(self.classes[first])})"]
        sizes += [f"{part} {sum(self.classes[part].values()):,}" for part in others]
        return "; ".join([f"{self.name}: {', '.join(sizes)}", *self.remarks()])

    def remarks(self) -> list[str]:
        """What a user should know of what was left out, and of how images were read."""
        remarks = []
        if self.skipped:
            reasons = ", ".join(f"{why} {number:,}" for why, number in self.skipped.items())
            remarks.append(f"{sum(self.skipped.values()):,} skipped: {reasons}")
        remarks += [f"{number:,} {HOW_TAKEN.get(what, what)}" for what, number in self.converted.items()]
        return [*remarks, *self.notes]

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "classes": {part: dict(counts) for part, counts in self.classes.items()},
            "groups": {part: dict(counts) for part, counts in self.groups.items()},
            "passed_over": dict(self.skipped),
            "particular": dict(self.converted),
            "notes": list(self.notes),
        }


def dataset_summary(
    name: str, dataset: Dataset, converted: Mapping[str, int], *, notes: Sequence[str] = ()
) -> DatasetSummary:
    """The summary of a dataset as it is trained and tested on."""
    tuning = {"tuning": dataset.tuning} if dataset.tuning is not None else {}
    parts: dict[str, Examples] = {"pool": dataset.pool, **dataset.tests, **tuning}
    if any(test is dataset.pool for test in dataset.tests.values()):
        del parts["pool"]
    return DatasetSummary(
        name=name,
        classes={part: _counts(examples.labels, dataset.class_names) for part, examples in parts.items()},
        groups={
            part: _counts(examples.groups, dataset.group_names)
            for part, examples in parts.items()
            if examples.groups is not None
        },
        skipped=dataset.skipped,
        converted=dict(converted),
        notes=[*dataset.notes, *notes],
    )


def _counts(numbers_N: Tensor, names: Sequence[str]) -> dict[str, int]:
    """How many of each; -1, no group, does not count."""
    counts = numbers_N[numbers_N >= 0].bincount(minlength=len(names)).tolist()
    return dict(zip(names or map(str, range(len(counts))), counts, strict=False))


def _listed(counts: Mapping[str, int]) -> str:
    if len(counts) <= SHOWN_CLASSES:
        return ", ".join(f"{name} {count:,}" for name, count in counts.items())
    return f"{len(counts):,} classes of {min(counts.values()):,} to {max(counts.values()):,}"
