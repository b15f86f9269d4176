"""CIFAR from torchvision's own archives, whose checksums it verifies before it reads them."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torchvision import datasets

from molere_cli import DataError, Dataset, DatasetRequest, Examples, split_off

MEAN = {"CIFAR10": (0.4914, 0.4822, 0.4465), "CIFAR100": (0.5071, 0.4865, 0.4409)}
STD = {"CIFAR10": (0.2470, 0.2435, 0.2616), "CIFAR100": (0.2673, 0.2564, 0.2762)}


def _load(name: str, request: DatasetRequest) -> Dataset:
    """CIFAR10 or CIFAR100 from `data_dir`, downloaded there if asked for.

    Raises:
        DataError: it is not there and was not to be downloaded, or the download failed.
    """
    train, test = _read(name, request, train=True), _read(name, request, train=False)
    pool, tuning = split_off(_examples(train), request.options.tuning, seed=request.data_seed)
    return Dataset(
        pool=pool,
        tuning=tuning,
        tests={"test": _examples(test)},
        class_names=tuple(train.classes),
        mean=MEAN[name],
        std=STD[name],
        augment="crop-flip",
    )


def _read(name: str, request: DatasetRequest, *, train: bool) -> Any:
    try:
        return getattr(datasets, name)(root=request.data_dir, train=train, download=request.download)
    except (RuntimeError, OSError) as error:
        if request.download:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise DataError(f"{name} could not be downloaded to {request.data_dir}: {reason}") from error
        raise DataError(
            f"{name} is not in {request.data_dir}; --download fetches it, --data-dir looks elsewhere"
        ) from error


def _examples(source: Any) -> Examples:
    return Examples(
        images=torch.from_numpy(source.data).permute(0, 3, 1, 2).contiguous(),
        labels=torch.tensor(source.targets, dtype=torch.int64),
    )


load_cifar10, load_cifar100 = partial(_load, "CIFAR10"), partial(_load, "CIFAR100")
