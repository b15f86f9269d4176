"""Footnotes of a table: the same sentence has one number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

SUPERSCRIPTS = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")


@dataclass
class Footnotes:
    """Notes in the order of their numbers."""

    notes: list[str] = field(default_factory=list)

    def mark(self, notes: Sequence[str]) -> str:
        """The superscript numbers of `notes`."""
        self.notes += [note for note in dict.fromkeys(notes) if note not in self.notes]
        return " ".join(superscript(self.notes.index(note) + 1) for note in notes)

    def lines(self) -> list[str]:
        """`¹ sentence`, one a line."""
        return [f"{superscript(number)} {note}" for number, note in enumerate(self.notes, start=1)]


def superscript(number: int) -> str:
    """`12` as `¹²`."""
    return str(number).translate(SUPERSCRIPTS)
