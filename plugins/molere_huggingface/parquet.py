"""A folder of Parquet files in the Hugging Face image layout."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from molere_cli import DataError, Dataset, DatasetRequest
from molere_huggingface.assemble import assemble

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
        raise DataError(f"{root} has no train*.parquet in it")
    test = next((found for prefix in TEST_PREFIXES if (found := _shards(root, prefix))), None)
    return assemble(_read(train), _read(test) if test else None, request, source=str(root))


def _shards(root: Path, prefix: str) -> list[Path]:
    """Files called `prefix`, or `prefix-...`, by name."""
    for folder in (root, root / "data"):
        found = [*folder.glob(f"{prefix}.parquet"), *folder.glob(f"{prefix}-*.parquet")]
        if found:
            return sorted(found)
    return []


def _read(paths: list[Path]) -> pa.Table:
    tables = []
    for path in paths:
        try:
            tables.append(pq.read_table(path))
        except (OSError, pa.ArrowInvalid) as error:
            raise DataError(f"cannot read {path}: {error}") from error
    try:
        return pa.concat_tables(tables)
    except pa.ArrowInvalid as error:
        raise DataError(f"{paths[0]} and its other shards differ in their columns: {error}") from error
