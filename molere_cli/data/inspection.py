"""A look at every image file before training: what cannot be read is found now, all of it at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, runtime_checkable

from molere_cli.foundation.errors import DataError, ImageError
from molere_cli.registry.specs import Examples, ImageReader

# Files wait for a disk or a network, not for a processor.
THREADS = 16
AT_ONCE = 64
MOST_NAMED = 50


@runtime_checkable
class InspectedReader(Protocol):
    """A reader that can look at an image without giving its pixels."""

    def __len__(self) -> int: ...

    def inspect(self, position: int, *, whole: bool) -> list[str]:
        """What is particular about it, in words (`inspect_picture`); raises DataError naming what cannot be
        read."""


def inspection_of(reader: ImageReader, position: int, *, whole: bool) -> list[str]:
    """What a reader says of an image; nothing where it can only decode."""
    return reader.inspect(position, whole=whole) if isinstance(reader, InspectedReader) else []


def inspect_images(parts: Mapping[str, Examples], *, whole: bool) -> Counter[str]:
    """How many images of streamed parts are particular, by what they are.

    Args:
        whole: decode them; otherwise their headers are read.

    Raises:
        DataError: some cannot be read; the sentence names them all, up to fifty for each reason.
    """
    converted, faults, num_images = Counter[str](), list[DataError](), 0
    for reader in _readers(parts):
        num_images += len(reader)
        for found, bad in _in_threads(reader, whole=whole):
            converted.update(found)
            faults += bad
    if len(faults) == 1:
        raise faults[0]
    if faults:
        raise DataError(f"{len(faults)} of {num_images} images cannot be read: {_by_reason(faults)}")
    return converted


def _by_reason(faults: Sequence[DataError]) -> str:
    """Which images, reason by reason."""
    wheres: dict[str, list[str]] = {}
    for fault in faults:
        where, reason = (fault.where, fault.reason) if isinstance(fault, ImageError) else (str(fault), "")
        wheres.setdefault(reason, []).append(where)
    listed = []
    for reason, places in wheres.items():
        more = f" and {len(places) - MOST_NAMED} more" if len(places) > MOST_NAMED else ""
        listed.append(f"{', '.join(places[:MOST_NAMED])}{more}{reason and f': {reason}'}")
    return "; ".join(listed)


def _readers(parts: Mapping[str, Examples]) -> list[InspectedReader]:
    """Each once: a dataset for tests alone has the same one for a pool."""
    readers = {id(part.images): part.images for part in parts.values()}
    return [reader for reader in readers.values() if isinstance(reader, InspectedReader)]


def _in_threads(reader: InspectedReader, *, whole: bool) -> list[tuple[Counter[str], list[DataError]]]:
    num_images = len(reader)

    def inspected(first: int) -> tuple[Counter[str], list[DataError]]:
        converted, faults = Counter[str](), list[DataError]()
        for position in range(first, min(first + AT_ONCE, num_images)):
            try:
                converted.update(reader.inspect(position, whole=whole))
            except DataError as error:
                faults.append(error)
        return converted, faults

    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(inspected, range(0, num_images, AT_ONCE)))
