"""Images that lie in files, decoded as they are needed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from molere_cli.data.encoded_reader import EncodedReader
from molere_cli.data.origins import path_as_text
from molere_cli.foundation.errors import ImageError

SAMPLE = 1024


class FolderReader(EncodedReader):
    """Reads the images of a folder; paths are relative to it."""

    def __init__(self, root: Path, paths: list[str]) -> None:
        self.root = root
        self.paths = paths

    def __len__(self) -> int:
        return len(self.paths)

    def encoded(self, position: int) -> Path:
        """The file of an image."""
        return self.root / self.paths[position]

    def where(self, position: int) -> str:
        """The same, for sentences."""
        return str(self.encoded(position))

    def origin(self, position: int) -> str:
        """The absolute path of the image's file."""
        return path_as_text(self.encoded(position))

    def identities(self) -> Iterator[bytes]:
        """Relative path and size of each file; raises ImageError naming one that is not there."""
        for path in self.paths:
            try:
                size = os.stat(self.root / path).st_size
            except OSError as error:
                raise ImageError(str(self.root / path), str(error.strerror)) from error
            yield os.fsencode(path) + f":{size}".encode()

    def sample(self, position: int) -> bytes:
        """The first and the last kilobyte of the file; raises ImageError naming one that cannot be read."""
        path = self.encoded(position)
        try:
            with open(path, "rb", buffering=0) as file:
                size = os.fstat(file.fileno()).st_size
                first = file.read(SAMPLE)
                file.seek(max(0, size - SAMPLE))
                return first + file.read(SAMPLE)
        except OSError as error:
            raise ImageError(str(path), str(error.strerror)) from error
