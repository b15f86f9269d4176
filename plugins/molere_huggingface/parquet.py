"""A folder of Parquet files in the Hugging Face image layout."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from molere_cli import DataError, Dataset, DatasetRequest
from molere_huggingface.assemble import assemble
from molere_huggingface.rows import Rows

TEST_PREFIXES = ("test", "validation", "valid", "val")


def load_parquet_folder(request: DatasetRequest) -> Dataset:
    """`DIR/train*.parquet` and `DIR/test*.parquet`, or the same in `DIR/data`.

    Raises:
        DataError: no such folder, no training file, or a file that cannot be read.
    """
    assert request.argument is not None
    root = Path(request.argument)
    if not root.is_dir():
        raise DataError(f"there is no folder {root}")
    train = _shards(root, "train")
    if not train:
        raise DataError(f"{root} has neither train.parquet nor train-*.parquet in it")
    test = next((found for prefix in TEST_PREFIXES if (found := _shards(root, prefix))), None)
    return assemble(_read(train), _read(test) if test else None, request)


def _shards(root: Path, prefix: str) -> list[Path]:
    """Files called `prefix`, or `prefix` and more after what `datasets` takes for the end of a word."""
    for folder in (root, root / "data"):
        found = [*folder.glob(f"{prefix}.parquet"), *folder.glob(f"{prefix}[-._ 0-9]*.parquet")]
        if found:
            return sorted(found)
    return []


def _read(paths: list[Path]) -> Rows:
    tables = [_read_file(path) for path in paths]
    for path, table in zip(paths, tables, strict=True):
        if table.schema != tables[0].schema:
            raise DataError(
                f"{path} has the columns {_columns(table)}, but {paths[0]} has {_columns(tables[0])}"
            )
    name = str(paths[0]) if len(paths) == 1 else f"{paths[0]} and its other shards"
    files = tuple((str(path), len(table)) for path, table in zip(paths, tables, strict=True))
    return Rows(pa.concat_tables(tables), name, files)


def _read_file(path: Path) -> pa.Table:
    try:
        return pq.read_table(path)
    except (OSError, pa.ArrowInvalid) as error:
        first_sentence = str(error).splitlines()[0].partition(". ")[0]
        raise DataError(f"cannot read {path}: {first_sentence}") from error


def _columns(table: pa.Table) -> str:
    return ", ".join(f"{field.name} ({field.type})" for field in table.schema)
