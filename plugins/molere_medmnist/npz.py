"""One npz file of MedMNIST to a dataset, whole in memory as uint8.

Shapes: N examples, S x S pixels.
"""

from __future__ import annotations

import tempfile
import zipfile
import zlib
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import field_validator
from torchvision.datasets.utils import download_url

from molere_cli import DataError, Dataset, DatasetRequest, Examples, Options
from molere_medmnist.kinds import KINDS, MULTI_LABEL

URL = "https://zenodo.org/records/10519652/files/{file}?download=1"
# As in the authors' own experiments.
MEAN = STD = (0.5, 0.5, 0.5)
UNREADABLE = (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile, zlib.error, NotImplementedError)
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


def load_medmnist(request: DatasetRequest) -> Dataset:
    """`medmnist/NAME.npz` or `NAME_64.npz`...; its train part is the pool, val the tuning set.

    Grey is repeated to three channels.

    Raises:
        DataError: there is no such dataset, it has several labels an image, its file is not in `data_dir`,
            cannot be downloaded, or is damaged.
    """
    name, size = request.argument, request.options.size
    assert name is not None
    if name == MULTI_LABEL:
        raise DataError(f"{name} has several labels an image, which no method here can train on")
    if name not in KINDS:
        close = get_close_matches(name, KINDS, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(KINDS)}"
        raise DataError(f"MedMNIST has no {name!r} of two dimensions; {hint}")
    kind = KINDS[name]
    path = request.data_dir / "medmnist" / (f"{name}.npz" if size == 28 else f"{name}_{size}.npz")
    if not path.is_file():
        _fetch(path, md5=kind.md5[size], download=request.download)
    pool, tuning, test = _read(path, size=size, num_classes=len(kind.class_names))
    return Dataset(
        pool=pool,
        tuning=tuning,
        tests={"test": test},
        class_names=kind.class_names,
        mean=MEAN,
        std=STD,
        augment="crop" if kind.has_sides else "crop-flip",
    )


def _fetch(path: Path, *, md5: str, download: bool) -> None:
    """Download the file whole, with the right sum, or not at all."""
    url = URL.format(file=path.name)
    if not download:
        raise DataError(
            f"there is no file {path}; --download fetches it from {url}, --data-dir looks elsewhere"
        )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".download-") as folder:
            download_url(url, folder, path.name, md5)
            (Path(folder) / path.name).replace(path)
    except (OSError, RuntimeError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError(f"{url} could not be downloaded to {path}: {reason}") from error


def _read(path: Path, *, size: int, num_classes: int) -> tuple[Examples, ...]:
    """The parts train, val and test."""
    if not zipfile.is_zipfile(path):
        raise DataError(f"cannot read {path}: it is no npz archive, or has been cut short")
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return tuple(
                _examples(
                    arrays[f"{part}_images"], arrays[f"{part}_labels"], size=size, num_classes=num_classes
                )
                for part in ("train", "val", "test")
            )
    except UNREADABLE as error:
        # A KeyError's text is its message in quotation marks.
        reason = str(error.args[0] if isinstance(error, KeyError) else error).splitlines()
        raise DataError(f"cannot read {path}: {(reason or [type(error).__name__])[0]}") from error


def _examples(images: Any, labels: Any, *, size: int, num_classes: int) -> Examples:
    """images: uint8 (N, S, S) or (N, S, S, 3); labels: integers (N, 1). Raises ValueError for others."""
    num_images = len(images)
    if images.dtype != np.uint8 or images.shape not in {
        (num_images, size, size),
        (num_images, size, size, 3),
    }:
        raise ValueError(
            f"its images are {images.dtype} of shape {images.shape}, not of {size} x {size} pixels"
        )
    if labels.dtype.kind not in "iu" or labels.shape != (num_images, 1):
        raise ValueError(
            f"its labels are {labels.dtype} of shape {labels.shape}, not one for each of {num_images} images"
        )
    if num_images and not 0 <= labels.min() <= labels.max() < num_classes:
        raise ValueError(f"its labels go from {labels.min()} to {labels.max()}, not 0 to {num_classes - 1}")
    pixels = torch.from_numpy(images)
    # Views: the largest of these files hold 13 GB.
    channels = pixels.permute(0, 3, 1, 2) if pixels.ndim == 4 else pixels[:, None].expand(-1, 3, -1, -1)
    return Examples(images=channels, labels=torch.from_numpy(labels[:, 0].astype(np.int64)))
