"""Names of classes and groups, so that two that look alike are one."""

from __future__ import annotations

import os
import unicodedata

MOST_DIGITS = 19


def plain_name(name: str) -> str:
    """A name without space around it, its accents in one encoding (NFC); what is not UTF-8 in the name of a
    file stands as `\\xNN`."""
    text = os.fsencode(name).decode("utf-8", "backslashreplace") if _has_surrogates(name) else name
    return unicodedata.normalize("NFC", text).strip()


def ordered_names(names: set[str]) -> tuple[str, ...]:
    """In order; by number if all are numbers, so that 10 comes after 9."""
    if all(name.isdecimal() and len(name) < MOST_DIGITS for name in names):
        return tuple(sorted(names, key=lambda name: (int(name), name)))
    return tuple(sorted(names))


def _has_surrogates(name: str) -> bool:
    return any("\ud800" <= character <= "\udfff" for character in name)
