"""torchvision's datasets and networks, any folder of images, and any list of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from pydantic import Field

from molere_cli import (
    BackboneFamily,
    BackboneRequest,
    BackboneSpec,
    Dataset,
    DatasetRequest,
    DatasetSpec,
    Options,
    hookimpl,
)
from molere_torchvision.cards import CARDS

if TYPE_CHECKING:
    from torch import nn


class HoldoutOptions(Options):
    """tuning: the fraction of the training images held out as a tuning set."""

    tuning: float = Field(0.0, ge=0, le=0.5)


class FolderOptions(HoldoutOptions):
    """test_fraction: what to hold out as the test set where there is none."""

    test_fraction: float = Field(0.2, gt=0, le=0.5)


def _load_cifar(name: str, request: DatasetRequest) -> Dataset:
    from molere_torchvision.cifar import load_cifar

    return load_cifar(name, request)


def _load_small(name: str, request: DatasetRequest) -> Dataset:
    from molere_torchvision.small import load_small

    return load_small(name, request)


def _load_streamed(name: str, request: DatasetRequest) -> Dataset:
    from molere_torchvision.streamed import load_streamed

    return load_streamed(name, request)


def _load_eurosat(request: DatasetRequest) -> Dataset:
    from molere_torchvision.streamed import load_eurosat

    return load_eurosat(request)


def _load_imagenet(request: DatasetRequest) -> Dataset:
    from molere_torchvision.imagenet import load_imagenet

    return load_imagenet(request)


def _load_imagenet100(request: DatasetRequest) -> Dataset:
    from molere_torchvision.imagenet import load_imagenet100

    return load_imagenet100(request)


def _load_elsewhere(name: str, request: DatasetRequest) -> Dataset:
    from molere_torchvision.imagenet import load_elsewhere

    return load_elsewhere(name, request)


def _load_clothing1m(request: DatasetRequest) -> Dataset:
    from molere_torchvision.clothing import load_clothing1m

    return load_clothing1m(request)


def _load_retinopathy(request: DatasetRequest) -> Dataset:
    from molere_torchvision.retinopathy import load_retinopathy

    return load_retinopathy(request)


def _load_folder(request: DatasetRequest) -> Dataset:
    from molere_torchvision.folder import load_folder

    return load_folder(request)


def _load_manifest(request: DatasetRequest) -> Dataset:
    from molere_torchvision.manifest import load_manifest

    return load_manifest(request)


FETCHED = "--download fetches it."
CARS = "Stanford Cars, 196 models of car; to be put into DATA_DIR/stanford_cars."
IMAGENET = "ImageNet-1K from DATA_DIR/imagenet/train/WNID/* and val/WNID/*."
FOLDER = "A folder of images: DIR/train/CLASS/* and DIR/test/CLASS/*, or DIR/CLASS/*."
MANIFEST = "A CSV file of images: path,label and, where wanted, group,split; paths relative to it."
DATASETS: tuple[tuple[str, str, Callable[[DatasetRequest], Dataset]], ...] = (
    ("cifar10", f"CIFAR-10, 32 px; {FETCHED}", partial(_load_cifar, "CIFAR10")),
    ("cifar100", f"CIFAR-100, 32 px; {FETCHED}", partial(_load_cifar, "CIFAR100")),
    ("svhn", f"Street View House Numbers, 32 px; {FETCHED}", partial(_load_small, "svhn")),
    ("stl10", f"STL-10, 96 px, its labelled part; {FETCHED}", partial(_load_small, "stl10")),
    ("mnist", f"MNIST, 28 px; {FETCHED}", partial(_load_small, "mnist")),
    ("fashion-mnist", f"Fashion-MNIST, 28 px; {FETCHED}", partial(_load_small, "fashion-mnist")),
    ("pets", f"Oxford-IIIT Pet, 37 breeds; {FETCHED}", partial(_load_streamed, "pets")),
    (
        "pets-cats-vs-dogs",
        f"Oxford-IIIT Pet by species, with the breeds as groups; {FETCHED}",
        partial(_load_streamed, "pets-cats-vs-dogs"),
    ),
    ("stanford-cars", CARS, partial(_load_streamed, "stanford-cars")),
    ("aircraft", f"FGVC-Aircraft, 100 variants; {FETCHED}", partial(_load_streamed, "aircraft")),
    ("flowers102", f"Flowers-102; {FETCHED}", partial(_load_streamed, "flowers102")),
    ("food101", f"Food-101; {FETCHED}", partial(_load_streamed, "food101")),
    ("imagenet", IMAGENET, _load_imagenet),
    ("imagenet100", "ImageNet-100: a hundred classes out of DATA_DIR/imagenet.", _load_imagenet100),
)
TESTS_OF_IMAGENET = {
    "imagenet-a": "ImageNet-A, 200 classes that classifiers get wrong, from DATA_DIR/imagenet-a/WNID/*.",
    "imagenet-r": "ImageNet-R, renditions of 200 classes, from DATA_DIR/imagenet-r/WNID/*.",
    "imagenet-sketch": "ImageNet-Sketch, drawings of all classes, from DATA_DIR/sketch/WNID/*.",
    "imagenet-v2": "ImageNet-V2, from DATA_DIR/imagenetv2-matched-frequency-format-val/NUMBER/*.",
}


@hookimpl
def register_datasets(register: Callable[[DatasetSpec], None]) -> None:
    for name, description, load in DATASETS:
        register(
            DatasetSpec(
                name=name, description=description, load=load, options=HoldoutOptions, card=CARDS[name]
            )
        )
    for name, description in TESTS_OF_IMAGENET.items():
        register(
            DatasetSpec(
                name=name,
                description=f"To test on: {description}",
                load=partial(_load_elsewhere, name),
                card=CARDS[name],
                test_only=True,
            )
        )
    register(
        DatasetSpec(
            name="clothing1m",
            description="Clothing-1M with noisy labels, from DATA_DIR/clothing1m; tuning and test are clean.",
            load=_load_clothing1m,
            card=CARDS["clothing1m"],
        )
    )
    register(
        DatasetSpec(
            name="diabetic-retinopathy",
            description="Retinas in five grades, from DATA_DIR/diabetic-retinopathy; patients held out.",
            load=_load_retinopathy,
            options=FolderOptions,
            card=CARDS["diabetic-retinopathy"],
        )
    )
    register(
        DatasetSpec(
            name="eurosat",
            description=f"EuroSAT, 64 px satellite images, part of it held out as the test; {FETCHED}",
            load=_load_eurosat,
            options=FolderOptions,
            card=CARDS["eurosat"],
        )
    )
    register(
        DatasetSpec(
            name="folder", description=FOLDER, load=_load_folder, options=FolderOptions, argument="DIR"
        )
    )
    register(
        DatasetSpec(
            name="csv", description=MANIFEST, load=_load_manifest, options=FolderOptions, argument="FILE"
        )
    )


def _list_networks() -> Sequence[str]:
    from molere_torchvision.family import list_names

    return list_names()


def _build_network(name: str, request: BackboneRequest) -> nn.Module:
    from molere_torchvision.family import build

    return build(name, request)


@hookimpl
def register_backbones(register: Callable[[BackboneSpec | BackboneFamily], None]) -> None:
    register(
        BackboneFamily(
            prefix="torchvision",
            description="Any classification network of torchvision, from random weights",
            list_names=_list_networks,
            build=_build_network,
            plain_names=False,
        )
    )
