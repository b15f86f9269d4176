"""A fingerprint: which examples with which labels, whatever they are called."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, runtime_checkable

from torch import Tensor

from molere_cli.registry.specs import Examples, ImageReader

CHUNK = 4096
# Files wait for a disk or a network, not for a processor.
THREADS = 16
FILES_AT_ONCE = 256


@runtime_checkable
class SampledReader(Protocol):
    """A reader whose `identities` do not cover what is in its images' files."""

    def sample(self, position: int) -> bytes:
        """Some of the bytes that the image is made from, the same every time; raises DataError naming a file
        that cannot be read."""


def fingerprint(examples: Examples, *, with_groups: bool = False) -> str:
    """A 32-digit hex digest over pixels, labels and indices.

    Images in memory count by their pixels; a reader's by what `identities()` gives (paths and sizes, say),
    and by their samples, of which a digest of their own follows after a plus.

    Args:
        with_groups: cover the groups too.
    """
    digest = hashlib.blake2b(digest_size=16)
    if isinstance(examples.images, Tensor):
        digest.update(repr(tuple(examples.images.shape)).encode())
        for chunk in examples.images.split(CHUNK):
            digest.update(chunk.contiguous().numpy().data)
    else:
        for identity in examples.images.identities():
            digest.update(len(identity).to_bytes(8, "little") + identity)
    digest.update(examples.labels.contiguous().numpy().data)
    if examples.indices is not None:
        digest.update(examples.indices.contiguous().numpy().data)
    if with_groups and examples.groups is not None:
        digest.update(examples.groups.contiguous().numpy().data)
    samples = None if isinstance(examples.images, Tensor) else _samples_digest(examples.images)
    return digest.hexdigest() if samples is None else f"{digest.hexdigest()}+{samples}"


def sample_of(reader: ImageReader, position: int) -> bytes:
    """A reader's sample of an image; empty where its `identities` say enough."""
    return reader.sample(position) if isinstance(reader, SampledReader) else b""


def _samples_digest(reader: ImageReader) -> str | None:
    if not isinstance(reader, SampledReader):
        return None
    digest, any_there = hashlib.blake2b(digest_size=16), False

    def samples(first: int) -> list[bytes]:
        last = min(first + FILES_AT_ONCE, len(reader))
        return [reader.sample(position) for position in range(first, last)]

    with ThreadPoolExecutor(THREADS) as pool:
        for chunk in pool.map(samples, range(0, len(reader), FILES_AT_ONCE)):
            for sample in chunk:
                digest.update(len(sample).to_bytes(8, "little") + sample)
                any_there = any_there or bool(sample)
    return digest.hexdigest() if any_there else None
