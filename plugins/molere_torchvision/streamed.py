"""Photographs of torchvision's datasets, decoded as they are needed, by the lists that come with them.

The lists are text, JSON and `.mat` files (`scipy.io.loadmat`); nothing here is unpickled.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torchvision import datasets

from molere_cli import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    Dataset,
    DatasetRequest,
    Examples,
    FolderReader,
    split_off,
)
from molere_torchvision.fetch import found_or_fetched
from molere_torchvision.folder import read_folder


@dataclass(frozen=True, kw_only=True)
class Listed:
    """What the list of one part says: paths, labels, and groups where the part has them."""

    paths: list[Any]
    labels: list[int]
    class_names: tuple[str, ...]
    groups: list[int] | None = None
    group_names: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Photographs:
    """title: as sentences call it. folder: where it lies under `data_dir`. read: (root, is it the training
    part, download) to what the list says. by_hand: what to put there where nothing can be downloaded."""

    title: str
    folder: str
    read: Callable[[Path, bool, bool], Listed]
    by_hand: str | None = None

    def load(self, request: DatasetRequest) -> Dataset:
        """The dataset's own training and test lists, streamed from the files.

        Raises:
            DataError: it is not in `data_dir`, cannot be downloaded, or a list is damaged.
        """
        place = request.data_dir / self.folder
        pool_list, test_list = (self._part(place, request, train=train) for train in (True, False))
        pool, tuning = split_off(_examples(pool_list, place), request.options.tuning, seed=request.data_seed)
        return Dataset(
            pool=pool,
            tuning=tuning,
            tests={"test": _examples(test_list, place)},
            class_names=pool_list.class_names,
            group_names=pool_list.group_names,
            mean=IMAGENET_MEAN,
            std=IMAGENET_STD,
            augment="crop-flip",
            crop_mode="center",
        )

    def _part(self, place: Path, request: DatasetRequest, *, train: bool) -> Listed:
        def make(download: bool) -> Listed:
            return self.read(request.data_dir, train, download)

        return found_or_fetched(self.title, make, place=place, request=request, by_hand=self.by_hand)


def load_eurosat(request: DatasetRequest) -> Dataset:
    """EuroSAT's 27,000 RGB images of 10 classes; it has no test set, so a part of every class is held out.

    Raises:
        DataError: it is not in `data_dir`, or cannot be downloaded.
    """
    place = request.data_dir / "eurosat"

    def make(download: bool) -> Path:
        return Path(datasets.EuroSAT(root=request.data_dir, download=download).root) / "eurosat" / "2750"

    root = found_or_fetched("EuroSAT", make, place=place, request=request)
    return read_folder(root, test_fraction=request.options.test_fraction, request=request)


def _examples(part: Listed, place: Path) -> Examples:
    paths = [os.path.relpath(path, place) for path in part.paths]
    return Examples(
        images=FolderReader(place, paths),
        labels=torch.tensor(part.labels, dtype=torch.int64),
        groups=None if part.groups is None else torch.tensor(part.groups, dtype=torch.int64),
    )


def _pets(root: Path, train: bool, download: bool) -> Listed:
    source = datasets.OxfordIIITPet(root=root, split="trainval" if train else "test", download=download)
    return Listed(paths=source._images, labels=source._labels, class_names=tuple(source.classes))


def _cats_vs_dogs(root: Path, train: bool, download: bool) -> Listed:
    """The same images by species; the breeds are the groups."""
    source = datasets.OxfordIIITPet(
        root=root,
        split="trainval" if train else "test",
        target_types="binary-category",
        download=download,
    )
    return Listed(
        paths=source._images,
        labels=source._bin_labels,
        class_names=tuple(source.bin_classes),
        groups=source._labels,
        group_names=tuple(source.classes),
    )


def _cars(root: Path, train: bool, download: bool) -> Listed:
    source = datasets.StanfordCars(root=root, split="train" if train else "test", download=download)
    return Listed(
        paths=[path for path, _ in source._samples],
        labels=[int(label) for _, label in source._samples],
        class_names=tuple(source.classes),
    )


def _aircraft(root: Path, train: bool, download: bool) -> Listed:
    source = datasets.FGVCAircraft(root=root, split="trainval" if train else "test", download=download)
    return Listed(paths=source._image_files, labels=source._labels, class_names=tuple(source.classes))


def _flowers(root: Path, train: bool, download: bool) -> Listed:
    """Its training and validation lists (1,020 each) together are the pool, as is usual."""
    parts = [
        datasets.Flowers102(root=root, split=split, download=download)
        for split in (("train", "val") if train else ("test",))
    ]
    return Listed(
        paths=[path for part in parts for path in part._image_files],
        labels=[int(label) for part in parts for label in part._labels],
        # torchvision has had the names since 0.21; the dataset itself has numbers.
        class_names=tuple(getattr(datasets.Flowers102, "classes", map(str, range(1, 103)))),
    )


def _food(root: Path, train: bool, download: bool) -> Listed:
    source = datasets.Food101(root=root, split="train" if train else "test", download=download)
    return Listed(paths=source._image_files, labels=source._labels, class_names=tuple(source.classes))


PETS = Photographs(title="Oxford-IIIT Pet", folder="oxford-iiit-pet", read=_pets)
CATS_VS_DOGS = Photographs(title="Oxford-IIIT Pet", folder="oxford-iiit-pet", read=_cats_vs_dogs)
CARS = Photographs(
    title="Stanford Cars",
    folder="stanford_cars",
    read=_cars,
    by_hand="cars_train/, cars_test/, devkit/ and cars_test_annos_withlabels.mat",
)
AIRCRAFT = Photographs(title="FGVC-Aircraft", folder="fgvc-aircraft-2013b", read=_aircraft)
FLOWERS102 = Photographs(title="Flowers-102", folder="flowers-102", read=_flowers)
FOOD101 = Photographs(title="Food-101", folder="food-101", read=_food)
