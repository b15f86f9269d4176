"""Digests of single images, by which what was computed from one is found again."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from torch import Tensor

from molere_cli.data.encoded_reader import EncodedReader
from molere_cli.data.holdout import ReaderSubset
from molere_cli.foundation.errors import ImageError
from molere_cli.registry.specs import Examples, ImageReader

THREADS = 16
"""Files wait for a disk or a network, not for a processor."""


def image_digests(examples: Examples) -> list[bytes]:
    """16 bytes for each image: equal where all bytes that it is made from are.

    A stored picture counts as it is stored, whole and before it is decoded; one of another reader, which may
    have changed pixels, is decoded.

    Raises:
        ImageError: a picture cannot be read.
    """
    images = examples.images
    if isinstance(images, Tensor):
        shape = str(tuple(images.shape[1:])).encode()
        return [_digest(shape, image.contiguous().numpy().data) for image in images]
    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(lambda position: _of_reader(images, position), range(len(images))))


def _of_reader(reader: ImageReader, position: int) -> bytes:
    if isinstance(reader, ReaderSubset):
        return _of_reader(reader.reader, int(reader.positions[position]))
    if not isinstance(reader, EncodedReader):
        pixels = reader.read(position).contiguous()
        return _digest(str(tuple(pixels.shape)).encode(), pixels.numpy().data)
    stored = reader.encoded(position)
    if not isinstance(stored, Path):
        return _digest(b"stored", stored)
    try:
        return _digest(b"stored", stored.read_bytes())
    except OSError as error:
        raise ImageError(str(stored), str(error.strerror)) from error


def _digest(kind: bytes, content: bytes | memoryview) -> bytes:
    digest = hashlib.blake2b(kind, digest_size=16)
    digest.update(content)
    return digest.digest()
