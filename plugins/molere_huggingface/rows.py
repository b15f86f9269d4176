"""From Arrow rows (`image`: struct of bytes and path, `label`: integer) to examples."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from molere_cli import DataError, Examples

DECODERS = 2
UNDECODABLE = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)


@dataclass(frozen=True, eq=False)
class Rows:
    """A table and where it comes from: `files` follow one another in it, each with its number of rows."""

    table: pa.Table
    name: str
    files: tuple[tuple[str, int], ...]


class ArrowReader:
    """Decodes the compressed images of an Arrow column as they are needed."""

    def __init__(self, encoded: pa.ChunkedArray, files: tuple[tuple[str, int], ...]) -> None:
        self.encoded = encoded
        self.files = files

    def __len__(self) -> int:
        return len(self.encoded)

    def read(self, position: int) -> Tensor:
        """uint8 (3, H, W); raises DataError naming file and row."""
        return torch.from_numpy(self.pixels(position)).permute(2, 0, 1).contiguous()

    def pixels(self, position: int) -> Any:
        """A numpy array, uint8 (H, W, 3)."""
        try:
            with Image.open(io.BytesIO(self._content(position))) as image:
                return np.array(image.convert("RGB"))
        except UNDECODABLE as error:
            raise self._undecodable(position, error) from error

    def size(self, position: int) -> tuple[int, int]:
        """(height, width), from the header alone."""
        try:
            with Image.open(io.BytesIO(self._content(position))) as image:
                return image.height, image.width
        except UNDECODABLE as error:
            raise self._undecodable(position, error) from error

    def identities(self) -> Iterator[bytes]:
        """The compressed bytes themselves."""
        return (self._content(position) for position in range(len(self)))

    def _content(self, position: int) -> bytes:
        content: bytes | None = self.encoded[position].as_py()
        if content is None:
            raise DataError(f"{self._place(position)}: there are no image bytes in it")
        return content

    def _undecodable(self, position: int, error: Exception) -> DataError:
        unknown = isinstance(error, UnidentifiedImageError)
        reason = "it is in no known image format" if unknown else str(error)
        return DataError(f"{self._place(position)}: cannot decode the image: {reason}")

    def _place(self, position: int) -> str:
        row = position
        for file, num_rows in self.files:
            if row < num_rows:
                return f"{file}, row {row}"
            row -= num_rows
        raise IndexError(position)


def examples_from_rows(rows: Rows, options: Any) -> Examples:
    """Images in memory if they are of one size and fit the limit, else a reader; labels as int64.

    Raises:
        DataError: no row, no image or label column, a row without a label, or an image that cannot be
            decoded.
    """
    schema = rows.table.schema
    image_column = find_image_column(schema, options.image_column, source=rows.name)
    label_column = find_label_column(schema, options.label_column, source=rows.name)
    if not len(rows.table):
        raise DataError(f"{rows.name} has no rows in it")
    labels = rows.table[label_column]
    if labels.null_count:
        raise DataError(f"{rows.name}: column {label_column!r} has {labels.null_count} rows without a label")
    encoded = pa.chunked_array([chunk.field("bytes") for chunk in rows.table[image_column].chunks])
    reader = ArrowReader(encoded, rows.files)
    images = read_into_memory(reader, limit=options.memory_limit_mib * 2**20)
    return Examples(
        images=reader if images is None else images,
        labels=torch.tensor(labels.to_numpy(), dtype=torch.int64),
    )


def read_into_memory(reader: ArrowReader, *, limit: int) -> Tensor | None:
    """All images as uint8 (N, 3, H, W); None if they differ in size or take more than `limit` bytes."""
    height, width = reader.size(0)
    if len(reader) * 3 * height * width > limit:
        return None
    images = np.empty((len(reader), height, width, 3), dtype=np.uint8)

    def decode(positions: range) -> bool:
        for position in positions:
            pixels = reader.pixels(position)
            if pixels.shape != images.shape[1:]:
                return False
            images[position] = pixels
        return True

    # Pillow lets go of the interpreter lock while it decodes.
    with ThreadPoolExecutor(DECODERS) as pool:
        parts = [range(first, len(reader), DECODERS) for first in range(DECODERS)]
        alike = all(list(pool.map(decode, parts)))
    return torch.from_numpy(images).permute(0, 3, 1, 2) if alike else None


def find_image_column(schema: pa.Schema, wanted: str | None, *, source: str) -> str:
    """The column asked for, else `image`, `img`, or the only struct with bytes.

    Raises:
        DataError: there is none, or more than one.
    """
    fitting = [field.name for field in schema if is_image(field.type)]
    return _choose(fitting, wanted, ("image", "img"), kind="image", schema=schema, source=source)


def find_label_column(schema: pa.Schema, wanted: str | None, *, source: str) -> str:
    """The column asked for, else `label`, `fine_label`, or the only integer column.

    Raises:
        DataError: there is none, or more than one.
    """
    fitting = [field.name for field in schema if pa.types.is_integer(field.type)]
    return _choose(fitting, wanted, ("label", "fine_label"), kind="label", schema=schema, source=source)


def is_image(kind: pa.DataType) -> bool:
    """Whether a column of that type can hold encoded images: a struct with `bytes`."""
    if not pa.types.is_struct(kind):
        return False
    return any(field.name == "bytes" and field.type in (pa.binary(), pa.large_binary()) for field in kind)


def _choose(
    fitting: list[str],
    wanted: str | None,
    usual: tuple[str, ...],
    *,
    kind: str,
    schema: pa.Schema,
    source: str,
) -> str:
    if wanted is not None:
        if wanted in fitting:
            return wanted
        raise DataError(
            f"{source}: {wanted!r} is no {kind} column; the columns are {', '.join(schema.names)}"
        )
    named = [name for name in usual if name in fitting]
    if named or len(fitting) == 1:
        return (named or fitting)[0]
    raise DataError(
        f"{source}: which column is the {kind}? Give --dataset-option {kind}_column=NAME; "
        f"the columns are {', '.join(schema.names)}"
    )


def class_names_of(rows: Rows, label_column: str) -> tuple[str, ...] | None:
    """Class names from the schema's metadata: `class_names`, or the features of `datasets`; else None.

    Raises:
        DataError: the metadata cannot be read.
    """
    names = _metadata(rows, b"class_names")
    if names is None:
        features = (_metadata(rows, b"huggingface") or {}).get("info", {}).get("features", {})
        names = features.get(label_column, {}).get("names")
    return tuple(str(name) for name in names) if names else None


def _metadata(rows: Rows, key: bytes) -> Any:
    content = (rows.table.schema.metadata or {}).get(key)
    try:
        return None if content is None else json.loads(content)
    except ValueError as error:
        raise DataError(f"{rows.name}: the schema's metadata {key.decode()!r} is no JSON") from error
