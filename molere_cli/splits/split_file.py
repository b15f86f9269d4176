"""The split as a file: one Parquet file with `index, label, score, in_validation`, where there are any what
classifiers said of examples that they had not trained on, and what it was made from.

Its metadata also hold a digest of all that, so that a file which has been damaged, or edited, is not taken
for the split that was made.

Shapes: N examples of the pool.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from torch import Tensor

from molere_cli.foundation.errors import SplitError
from molere_cli.foundation.files import (
    claim_file,
    claim_name,
    digest,
    replacing,
    same_fingerprint,
    sweep,
    temporary_for,
)
from molere_cli.registry.option_errors import explain_validation
from molere_cli.splits.quota import validation_size
from molere_cli.splits.score_direction import MARGINS, hardness

METADATA_KEY, DIGEST_KEY = b"molere", b"molere.digest"
# A header may promise more than there is in a file; no column of a split takes more than this, and a page.
BYTES_A_ROW, SLACK = 64, 1 << 24
SCHEMA = pa.schema(
    [
        pa.field("index", pa.int64(), nullable=False),
        pa.field("label", pa.int64(), nullable=False),
        pa.field("score", pa.float64()),
        pa.field("in_validation", pa.bool_(), nullable=False),
    ]
)
HELD_OUT = pa.schema(
    [
        pa.field("held_out_prediction", pa.int64(), nullable=False),
        pa.field("held_out_probability", pa.float32(), nullable=False),
        pa.field("held_out_label_probability", pa.float32(), nullable=False),
    ]
)
"""The columns that a split out of fold also has."""


@dataclass(frozen=True, eq=False)
class HeldOut:
    """What a classifier that never trained on an example says of it: the likeliest class, int64 (N,), its
    probability and that of the label, float32 (N,)."""

    prediction: Tensor
    probability: Tensor
    label_probability: Tensor

    @property
    def columns(self) -> tuple[Tensor, Tensor, Tensor]:
        """In the order of `HELD_OUT`."""
        return self.prediction, self.probability, self.label_probability

    def ordered(self, order_N: Tensor) -> HeldOut:
        """The same of the examples at these places."""
        return HeldOut(*(column[order_N] for column in self.columns))


class SplitInfo(BaseModel):
    """What a split was made from.

    dataset, fingerprint: of the pool. strategy: a split strategy, or the method that learned the split.
    argument: the strategy's, None without one. delta: as asked for; the share that validation has, where the
    strategy does without it.
    score_name: what `score` holds, None without one. erm_run: the run that the scores come from.
    val_dataset, val_fingerprint: where validation is another dataset than the pool. represented_fraction,
    keeps_base_weight, finding: as in `TargetSet`; the first is None where validation is another dataset, and
    in files of before it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    format_version: Literal[1] = 1
    dataset: str
    fingerprint: str
    strategy: str
    delta: float
    seed: int
    score_name: str | None
    erm_run: str | None
    versions: dict[str, str]
    argument: str | None = None
    val_dataset: str | None = None
    val_fingerprint: str | None = None
    # Under the names that files have.
    represented_fraction: float | None = Field(default=None, alias="share")
    keeps_base_weight: bool = Field(default=True, alias="keeps_rest")
    finding: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _without_diagnosis(cls, values: Any) -> Any:
        """Files of version 0.1 may hold what `molere split --diagnose` said, which nothing asks for."""
        if not isinstance(values, dict):
            return values
        return {key: value for key, value in values.items() if key != "diagnosis"}


