"""The small images of SVHN, STL-10, MNIST and Fashion-MNIST, in memory.

torchvision checks SVHN and STL-10 against its checksums and reads them by `scipy.io.loadmat` and as raw
bytes; MNIST's are idx files. Nothing here is unpickled.

Shapes: N examples, H x W pixels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torchvision import datasets

from molere_cli import DataError, Dataset, DatasetRequest, Examples, split_off
from molere_torchvision.fetch import found_or_fetched

Channels = tuple[float, float, float]
DIGITS = tuple("0123456789")
STL10_CLASSES = ("airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck")


@dataclass(frozen=True, kw_only=True)
class SmallImages:
    """title: as sentences call it. make: (root, is it the training part, download) to torchvision's dataset.
    folder: where it lies under `data_dir`. augment: flips only where a mirror image keeps its label."""

    title: str
    make: Callable[[Path, bool, bool], Any]
    folder: str
    class_names: tuple[str, ...]
    mean: Channels
    std: Channels
    augment: Literal["crop", "crop-flip"]

    def load(self, request: DatasetRequest) -> Dataset:
        """All images as uint8 (N, 3, H, W); grey is repeated to three channels.

        Raises:
            DataError: it is not in `data_dir`, cannot be downloaded, is damaged, or lies there pickled.
        """
        place = request.data_dir / self.folder
        self._refuse_pickles(place)
        everything, test = (self._part(place, request, train=train) for train in (True, False))
        pool, tuning = split_off(everything, request.options.tuning, seed=request.data_seed)
        return Dataset(
            pool=pool,
            tuning=tuning,
            tests={"test": test},
            class_names=self.class_names,
            mean=self.mean,
            std=self.std,
            augment=self.augment,
        )

    def _part(self, place: Path, request: DatasetRequest, *, train: bool) -> Examples:
        def make(download: bool) -> Examples:
            return _examples(self.make(request.data_dir, train, download))

        return found_or_fetched(self.title, make, place=place, request=request)

    def _refuse_pickles(self, place: Path) -> None:
        """torchvision prefers what its old versions pickled (MNIST/processed/*.pt) to the idx files."""
        if pickled := sorted((place / "processed").glob("*.pt")):
            raise DataError(
                f"{pickled[0]} is {self.title} pickled by an old torchvision, which is never read; "
                f"remove {place / 'processed'}"
            )


def _examples(source: Any) -> Examples:
    images = torch.as_tensor(np.ascontiguousarray(source.data))
    labels = source.labels if hasattr(source, "labels") else source.targets
    if images.ndim == 3:
        images = images[:, None].expand(-1, 3, -1, -1).contiguous()
    if len(images) != len(labels):
        raise ValueError(f"{len(images)} images for {len(labels)} labels")
    return Examples(images=images, labels=torch.as_tensor(labels).long())


def _by_train(name: str) -> Callable[[Path, bool, bool], Any]:
    make = getattr(datasets, name)
    return lambda root, train, download: make(root=root, train=train, download=download)


def _by_split(name: str) -> Callable[[Path, bool, bool], Any]:
    make = getattr(datasets, name)
    return lambda root, train, download: make(
        root=root, split="train" if train else "test", download=download
    )


SVHN = SmallImages(
    title="SVHN",
    make=_by_split("SVHN"),
    folder="",
    class_names=DIGITS,
    mean=(0.4377, 0.4438, 0.4728),
    std=(0.1980, 0.2010, 0.1970),
    augment="crop",
)
STL10 = SmallImages(
    title="STL-10",
    make=_by_split("STL10"),
    folder="stl10_binary",
    class_names=STL10_CLASSES,
    mean=(0.4467, 0.4398, 0.4066),
    std=(0.2603, 0.2566, 0.2713),
    augment="crop-flip",
)
MNIST = SmallImages(
    title="MNIST",
    make=_by_train("MNIST"),
    folder="MNIST",
    class_names=DIGITS,
    mean=(0.1307,) * 3,
    std=(0.3081,) * 3,
    augment="crop",
)
FASHION_MNIST = SmallImages(
    title="Fashion-MNIST",
    make=_by_train("FashionMNIST"),
    folder="FashionMNIST",
    class_names=tuple(datasets.FashionMNIST.classes),
    mean=(0.2860,) * 3,
    std=(0.3530,) * 3,
    augment="crop-flip",
)
