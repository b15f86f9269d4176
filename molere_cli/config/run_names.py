"""The names that a run, its dataset and its files get."""

from __future__ import annotations

import re
from pathlib import Path

from molere_cli.foundation.files import (
    digest,
)

SLUG_LENGTH = 80
"""Characters of a dataset's name in the name of a file; file systems take 255 in all."""


def dataset_title(dataset: str) -> str:
    """A dataset's name as tables show it: of a path its last part, however it was spelled.

    What lies in two folders of one name is told apart by its fingerprint.
    """
    name, colon, argument = dataset.partition(":")
    spelled = (
        Path(argument).is_absolute() or argument.startswith(("./", "../", "~")) or argument.endswith("/")
    )
    return f"{name}{colon}{Path(argument).name}" if spelled else dataset


def dataset_slug(dataset: str) -> str:
    """A dataset's name as part of a file name: `parquet:/a/cifar100` is `parquet-cifar100`; a long one is
    cut, with a digest of the whole."""
    name, _, argument = dataset.partition(":")
    text = f"{name}-{Path(argument).name}" if argument else name
    slug = re.sub(r"[^A-Za-z0-9._-]+", "-", text)
    return slug if len(slug) <= SLUG_LENGTH else f"{slug[:SLUG_LENGTH]}-{digest(text.encode())[:8]}"


def run_name(*, dataset: str, method: str, seed: int) -> str:
    """The default name of a run's directory."""
    return f"{dataset_slug(dataset)}-{method}-s{seed}"
