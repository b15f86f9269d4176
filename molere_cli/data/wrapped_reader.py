"""An image reader that changes what another one reads."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from molere_cli.data.fingerprint import sample_of
from molere_cli.data.inspection import inspection_of
from molere_cli.data.origins import origin_of
from molere_cli.registry.specs import ImageReader


class WrappedReader:
    """Another reader's images as they are; a subclass changes pixels in `read`.

    Paths, samples of bytes and what an inspection finds stay those of the files.
    """

    def __init__(self, reader: ImageReader) -> None:
        self.reader = reader

    def __len__(self) -> int:
        return len(self.reader)

    def read(self, position: int) -> Tensor:
        """uint8 (3, H, W)."""
        return self.reader.read(position)

    def identities(self) -> Iterator[bytes]:
        """What the fingerprint covers; a subclass whose change differs by image adds it."""
        return self.reader.identities()

    def sample(self, position: int) -> bytes:
        """Some bytes of the image's file."""
        return sample_of(self.reader, position)

    def inspect(self, position: int, *, whole: bool) -> list[str]:
        """What is unusual about the image's file."""
        return inspection_of(self.reader, position, whole=whole)

    def origin(self, position: int) -> str | None:
        """Where the image came from."""
        return origin_of(self.reader, position)
