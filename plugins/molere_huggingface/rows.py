"""From Arrow rows (`image`: struct of bytes and path, `label`: integer) to examples."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from PIL import Image
from torch import Tensor

from molere_cli import DataError, Examples

DECODERS = 2


class ArrowReader:
    """Decodes the compressed images of an Arrow column as they are needed."""

    def __init__(self, encoded: pa.ChunkedArray, source: str) -> None:
        self.encoded = encoded.combine_chunks()
        self.source = source

    def __len__(self) -> int:
        return len(self.encoded)

    def read(self, position: int) -> Tensor:
        """uint8 (3, H, W); raises DataError naming the row."""
        return torch.from_numpy(self.pixels(position)).permute(2, 0, 1).contiguous()

    def pixels(self, position: int) -> Any:
        """A numpy array, uint8 (H, W, 3)."""
        content = self.encoded[position].as_py()
        if content is None:
            raise DataError(f"{self.source}, row {position}: there are no image bytes in it")
        try:
            with Image.open(io.BytesIO(content)) as image:
                return np.array(image.convert("RGB"))
        except (OSError, SyntaxError, ValueError) as error:
            raise DataError(f"{self.source}, row {position}: cannot decode the image: {error}") from error

    def size(self, position: int) -> tuple[int, int]:
        """(height, width), from the header alone."""
        try:
            with Image.open(io.BytesIO(self.encoded[position].as_py())) as image:
                return image.height, image.width
        except (OSError, SyntaxError, ValueError, TypeError) as error:
            raise DataError(f"{self.source}, row {position}: cannot decode the image: {error}") from error

    def identities(self) -> Iterator[bytes]:
        """The compressed bytes themselves."""
        for row in self.encoded:
            yield row.as_py()


def examples_from_table(table: pa.Table, options: Any, *, source: str) -> Examples:
    """Images in memory if they are of one size and fit the limit, else a reader; labels as int64.

    Raises:
        DataError: no image or label column, a label that is no number, or an image that cannot be decoded.
    """
    image_column = find_image_column(table.schema, options.image_column, source=source)
    label_column = find_label_column(table.schema, options.label_column, source=source)
    labels = table[label_column]
    if labels.null_count:
        raise DataError(f"{source}: column {label_column!r} has {labels.null_count} rows without a label")
    encoded = pa.chunked_array(
        [chunk.field("bytes") for chunk in table[image_column].chunks], type=pa.binary()
    )
    reader = ArrowReader(encoded, source)
    images = read_into_memory(reader, limit=options.memory_limit_mib * 2**20)
    return Examples(
        images=reader if images is None else images,
        labels=torch.tensor(labels.to_numpy(), dtype=torch.int64),
    )


def read_into_memory(reader: ArrowReader, *, limit: int) -> Tensor | None:
    """All images as uint8 (N, 3, H, W); None if they differ in size or take more than `limit` bytes."""
    if len(reader) == 0:
        return None
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
    fitting = [field.name for field in schema if _is_image(field.type)]
    return _choose(fitting, wanted, ("image", "img"), kind="image", schema=schema, source=source)


def find_label_column(schema: pa.Schema, wanted: str | None, *, source: str) -> str:
    """The column asked for, else `label`, `fine_label`, or the only integer column.

    Raises:
        DataError: there is none, or more than one.
    """
    fitting = [field.name for field in schema if pa.types.is_integer(field.type)]
    return _choose(fitting, wanted, ("label", "fine_label"), kind="label", schema=schema, source=source)


def _is_image(kind: pa.DataType) -> bool:
    return pa.types.is_struct(kind) and any(field.name == "bytes" for field in kind)


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


def class_names_of(schema: pa.Schema, label_column: str, labels: Tensor) -> tuple[str, ...]:
    """Class names from the schema's metadata (`class_names`, or the features of `datasets`), else numbers."""
    metadata = schema.metadata or {}
    names = json.loads(metadata[b"class_names"]) if b"class_names" in metadata else None
    if names is None and b"huggingface" in metadata:
        features = json.loads(metadata[b"huggingface"]).get("info", {}).get("features", {})
        names = features.get(label_column, {}).get("names")
    return tuple(names) if names else tuple(str(label) for label in range(int(labels.max()) + 1))
