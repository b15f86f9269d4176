"""MedMNIST's small medical images (doi 10.1038/s41597-022-01721-8), from its own npz files."""

from __future__ import annotations

from collections.abc import Callable

from pydantic import field_validator

from molere_cli import Dataset, DatasetCard, DatasetRequest, DatasetSpec, Options, hookimpl

SIZES = (28, 64, 128, 224)


class MedMnistOptions(Options):
    """size: pixels a side, 28, 64, 128 or 224."""

    size: int = 28

    @field_validator("size")
    @classmethod
    def _published(cls, value: int) -> int:
        if value in SIZES:
            return value
        raise ValueError("must be 28, 64, 128 or 224")


def _load(request: DatasetRequest) -> Dataset:
    from molere_medmnist.npz import load_medmnist

    return load_medmnist(request)


@hookimpl
def register_datasets(register: Callable[[DatasetSpec], None]) -> None:
    register(
        DatasetSpec(
            name="medmnist",
            description="MedMNIST by name (pathmnist, dermamnist, organamnist...), 28 to 224 px; "
            "--download fetches it.",
            load=_load,
            options=MedMnistOptions,
            argument="NAME",
            card=DatasetCard(
                task="small medical images of eleven kinds, 2 to 11 classes",
                sizes="546 (breastmnist) to 165,466 (tissuemnist) train, with tuning and test; 28 to 224 px",
                source="`--download`, from zenodo.org/records/10519652",
                licence="CC BY 4.0 (dermamnist: CC BY-NC 4.0)",
            ),
        )
    )
