"""Datasets in the Hugging Face image layout: Parquet folders, and the Hub through `datasets`."""

from __future__ import annotations

from collections.abc import Callable

from pydantic import Field

from molere_cli import Dataset, DatasetRequest, DatasetSpec, Options, hookimpl


class ParquetOptions(Options):
    """image_column, label_column: found by name or type if not given. tuning: the fraction of the training
    rows held out as a tuning set. test_fraction: what to hold out where there is no test file.
    memory_limit_mib: decoded images beyond this are read from the compressed rows as they are needed."""

    image_column: str | None = None
    label_column: str | None = None
    tuning: float = Field(0.0, ge=0, le=0.5)
    test_fraction: float = Field(0.2, gt=0, le=0.5)
    memory_limit_mib: int = Field(2048, ge=1)


class HubOptions(ParquetOptions):
    """config: which configuration (subset), for a dataset that has several."""

    config: str | None = None


def _load_parquet(request: DatasetRequest) -> Dataset:
    from molere_huggingface.parquet import load_parquet_folder

    return load_parquet_folder(request)


def _load_hub(request: DatasetRequest) -> Dataset:
    from molere_huggingface.hub import load_hub

    return load_hub(request)


@hookimpl
def register_datasets(register: Callable[[DatasetSpec], None]) -> None:
    register(
        DatasetSpec(
            name="parquet",
            description="A folder of train*.parquet and test*.parquet in the Hugging Face image layout.",
            load=_load_parquet,
            options=ParquetOptions,
            argument="DIR",
        )
    )
    register(
        DatasetSpec(
            name="hf",
            description="A dataset of the Hugging Face Hub (needs molere[huggingface]).",
            load=_load_hub,
            options=HubOptions,
            argument="ORG/NAME",
        )
    )
