"""A fingerprint: which examples with which labels, whatever they are called."""

from __future__ import annotations

import hashlib

from torch import Tensor

from molere_cli.registry.specs import Examples

CHUNK = 4096


def fingerprint(examples: Examples) -> str:
    """A 32-digit hex digest over pixels, labels and indices.

    Images in memory count by their pixels; a reader's by what `identities()` gives (paths and sizes).
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
    return digest.hexdigest()