@dataclass(frozen=True, eq=False)
class Split:
    """Which examples of a pool are validation, in the order of the pool.

    labels: int64 (N,); in_validation: bool (N,); score: float64 (N,), None if none was needed;
    indices: int64 (N,), the stable index of each example; held_out: where the scores are out of fold.
    """

    labels: Tensor
    in_validation: Tensor
    score: Tensor | None
    indices: Tensor
    info: SplitInfo
    held_out: HeldOut | None = None

    @property
    def hardness(self) -> Tensor | None:
        """The score turned so that high = hard, float64 (N,), None without a score."""
        name = self.info.score_name
        return None if self.score is None or name is None else hardness(self.score.double(), name)

    @property
    def hardness_is_margin(self) -> bool:
        """Whether `hardness` is minus a margin, in [-1, 1]."""
        return self.info.score_name in MARGINS

    def aligned(self, indices_N: Tensor, *, source: str) -> Split:
        """The same split in the order of `indices_N`; `source` names it in errors.

        Raises:
            SplitError: an index is there twice, missing or unknown.
        """
        check_indices(self.indices, indices_N, source=source)
        order_N = torch.empty_like(self.indices)
        order_N[indices_N.argsort()] = self.indices.argsort()
        return Split(
            labels=self.labels[order_N],
            in_validation=self.in_validation[order_N],
            score=None if self.score is None else self.score[order_N],
            indices=self.indices[order_N],
            info=self.info,
            held_out=None if self.held_out is None else self.held_out.ordered(order_N),
        )


def write_split(split: Split, path: Path) -> None:
    """Write the split to `path`, whole or not at all; the folder is made if need be.

    Raises:
        WriteError: the system refuses.
    """
    with replacing(path) as temporary:
        pq.write_table(_to_table(split), temporary.absolute())  # `a:b` would be a URI


def write_new_split(split: Split, path: Path, *, numbered: bool) -> Path:
    """Write the split to a file that was not there before, whole or not at all; its path.

    Args:
        numbered: whether `path` gets a number if it is taken.

    Raises:
        FileExistsError: it is taken, and may not be numbered.
        WriteError: the system refuses.
    """
    sweep(path.parent)
    with temporary_for(path) as temporary:
        pq.write_table(_to_table(split), temporary.absolute())  # `a:b` would be a URI
        return claim_name(path, partial(claim_file, temporary), numbered=numbered, suffix=path.suffix)


def _to_table(split: Split) -> pa.Table:
    num_examples = len(split.labels)
    columns = [
        pa.array(split.indices.numpy()),
        pa.array(split.labels.numpy()),
        pa.nulls(num_examples, pa.float64())
        if split.score is None
        else pa.array(split.score.double().numpy()),
        pa.array(split.in_validation.numpy()),
    ]
    schema = SCHEMA
    if split.held_out is not None:
        columns += [pa.array(column.numpy()) for column in split.held_out.columns]
        schema = pa.schema([*SCHEMA, *HELD_OUT])
    info = split.info.model_dump_json(by_alias=True).encode()
    described = schema.with_metadata({METADATA_KEY: info, DIGEST_KEY: _digest_of(split, info)})
    return pa.Table.from_arrays(columns, schema=described)


def _digest_of(split: Split, info: bytes) -> bytes:
    """Of the rows, in whatever order, and of what the split was made from."""
    score = torch.zeros_like(split.indices) if split.score is None else split.score.double()
    columns = [split.indices, split.labels, score, split.in_validation]
    columns += split.held_out.columns if split.held_out is not None else ()
    order_N = split.indices.argsort(stable=True)
    return digest(b"".join([info, *(column[order_N].numpy().tobytes() for column in columns)])).encode()


def read_split(path: Path) -> Split:
    """The split in `path`, in the order of its rows; `load_split` also checks it against a pool.

    Raises:
        SplitError: the file is missing, no Parquet file, not a split, or not as it was written.
    """
    with _opened(path) as file:
        return _read_rows(file, _info_of(file, path), path)


@contextmanager
def _opened(path: Path) -> Iterator[pq.ParquetFile]:
    try:
        size = max(1, path.stat().st_size)
        # No string and no list of a header is longer than its file, whatever the header says.
        limits = {"thrift_string_size_limit": size, "thrift_container_size_limit": size}
        with pq.ParquetFile(path.absolute(), **limits) as file:  # `a:b` would be a URI
            yield file
    except OSError as error:
        # Arrow's reasons may have several lines, and errors without a number.
        reason = error.strerror or str(error).partition("\n")[0]
        raise SplitError(f"cannot read the split file {path}: {reason}") from error
    except (pa.ArrowException, UnicodeDecodeError) as error:
        raise SplitError(f"{path} is not a Parquet file, or damaged, and so not a split") from error


