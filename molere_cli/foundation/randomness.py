"""One seed drives everything: every use of chance gets a generator of its own, named by its purpose.

Since each epoch's generators are derived from (seed, purpose, epoch), a resumed run needs no generator
state to go on exactly as the uninterrupted one.
"""

from __future__ import annotations

import hashlib

from torch import Generator


def derived_seed(seed: int, *purpose: str | int) -> int:
    """A 63-bit seed that differs for every (seed, purpose)."""
    text = "/".join(str(part) for part in (seed, *purpose))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 1


def derived_generator(seed: int, *purpose: str | int) -> Generator:
    """A CPU generator for one purpose."""
    return Generator().manual_seed(derived_seed(seed, *purpose))
