"""A run's tables, a row an example: which columns they have, written and read one way.

pool.parquet         of the training examples
predictions.parquet  of the test examples of every test set
thumbnails.parquet   small pictures of some of both

Version 1 said nothing of its version, and had -1 for an example of no group.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from molere_cli.foundation.errors import RunError, on_one_line
from molere_cli.foundation.files import parse_json, replacing
from molere_cli.runs.run_directory import RunDir

VERSION = 2
METADATA_KEY = b"molere"

_OF_EXAMPLES = [
    pa.field("index", pa.int64(), nullable=False),
    pa.field("label", pa.int64(), nullable=False),
    pa.field("prediction", pa.int64(), nullable=False),
    pa.field("probability", pa.float32(), nullable=False),
    pa.field("second", pa.int64()),
    pa.field("second_probability", pa.float32()),
    pa.field("label_probability", pa.float32(), nullable=False),
    pa.field("margin", pa.float32(), nullable=False),
    pa.field("loss", pa.float32(), nullable=False),
    pa.field("group", pa.int64()),
    pa.field("path", pa.string()),
]
POOL = pa.schema(
    [
        *_OF_EXAMPLES,
        pa.field("clean_label", pa.int64()),
        *(
            pa.field(name, pa.float32())
            for name in ("aum", "early_aum", "el2n", "forgetting", "weight", "mean_weight")
        ),
        pa.field("in_validation", pa.bool_()),
        pa.field("held_out_prediction", pa.int64()),
        pa.field("held_out_probability", pa.float32()),
        pa.field("held_out_label_probability", pa.float32()),
    ]
)
"""index: in the full pool. label; prediction, the likeliest class by the final checkpoint, with its
probability; second, the next likely class, with its own (null where there is one class); label_probability;
margin in [-1, 1]; loss in nats; group (null: of none); path: a file, `FILE.parquet:ROW`, or null.
clean_label: before label noise (null: there is none). aum, early_aum, el2n, forgetting, weight and
mean_weight: as `engine.pool_record` has them (null: never trained on). in_validation: side of the split;
held_out_prediction, held_out_probability, held_out_label_probability: what classifiers that never trained on
an example say of it, where the split's scores are out of fold (null: there is no split, or it has none)."""
PREDICTIONS = pa.schema(
    [pa.field("test_set", pa.dictionary(pa.int32(), pa.string()), nullable=False), *_OF_EXAMPLES]
)
"""test_set, and what `POOL` has of every example; index: in the test set."""
THUMBNAILS = pa.schema(
    [
        pa.field("set", pa.dictionary(pa.int32(), pa.string()), nullable=False),
        pa.field("index", pa.int64(), nullable=False),
        pa.field("webp", pa.binary(), nullable=False),
    ]
)
"""Images that a page can ask for. set: `POOL_SET`, or a test set as `TEST_PREFIX` and its name; index: as in
the table of that set; webp: the encoded picture."""
POOL_SET = "pool"
TEST_PREFIX = "test/"
CLASSES = frozenset({"label", "prediction", "second", "clean_label", "held_out_prediction"})
"""Columns that hold places in the run's `class_names`."""


def write_pool(columns: Mapping[str, pa.Array], path: Path) -> None:
    """Write `pool.parquet` from all columns of `POOL`.

    Raises:
        WriteError: the system refuses.
    """
    _write(pa.table(dict(columns), schema=_described(POOL)), path)


def write_predictions(tables: Mapping[str, Mapping[str, pa.Array]], path: Path) -> None:
    """Write `predictions.parquet` from the columns of `PREDICTIONS` beside `test_set`, by test set.

    Raises:
        WriteError: the system refuses.
    """
    _write(_in_one("test_set", tables, PREDICTIONS), path)


def write_thumbnails(tables: Mapping[str, Mapping[str, pa.Array]], path: Path) -> None:
    """Write `thumbnails.parquet` from the columns of `THUMBNAILS` beside `set`, by set.

    Raises:
        WriteError: the system refuses.
    """
    # What is encoded already does not get smaller.
    _write(_in_one("set", tables, THUMBNAILS), path, compression="none")


def _in_one(key: str, tables: Mapping[str, Mapping[str, pa.Array]], schema: pa.Schema) -> pa.Table:
    parts = []
    for name, columns in tables.items():
        size = len(columns["index"])
        named = pa.DictionaryArray.from_arrays(pa.array([0] * size, pa.int32()), pa.array([name]))
        parts.append(pa.table({key: named, **columns}, schema=_described(schema)))
    return pa.concat_tables(parts).unify_dictionaries()


def _described(schema: pa.Schema) -> pa.Schema:
    return schema.with_metadata({METADATA_KEY: json.dumps({"version": VERSION}).encode()})


def _write(table: pa.Table, path: Path, **options: Any) -> None:
    with replacing(path) as temporary:
        pq.write_table(table, temporary.absolute(), **options)  # `a:b/c` would be a URI


