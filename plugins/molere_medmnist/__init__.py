"""MedMNIST's small medical images (doi 10.1038/s41597-022-01721-8), from its own npz files."""

from __future__ import annotations

from collections.abc import Callable

from molere_cli import DatasetCard, DatasetSpec, hookimpl


@hookimpl
def register_datasets(register: Callable[[DatasetSpec], None]) -> None:
    register(
        DatasetSpec(
            name="medmnist",
            description="MedMNIST by name (pathmnist, dermamnist, organamnist...), 28 to 224 px; "
            "--download fetches it.",
            load="molere_medmnist.npz:load_medmnist",
            options="molere_medmnist.npz:MedMnistOptions",
            argument="NAME",
            card=DatasetCard(
                task="small medical images of eleven kinds, 2 to 11 classes",
                sizes="546 (breastmnist) to 165,466 (tissuemnist) train, with tuning and test; 28 to 224 px",
                source="`--download`, from zenodo.org/records/10519652",
                licence="CC BY 4.0 (dermamnist: CC BY-NC 4.0)",
            ),
        )
    )
