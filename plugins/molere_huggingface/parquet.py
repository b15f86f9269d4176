"""A folder of Parquet files in the Hugging Face image layout."""

from __future__ import annotations

import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from molere_cli import DataError, Dataset, DatasetRequest
from molere_huggingface.arrow_rows import Rows
from molere_huggingface.assemble import assemble

TRAIN_PREFIXES, TEST_PREFIXES = ("train", "training"), ("test", "testing")
TUNING_PREFIXES = ("validation", "valid", "val")
SHARD = re.compile(r"(.*-)(\d+)(-of-)(\d+)(\.parquet)", re.IGNORECASE)


def load_parquet_folder(request: DatasetRequest) -> Dataset:
    """`DIR/train*.parquet` and `DIR/test*.parquet`, or the same in `DIR/data`; `validation*.parquet` beside
    them is the tuning set, or the test set where there is no other.

    Raises:
        DataError: no such folder, no training file, a shard is missing, or a file that cannot be read.
    """
    assert request.argument is not None
    root = Path(request.argument)
    if not root.is_dir():
        raise DataError(f"there is no folder {root}")
    train, test, tuning = (
        next((found for prefix in prefixes if (found := _shards(root, prefix))), None)
        for prefixes in (TRAIN_PREFIXES, TEST_PREFIXES, TUNING_PREFIXES)
    )
    if test is None:
        test, tuning = tuning, None
    if train is None and not (test and request.for_test):
        raise DataError(f"{root} has neither train.parquet nor train-*.parquet in it")
    return assemble(
        request,
        train=_read(train) if train else None,
        test=_read(test) if test else None,
        tuning=_read(tuning) if tuning else None,
    )


def _shards(root: Path, prefix: str) -> list[Path]:
    """Files called `prefix`, or `prefix` and more after what `datasets` takes for the end of a word."""
    called = re.compile(rf"{prefix}([-._ 0-9].*)?\.parquet", re.IGNORECASE)
    for folder in (root, root / "data"):
        found = sorted(path for path in folder.glob("*") if called.fullmatch(path.name))
        if found:
            _check_complete(found)
            return found
    return []


def _check_complete(files: list[Path]) -> None:
    """Raise DataError, naming it, if a shard is not there of those that the others count."""
    there = {path.name for path in files}
    for path in files:
        match = SHARD.fullmatch(path.name)
        if match is None:
            continue
        start, digits, of, total, ending = match.groups()
        expected = [f"{start}{number:0{len(digits)}}{of}{total}{ending}" for number in range(int(total))]
        if missing := [name for name in expected if name not in there]:
            more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
            raise DataError(f"{path.parent} lacks {', '.join(missing[:3])}{more} of {int(total)} shards")
        if strange := sorted(there - set(expected)):
            raise DataError(
                f"{path.parent} has {strange[0]} beside {path.name}, which is of another download"
            )


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
        return pq.read_table(path.absolute())  # `a:b` would be a URI
    except (OSError, pa.ArrowInvalid) as error:
        first_sentence = str(error).splitlines()[0].partition(". ")[0]
        raise DataError(f"cannot read {path}: {first_sentence}") from error


def _columns(table: pa.Table) -> str:
    return ", ".join(f"{field.name} ({field.type})" for field in table.schema)
