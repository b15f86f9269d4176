"""Fingerprints of data, compared; `data/fingerprint.py` makes them.

A fingerprint is 32 hex digits over what a reader of images says of them (all pixels where they are in
memory), and after a plus as many over samples of the files, where those say no more than their names and
sizes. Versions up to 0.1 recorded the first part alone, which can still be compared.
"""

from __future__ import annotations


def same_fingerprint(one: str, other: str) -> bool:
    """Whether two fingerprints agree in all that both cover."""
    return all(mine == theirs for mine, theirs in zip(one.split("+"), other.split("+"), strict=False))
