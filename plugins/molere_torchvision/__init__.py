"""torchvision's datasets: CIFAR-10, CIFAR-100, and any folder of images."""

from __future__ import annotations

from collections.abc import Callable

from pydantic import Field

from molere_cli import Dataset, DatasetRequest, DatasetSpec, Options, hookimpl


class HoldoutOptions(Options):
    """tuning: the fraction of the training images held out as a tuning set."""

    tuning: float = Field(0.0, ge=0, le=0.5)


class FolderOptions(HoldoutOptions):
    """test_fraction: what to hold out as the test set where the folder has none."""

    test_fraction: float = Field(0.2, gt=0, le=0.5)


def _load_cifar10(request: DatasetRequest) -> Dataset:
    from molere_torchvision.cifar import load_cifar

    return load_cifar("CIFAR10", request)


def _load_cifar100(request: DatasetRequest) -> Dataset:
    from molere_torchvision.cifar import load_cifar

    return load_cifar("CIFAR100", request)


def _load_folder(request: DatasetRequest) -> Dataset:
    from molere_torchvision.folder import load_folder

    return load_folder(request)


@hookimpl
def register_datasets(register: Callable[[DatasetSpec], None]) -> None:
    register(
        DatasetSpec(
            name="cifar10",
            description="CIFAR-10, 32 px; --download fetches it.",
            load=_load_cifar10,
            options=HoldoutOptions,
        )
    )
    register(
        DatasetSpec(
            name="cifar100",
            description="CIFAR-100, 32 px; --download fetches it.",
            load=_load_cifar100,
            options=HoldoutOptions,
        )
    )
    register(
        DatasetSpec(
            name="folder",
            description="A folder of images: DIR/train/CLASS/* and DIR/test/CLASS/*, or DIR/CLASS/*.",
            load=_load_folder,
            options=FolderOptions,
            argument="DIR",
        )
    )
