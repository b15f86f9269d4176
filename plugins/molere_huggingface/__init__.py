"""Datasets in the Hugging Face image layout: Parquet folders, and the Hub through `datasets`."""

from __future__ import annotations

from collections.abc import Callable

from molere_cli import DatasetSpec, hookimpl


@hookimpl
def register_datasets(register: Callable[[DatasetSpec], None]) -> None:
    register(
        DatasetSpec(
            name="parquet",
            description="A folder of train*.parquet and test*.parquet in the Hugging Face image layout.",
            load="molere_huggingface.parquet:load_parquet_folder",
            options="molere_huggingface.assemble:ParquetOptions",
            argument="DIR",
            argument_is_path=True,
        )
    )
    register(
        DatasetSpec(
            name="hf",
            description="A dataset of the Hugging Face Hub (needs molere[huggingface]).",
            load="molere_huggingface.hub:load_hub",
            options="molere_huggingface.hub:HubOptions",
            argument="ORG/NAME",
        )
    )
