"""A dataset of the Hugging Face Hub, through `datasets`."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from molere_cli import DataError, Dataset, DatasetRequest
from molere_huggingface.assemble import assemble

TEST_SPLITS = ("test", "validation")


def load_hub(request: DatasetRequest) -> Dataset:
    """`hf:ORG/NAME`, or a local folder that `datasets` can read.

    Raises:
        DataError: `datasets` is not installed, the dataset cannot be had, or it has no `train` split.
    """
    try:
        import datasets
    except ImportError as error:
        raise DataError("hf: needs the package datasets; pip install 'molere[huggingface]'") from error
    name = request.argument
    datasets.disable_progress_bars()
    try:
        found = datasets.load_dataset(name)
    except Exception as error:  # datasets raises many kinds for "not there" and "no network"
        raise DataError(f"cannot load {name!r} through datasets: {str(error).splitlines()[0]}") from error
    if "train" not in found:
        raise DataError(f"{name!r} has no split called train; it has {', '.join(found)}")
    test = next((found[split] for split in TEST_SPLITS if split in found), None)
    return assemble(
        _table(found["train"]), None if test is None else _table(test), request, source=f"hf:{name}"
    )


def _table(split: Any) -> pa.Table:
    """The rows with their images still encoded; `datasets` keeps class names in the schema's metadata."""
    return split.with_format("arrow")[:]
