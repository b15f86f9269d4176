"""What a table of images says, part by part.

Shapes: N examples of a part.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

import torch

from molere_cli import CsvRow, DataError, Examples, FolderReader


@dataclass
class Part:
    """The images of one part, in the order of the table; paths are relative to `root`."""

    root: Path
    paths: list[str] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    groups: list[int] = field(default_factory=list)

    def add(self, row: CsvRow, path: str, *, label: int, group: int) -> None:
        """One more image; raises DataError naming the row if there is no such file."""
        if not os.path.isfile(self.root / path):
            raise row.error(f"there is no file {self.root / path}")
        self.paths.append(path)
        self.labels.append(label)
        self.groups.append(group)

    def examples(self) -> Examples:
        """Streamed images; labels and groups int64 (N,)."""
        return Examples(
            images=FolderReader(self.root, self.paths),
            labels=torch.tensor(self.labels, dtype=torch.int64),
            groups=torch.tensor(self.groups, dtype=torch.int64),
        )


def require(path: Path, *, title: str, by_hand: str) -> None:
    """Raise DataError if the table `path` is not there; `by_hand` says how it gets there."""
    if not path.is_file():
        raise DataError(
            f"{title} is not in {path.parent} and cannot be downloaded (there is no file {path}); {by_hand}, "
            "or look elsewhere with --data-dir"
        )
