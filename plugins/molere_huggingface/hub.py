"""A dataset of the Hugging Face Hub, through `datasets`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from molere_cli import DataError, Dataset, DatasetRequest
from molere_huggingface.arrow_rows import Rows, is_image
from molere_huggingface.assemble import ParquetOptions, assemble

TEST_SPLITS, TUNING_SPLITS = ("test",), ("validation", "valid", "val")


class HubOptions(ParquetOptions):
    """config: which configuration (subset), for a dataset that has several."""

    config: str | None = None


def load_hub(request: DatasetRequest) -> Dataset:
    """`hf:ORG/NAME`, or a local folder that `datasets` can read.

    Raises:
        DataError: `datasets` is not installed, the dataset cannot be had, it has several configurations
            and none was chosen, or it has no `train` split.
    """
    try:
        import datasets
    except ImportError as error:
        raise DataError("hf: needs the package datasets; pip install 'molere[huggingface]'") from error
    assert request.argument is not None
    name = request.argument
    datasets.disable_progress_bars()
    try:
        found = _load(name, request.options.config)
    except Exception as error:  # datasets raises many kinds for "not there" and "no network"
        if "Config name is missing" in str(error):
            configs = sorted(datasets.get_dataset_config_names(name))
            raise DataError(
                f"{name!r} has several configurations: {', '.join(configs)}; choose one with "
                f"--dataset-option config={configs[0]}"
            ) from error
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError(f"cannot load {name!r} through datasets: {reason}") from error
    test, tuning = (
        next((split for split in splits if split in found), None) for splits in (TEST_SPLITS, TUNING_SPLITS)
    )
    if test is None:
        test, tuning = tuning, None
    if "train" not in found and not (test and request.for_test):
        raise DataError(f"{name!r} has no split called train; it has {', '.join(found)}")

    def rows(split: str | None) -> Rows | None:
        return _rows(found[split], f"hf:{name}, split {split}") if split in found else None

    return assemble(request, train=rows("train"), test=rows(test), tuning=rows(tuning))


def _load(name: str, config: str | None) -> Any:
    """`datasets.load_dataset`, but what `save_to_disk` wrote is opened as it is.

    There older releases of `load_dataset` would read the JSON beside the arrow files as if it were the data.
    """
    import datasets

    if config is None and Path(name, "dataset_dict.json").is_file():
        return datasets.load_from_disk(name)
    return datasets.load_dataset(name, config)


def _rows(split: Any, name: str) -> Rows:
    """The rows with their images still encoded; `datasets` keeps class names in the schema's metadata."""
    from datasets.table import embed_table_storage

    table = split.with_format("arrow")[:]
    if _lacks_bytes(table):
        table = embed_table_storage(table)
    return Rows(table, name, ((name, len(table)),))


def _lacks_bytes(table: Any) -> bool:
    """Whether images are there by path alone, as in a dataset of image files.

    Only then are they read in: embedding copies every image, where the table is otherwise mapped from disk.
    """
    columns = [table[field.name] for field in table.schema if is_image(field.type)]
    return any(chunk.field("bytes").null_count for column in columns for chunk in column.chunks)
