"""Pictures that are stored encoded, as files or as bytes, decoded as they are needed."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor

from molere_cli.data.image_files import Encoded, inspect_picture, picture_size, read_picture


class EncodedReader(ABC):
    """A reader whose subclass says what is stored for a picture, and where."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def encoded(self, position: int) -> Encoded:
        """The file of a picture, or its bytes; raises DataError naming what is not there."""

    @abstractmethod
    def where(self, position: int) -> str:
        """What a sentence calls the picture."""

    def read(self, position: int) -> Tensor:
        """uint8 (3, H, W); raises ImageError naming the picture, as all of these do."""
        return self.read_with_particulars(position)[0]

    def read_with_particulars(self, position: int) -> tuple[Tensor, list[str]]:
        """The same, and what is particular about the picture, in words: `animated`, `transparent`,
        `16 bits`."""
        return read_picture(self.encoded(position), where=self.where(position))

    def inspect(self, position: int, *, whole: bool) -> list[str]:
        """What is particular about a picture by its header; `whole`: it is decoded in any case."""
        return inspect_picture(self.encoded(position), where=self.where(position), whole=whole)

    def size(self, position: int) -> tuple[int, int]:
        """(height, width), from the header alone."""
        return picture_size(self.encoded(position), where=self.where(position))