@dataclass(frozen=True)
class RunTable:
    """One of a finished run's tables, as it lies on disk."""

    run: RunDir
    path: Path
    schema: pa.Schema

    @classmethod
    def pool(cls, run: RunDir) -> RunTable:
        """Of the training examples."""
        return cls(run, run.pool_path, POOL)

    @classmethod
    def predictions(cls, run: RunDir) -> RunTable:
        """Of the test examples."""
        return cls(run, run.predictions_path, PREDICTIONS)

    @classmethod
    def thumbnails(cls, run: RunDir) -> RunTable | None:
        """Of images; None for a run that kept none."""
        return cls(run, run.thumbnails_path, THUMBNAILS) if run.has_thumbnails() else None

    def columns(self) -> list[str]:
        """Those that it has; tables of earlier versions lack some.

        Raises:
            RunError: the table is missing, damaged, or of a later version.
        """
        self.run.check(self.path.name)
        with self._reading():
            return list(self._checked(pq.read_schema(self.path.absolute())).names)

    def read(self, columns: Sequence[str], *, test_set: str | None = None) -> pa.Table:
        """Some columns, in the types of the schema, in one chunk each.

        Args:
            test_set: of `predictions.parquet`, the one whose rows are wanted.

        Raises:
            RunError: the table is missing, damaged, of a later version, has no such column or test set, or
                holds what no run writes: a null where none may be, a class that the run has not, not an
                example a row.
        """
        if missing := [name for name in columns if name not in self.columns()]:
            raise RunError(
                f"{self.run.path} was trained by a version of MOLERE that did not record {missing[0]}; train "
                "it again"
            )
        with self._reading():
            chosen = None if test_set is None else [("test_set", "=", test_set)]
            found = pq.read_table(self.path.absolute(), columns=list(columns), filters=chosen)
            found = found.combine_chunks()
        if test_set is None:
            self._check_size(found)
        elif not len(found):
            raise RunError(f"{self.path} has no test set {test_set!r}")
        return pa.table({name: self._column(found, name) for name in columns})

    def _checked(self, schema: pa.Schema) -> pa.Schema:
        self._version(schema)
        if len(set(schema.names)) < len(schema.names):
            twice = next(name for name in schema.names if schema.names.count(name) > 1)
            raise self._damaged(f"it has two columns {twice!r}")
        return schema

    def _version(self, schema: pa.Schema) -> int:
        described: Any = {"version": 1}
        if (text := (schema.metadata or {}).get(METADATA_KEY)) is not None:
            try:
                described = parse_json(text.decode())
            except ValueError as error:
                raise self._damaged("it does not say which version it is of") from error
        version = described.get("version") if isinstance(described, dict) else None
        if not isinstance(version, int) or version < 1:
            raise self._damaged("it does not say which version it is of")
        if version > VERSION:
            raise RunError(
                f"{self.path} was written by a later version of MOLERE (table version {version}, here "
                f"{VERSION}); update MOLERE to read it"
            )
        return version

    def _check_size(self, found: pa.Table) -> None:
        num_pool = self.run.environment().get("num_pool")
        if self.schema is POOL and num_pool not in {None, len(found)}:
            raise self._damaged(f"it has {len(found):,} rows, where the pool had {num_pool:,}")

    def _column(self, found: pa.Table, name: str) -> pa.ChunkedArray:
        field, values = self.schema.field(name), found[name]
        if _sort(values.type) != _sort(field.type):
            raise self._damaged(f"column {name!r} holds {values.type}, not {field.type}")
        with self._reading():
            values = values.cast(field.type)
        if name == "group":
            values = pc.if_else(pc.less(values, 0), None, values)
        if values.null_count and not field.nullable:
            raise self._damaged(f"column {name!r} lacks {values.null_count:,} of {len(values):,} values")
        if name in CLASSES:
            self._check_classes(name, values)
        if (
            name == "index"
            and self.schema is POOL
            and (values.null_count or pc.count_distinct(values).as_py() < len(values))
        ):
            raise self._damaged("some rows are of one example")
        return values

    def _check_classes(self, name: str, values: pa.ChunkedArray) -> None:
        num_classes = len(self.run.environment().get("class_names", ()))
        bounds = pc.min_max(values).as_py()
        if (
            num_classes
            and bounds["min"] is not None
            and not 0 <= bounds["min"] <= bounds["max"] < num_classes
        ):
            raise self._damaged(f"{name} has classes that the run does not have")

    @contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except (OSError, pa.ArrowException, UnicodeDecodeError) as error:
            raise RunError(f"{self.path} cannot be read: {on_one_line(str(error))}") from error

    def _damaged(self, reason: str) -> RunError:
        return RunError(f"{self.path} is damaged: {reason}")


def _sort(kind: pa.DataType) -> str:
    if pa.types.is_dictionary(kind):
        return _sort(kind.value_type)
    for sort, holds in {
        "boolean": pa.types.is_boolean,
        "integer": pa.types.is_integer,
        "floating": pa.types.is_floating,
        "binary": lambda kind: pa.types.is_binary(kind) or pa.types.is_large_binary(kind),
        "text": lambda kind: pa.types.is_string(kind) or pa.types.is_large_string(kind),
    }.items():
        if holds(kind):
            return sort
    return str(kind)