def _info_of(file: pq.ParquetFile, path: Path) -> SplitInfo:
    metadata = file.schema_arrow.metadata or {}
    if METADATA_KEY not in metadata:
        raise SplitError(f"{path} is not a split: its schema has no metadata {METADATA_KEY.decode()!r}")
    return _parse_info(metadata[METADATA_KEY], path)


def _read_rows(file: pq.ParquetFile, info: SplitInfo, path: Path) -> Split:
    schema = SCHEMA
    if not set(HELD_OUT.names).isdisjoint(file.schema_arrow.names):
        schema = pa.schema([*SCHEMA, *HELD_OUT])
    _check_header(file, schema, path)
    table, metadata = file.read(columns=schema.names), file.schema_arrow.metadata
    columns = {field.name: _column(table, field, path) for field in schema}
    held_out = [_tensor(columns[name]) for name in HELD_OUT.names if name in columns]
    split = Split(
        labels=_tensor(columns["label"]),
        in_validation=_tensor(columns["in_validation"]),
        score=None if columns["score"].null_count == len(table) else _tensor(columns["score"]),
        indices=_tensor(columns["index"]),
        info=info,
        held_out=HeldOut(*held_out) if held_out else None,
    )
    if metadata.get(DIGEST_KEY) not in {None, _digest_of(split, metadata[METADATA_KEY])}:
        raise SplitError(
            f"{path} is damaged or has been edited: it is not what was written; make a new split"
        )
    return split


def _check_header(file: pq.ParquetFile, expected: pa.Schema, path: Path) -> None:
    """Raise SplitError, before any of them is read, unless the columns are those of a split and take no more
    room than their rows can need."""
    schema, metadata = file.schema_arrow, file.metadata
    for field in expected:
        if schema.names.count(field.name) != 1:
            raise SplitError(f"{path} is not a split: it must have one column {field.name!r}")
        if not pa.types.is_primitive(kind := schema.field(field.name).type) and not pa.types.is_null(kind):
            raise SplitError(f"column {field.name!r} of {path} must be {field.type}: it is {kind}")
    groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
    promised = sum(group.total_byte_size for group in groups)
    if metadata.num_rows < 0 or not 0 <= promised <= BYTES_A_ROW * metadata.num_rows + SLACK:
        raise SplitError(f"{path} is damaged: its {metadata.num_rows} rows cannot take {promised} bytes")


def _parse_info(text: bytes, path: Path) -> SplitInfo:
    try:
        return SplitInfo.model_validate_json(text)
    except ValidationError as error:
        explained = explain_validation(error, known=SplitInfo.model_fields, source=f"the metadata of {path}")
        raise SplitError(explained) from error


def _column(table: pa.Table, field: pa.Field, path: Path) -> pa.ChunkedArray:
    try:
        column = table[field.name].cast(field.type)
    except pa.ArrowException as error:
        raise SplitError(f"column {field.name!r} of {path} must be {field.type}: {error}") from error
    if column.null_count and (not field.nullable or column.null_count < len(column)):
        raise SplitError(f"column {field.name!r} of {path} has {column.null_count} empty cells")
    return column


def _tensor(column: pa.ChunkedArray) -> Tensor:
    # Arrow's buffers are read-only, which torch takes amiss.
    return torch.from_numpy(np.array(column.to_numpy()))


def load_split(
    path: Path, *, labels_N: Tensor, indices_N: Tensor, fingerprint: str, num_classes: int
) -> tuple[Split, list[str]]:
    """The split in `path` in the order of the pool, checked against it, with warnings (see `verify_split`).

    Raises:
        SplitError: the file is no split, or not one of this pool.
    """
    source = str(path)
    with _opened(path) as file:
        info = _info_of(file, path)
        check_fingerprint(info, fingerprint, source=source)
        # More rows than examples are refused before they are read: there may be any number of them.
        if (num_rows := file.metadata.num_rows) > len(indices_N):
            raise SplitError(f"{source} lists {num_rows} examples, where the dataset has {len(indices_N)}")
        split = _read_rows(file, info, path)
    split = split.aligned(indices_N, source=source)
    warnings = verify_split(
        split,
        labels_N=labels_N,
        indices_N=indices_N,
        fingerprint=fingerprint,
        num_classes=num_classes,
        source=source,
    )
    return split, warnings


