"""Entries by name: whose counts where several plugins have one, and what to say where none has."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Generic, TypeVar

from molere_cli.foundation.errors import UnknownNameError
from molere_cli.registry.references import Spec

SpecT = TypeVar("SpecT", bound=Spec)


class PluginWarning(UserWarning):
    """A plugin, or part of one, is left out."""


@dataclass(frozen=True, eq=False)
class Entry(Generic[SpecT]):
    """A registered record and the plugin it came from.

    first_party: whether the plugin is of the distribution that the core is of.
    """

    spec: SpecT
    plugin: str
    first_party: bool = False

    @property
    def prefixed(self) -> str:
        return f"{self.plugin}:{self.spec.name}"


@dataclass
class KindRegistry(Generic[SpecT]):
    """All offers of one kind."""

    record: type[SpecT]
    entries: list[Entry[SpecT]] = field(default_factory=list)

    @property
    def kind(self) -> str:
        return self.record.kind

    def named(self, name: str) -> list[Entry[SpecT]]:
        return [entry for entry in self.entries if name in {entry.spec.name, entry.prefixed}]

    def get(self, name: str) -> SpecT:
        """The record of that plain or prefixed (`plugin:name`) name.

        Raises:
            UnknownNameError: no plugin offers it (with the nearest names), or several third parties do.
        """
        if found := self.named(name):
            return chosen(self.kind, name, found).spec
        raise unknown(self.kind, name, [entry.spec.name for entry in self.entries])

    def collisions(self) -> Iterator[str]:
        """A sentence for every plain name that several plugins offer."""
        for name in dict.fromkeys(entry.spec.name for entry in self.entries):
            same = [entry for entry in self.entries if entry.spec.name == name]
            if len(same) > 1:
                forms = " and ".join(entry.prefixed for entry in same)
                ours = [entry for entry in same if entry.first_party]
                plain = f"{name} alone is {ours[0].prefixed}" if len(ours) == 1 else "say which"
                yield f"{self.kind} {name!r} is offered as {forms}; {plain}"


def chosen(kind: str, name: str, found: Sequence[Entry[SpecT]]) -> Entry[SpecT]:
    """The one offer, or the one of the core's own distribution: what is installed beside it takes no name
    from a command that worked.

    Raises:
        UnknownNameError: there are several, and no single one is first-party.
    """
    ours = [entry for entry in found if entry.first_party]
    if len(found) == 1:
        return found[0]
    if len(ours) != 1:
        raise ambiguous(kind, name, [entry.prefixed for entry in found])
    others = " or ".join(entry.prefixed for entry in found if entry is not ours[0])
    warnings.warn(
        f"{kind} {name!r} is {ours[0].prefixed}; say {others} for the other", PluginWarning, stacklevel=2
    )
    return ours[0]


def unknown(
    kind: str, name: str, known: Iterable[str], *, listed_in: str = "`molere plugins`"
) -> UnknownNameError:
    """The error for a name that is not among those known, with what comes nearest.

    listed_in: where they stand, if they are too many for a sentence.
    """
    known = sorted(set(known))
    if close := get_close_matches(name, known, n=3, cutoff=0.6):
        return UnknownNameError(f"unknown {kind} {name!r}; did you mean {_either(close)}?")
    listed = ", ".join(known) if len(known) <= 20 else f"{len(known)} names; see {listed_in}"
    return UnknownNameError(f"unknown {kind} {name!r}; known: {listed or 'none'}")


def ambiguous(kind: str, name: str, forms: Iterable[str]) -> UnknownNameError:
    """The error for a plain name that several plugins offer."""
    return UnknownNameError(f"{kind} {name!r} is offered more than once; say which: {', '.join(forms)}")


def _either(names: list[str]) -> str:
    return " or ".join(repr(name) for name in names)
