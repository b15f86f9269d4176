"""Where an image came from, for people: a file, or a row of one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol, runtime_checkable

from torch import Tensor

from molere_cli.registry.specs import Examples, ImageReader


@runtime_checkable
class TracedReader(Protocol):
    """A reader that knows where its images lie."""

    def origin(self, position: int) -> str | None:
        """An absolute path, `FILE.parquet:ROW`, or None."""


def origin_of(reader: ImageReader, position: int) -> str | None:
    """What a reader says of where an image lies; None where it does not know."""
    return reader.origin(position) if isinstance(reader, TracedReader) else None


def origins(examples: Examples) -> Iterator[str | None]:
    """Where each image of a set lies, in order; None for those in memory."""
    for position in range(len(examples)):
        yield None if isinstance(examples.images, Tensor) else origin_of(examples.images, position)


def path_as_text(path: Path) -> str:
    r"""An absolute path in UTF-8; what is not is shown as `\xNN`."""
    return os.fsencode(os.path.abspath(path)).decode("utf-8", "backslashreplace")