def verify_split(
    split: Split,
    *,
    labels_N: Tensor,
    indices_N: Tensor,
    fingerprint: str,
    num_classes: int,
    source: str,
) -> list[str]:
    """Check a split against the pool it is to be used on; `source` names the split in sentences.

    Returns:
        Warnings, one sentence each: classes without a validation example.

    Raises:
        SplitError: the split was made for another pool (fingerprint, indices, their order, labels),
            leaves a class no training example, has more than delta in validation, or nothing.
    """
    check_fingerprint(split.info, fingerprint, source=source)
    check_indices(split.indices, indices_N, source=source)
    _check_held_out(split, num_classes, source=source)
    if not torch.equal(split.indices, indices_N):
        raise SplitError(
            f"{source} lists the examples in another order than the dataset; load it with load_split"
        )
    _check_labels(split, labels_N, source=source)
    _check_size(split, source=source)
    pool_C = labels_N.bincount(minlength=num_classes)
    val_C = labels_N[split.in_validation].bincount(minlength=num_classes)
    if len(emptied := ((pool_C > 0) & (val_C == pool_C)).nonzero()):
        raise SplitError(f"{source} leaves no training example of class {_listed(emptied)}")
    absent = ((pool_C > 0) & (val_C == 0)).nonzero()
    if split.info.val_dataset is None and len(absent):
        return [f"{source} has no validation example of class {_listed(absent)}"]
    return []


def check_fingerprint(info: SplitInfo, fingerprint: str, *, source: str) -> None:
    """Raise SplitError unless the split was made for the pool of this fingerprint."""
    if not same_fingerprint(info.fingerprint, fingerprint):
        raise SplitError(
            f"{source} was made for another pool (dataset {info.dataset!r}, fingerprint "
            f"{info.fingerprint}) than this one (fingerprint {fingerprint}); make a new split"
        )


def check_indices(indices_N: Tensor, pool_indices_N: Tensor, *, source: str) -> None:
    """Raise SplitError, naming the first offender, unless both hold the same indices, each once."""
    values, counts = torch.unique(indices_N, return_counts=True)
    if len(twice := values[counts > 1]):
        raise SplitError(f"{source} lists index {int(twice[0])} more than once")
    if len(unknown := values[~torch.isin(values, pool_indices_N)]):
        raise SplitError(f"{source} lists index {int(unknown[0])}, which the dataset does not have")
    if len(missing := pool_indices_N[~torch.isin(pool_indices_N, values)]):
        raise SplitError(f"{source} lacks index {int(missing.min())} of the dataset ({len(missing)} in all)")


def _check_labels(split: Split, labels_N: Tensor, *, source: str) -> None:
    if len(differing := (split.labels != labels_N).nonzero()):
        position = int(differing[0])
        raise SplitError(
            f"{source} says label {int(split.labels[position])} for index {int(split.indices[position])}, "
            f"where the dataset says {int(labels_N[position])}"
        )


def _check_held_out(split: Split, num_classes: int, *, source: str) -> None:
    if split.held_out is None or not len(split.labels):
        return
    low, high = (int(end) for end in split.held_out.prediction.aminmax())
    if low < 0 or high >= num_classes:
        raise SplitError(f"{source} has held-out predictions of classes that the dataset does not have")


def _check_size(split: Split, *, source: str) -> None:
    num_examples, num_val = len(split.labels), int(split.in_validation.sum())
    if num_val == 0 and split.info.val_dataset is None:
        raise SplitError(f"{source} has no validation example")
    largest = validation_size(num_examples, delta=split.info.delta)
    if num_val > largest:
        raise SplitError(
            f"{source} puts {num_val} of {num_examples} examples in validation; "
            f"its delta {split.info.delta:g} allows {largest}"
        )


def _listed(classes: Tensor) -> str:
    labels = [str(label) for label in classes.flatten().tolist()]
    return ", ".join(labels[:5]) + (f" and {len(labels) - 5} more" if len(labels) > 5 else "")
