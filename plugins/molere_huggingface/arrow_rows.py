"""From Arrow rows (`image`: struct of bytes and path, `label`: integer or text) to images and labels."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import torch
from torch import Tensor

from molere_cli import DataError, EncodedReader, ordered_names, plain_name

DECODERS = 2
HOLD = {
    "label": "labels are whole numbers, text, or true and false",
    "image": "images are structs with their encoded bytes in `bytes`",
}


@dataclass(frozen=True, eq=False)
class Rows:
    """A table and where it comes from: `files` follow one another in it, each with its number of rows."""

    table: pa.Table
    name: str
    files: tuple[tuple[str, int], ...]

    def place(self, position: int) -> str:
        """File and row of what stands at a position of the table."""
        return place_in(self.files, position)


def place_in(files: tuple[tuple[str, int], ...], position: int) -> str:
    """File and row of a position in files that follow one another."""
    file, row = _found_in(files, position)
    return f"{file}, row {row}"


def _found_in(files: tuple[tuple[str, int], ...], position: int) -> tuple[str, int]:
    row = position
    for file, num_rows in files:
        if row < num_rows:
            return file, row
        row -= num_rows
    raise IndexError(position)


class ArrowReader(EncodedReader):
    """Decodes the compressed images of an Arrow column as they are needed."""

    def __init__(self, encoded: pa.ChunkedArray, files: tuple[tuple[str, int], ...]) -> None:
        self._column = encoded
        self.files = files

    def __len__(self) -> int:
        return len(self._column)

    def encoded(self, position: int) -> bytes:
        """The compressed bytes of an image; raises DataError where there are none."""
        content: bytes | None = self._column[position].as_py()
        if content is None:
            raise DataError(f"{self.where(position)}: there are no image bytes in it")
        return content

    def where(self, position: int) -> str:
        """File and row."""
        return place_in(self.files, position)

    def origin(self, position: int) -> str:
        """The file and the row in it that hold the image, `FILE:ROW`."""
        file, row = _found_in(self.files, position)
        return f"{file}:{row}"

    def identities(self) -> Iterator[bytes]:
        """The compressed bytes themselves."""
        return (self.encoded(position) for position in range(len(self)))


@dataclass(frozen=True, eq=False)
class Labels:
    """What a label column says: number_N int64 (N,), the place of each row's class in `names`.

    are_named: whether these are names, not the numbers that the column holds.
    """

    number_N: Tensor
    names: tuple[str, ...]
    are_named: bool


def images_from_rows(rows: Rows, options: Any) -> tuple[Tensor | ArrowReader, Counter[str]]:
    """Images in memory if they are of one size and fit the limit, else a reader; and what is particular about
    those in memory.

    Raises:
        DataError: no row, no image column, or images that cannot be decoded.
    """
    image_column = find_image_column(rows.table.schema, options.image_column, source=rows.name)
    if not len(rows.table):
        raise DataError(f"{rows.name} has no rows in it")
    encoded = pa.chunked_array([chunk.field("bytes") for chunk in rows.table[image_column].chunks])
    reader = ArrowReader(encoded, rows.files)
    in_memory = read_into_memory(reader, limit=options.memory_limit_mib * 2**20)
    return (reader, Counter()) if in_memory is None else in_memory


def labels_from_rows(rows: Rows, options: Any) -> Labels:
    """The labels, by the class names of the schema's metadata, by the text that they are, or as numbers.

    Raises:
        DataError: no label column, a row without a label, or numbers that are no class's.
    """
    column = find_label_column(rows.table.schema, options.label_column, source=rows.name)
    labels = rows.table[column]
    if labels.null_count:
        raise DataError(f"{rows.name}: column {column!r} has {labels.null_count} rows without a label")
    if pa.types.is_dictionary(labels.type):
        labels = labels.cast(labels.type.value_type)
    if not pa.types.is_integer(labels.type):
        texts = [
            plain_name(str(value).lower() if isinstance(value, bool) else value)
            for value in labels.to_pylist()
        ]
        names = ordered_names(set(texts))
        number_of = {name: number for number, name in enumerate(names)}
        return Labels(torch.tensor([number_of[text] for text in texts]), names, are_named=True)
    try:
        value_N = torch.tensor(labels.cast(pa.int64()).to_numpy(), dtype=torch.int64)
    except pa.ArrowInvalid as error:
        raise DataError(f"{rows.name}: column {column!r} has labels beyond 64 bits") from error
    if len(value_N) and int(value_N.min()) < 0:
        row = int(value_N.argmin())
        raise DataError(
            f"{rows.place(row)}: the label is {int(value_N[row])}, which says that there is none; "
            "leave such rows out"
        )
    if (given := class_names_of(rows, column)) is None:
        value_C = value_N.unique()
        names = tuple(str(value) for value in value_C.tolist())
        return Labels(torch.searchsorted(value_C, value_N), names, are_named=False)
    if len(value_N) and int(value_N.max()) >= len(given):
        row = int(value_N.argmax())
        raise DataError(
            f"{rows.place(row)}: the label is {int(value_N[row])}, but there are {len(given)} classes"
        )
    return Labels(value_N, given, are_named=True)


def read_into_memory(reader: ArrowReader, *, limit: int) -> tuple[Tensor, Counter[str]] | None:
    """All images as uint8 (N, 3, H, W), and what is particular about them; None if they differ in size, take
    more than `limit` bytes, or cannot all be decoded: a reader can say of which that is so."""
    try:
        return _decoded(reader, limit=limit)
    except DataError:
        return None


def _decoded(reader: ArrowReader, *, limit: int) -> tuple[Tensor, Counter[str]] | None:
    height, width = reader.size(0)
    if len(reader) * 3 * height * width > limit:
        return None
    images = torch.empty((len(reader), height, width, 3), dtype=torch.uint8)

    def decode(positions: range) -> Counter[str] | None:
        """What is particular about them; None if one is of another size."""
        converted = Counter[str]()
        for position in positions:
            read, of_image = reader.read_with_particulars(position)
            pixels = read.permute(1, 2, 0)
            if pixels.shape != images.shape[1:]:
                return None
            images[position] = pixels
            converted.update(of_image)
        return converted

    # Pillow lets go of the interpreter lock while it decodes.
    with ThreadPoolExecutor(DECODERS) as pool:
        parts = [range(first, len(reader), DECODERS) for first in range(DECODERS)]
        found = list(pool.map(decode, parts))
    counts = [converted for converted in found if converted is not None]
    return (images.permute(0, 3, 1, 2), sum(counts, Counter())) if len(counts) == len(found) else None


def find_image_column(schema: pa.Schema, wanted: str | None, *, source: str) -> str:
    """The column asked for, else `image`, `img`, or the only struct with bytes.

    Raises:
        DataError: there is none, or more than one.
    """
    fitting = [field.name for field in schema if is_image(field.type)]
    return _choose(fitting, wanted, ("image", "img"), kind="image", schema=schema, source=source)


def find_label_column(schema: pa.Schema, wanted: str | None, *, source: str) -> str:
    """The column asked for, else `label`, `fine_label`, or the only column of whole numbers.

    Raises:
        DataError: there is none, or more than one.
    """
    fitting = [field.name for field in schema if is_label(field.type)]
    usual = [name for name in ("label", "fine_label") if name in fitting]
    if wanted is None and not usual:
        fitting = [field.name for field in schema if pa.types.is_integer(field.type)]
    return _choose(fitting, wanted, ("label", "fine_label"), kind="label", schema=schema, source=source)


def is_label(kind: pa.DataType) -> bool:
    """Whether a column of that type can name classes: whole numbers, text, true and false."""
    if pa.types.is_dictionary(kind):
        return is_label(kind.value_type)
    types = (pa.types.is_integer, pa.types.is_string, pa.types.is_large_string, pa.types.is_boolean)
    return any(is_of(kind) for is_of in types)


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
        holds = f": it holds {schema.field(wanted).type}" if wanted in schema.names else ""
        raise DataError(
            f"{source}: {wanted!r} is no {kind} column{holds}, and {HOLD[kind]}; "
            f"the columns are {', '.join(schema.names)}"
        )
    named = [name for name in usual if name in fitting]
    if named or len(fitting) == 1:
        return (named or fitting)[0]
    columns = ", ".join(f"{field.name} ({field.type})" for field in schema)
    raise DataError(
        f"{source}: which column is the {kind}? Give --dataset-option {kind}_column=NAME, where "
        f"{HOLD[kind]}; the columns are {columns}"
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
    return tuple(plain_name(str(name)) for name in names) if names else None


def _metadata(rows: Rows, key: bytes) -> Any:
    content = (rows.table.schema.metadata or {}).get(key)
    try:
        return None if content is None else json.loads(content)
    except ValueError as error:
        raise DataError(f"{rows.name}: the schema's metadata {key.decode()!r} is no JSON") from error
