"""A folder of images, one sub-folder a class, decoded as they are needed."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from pydantic import Field
from torchvision.datasets.folder import IMG_EXTENSIONS, find_classes, make_dataset

from molere_cli import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    DataError,
    Dataset,
    DatasetRequest,
    Examples,
    FolderReader,
    Options,
    split_off,
)

TEST_FOLDERS = ("test", "val")


class HoldoutOptions(Options):
    """tuning: the fraction of the training images held out as a tuning set."""

    tuning: float = Field(0.0, ge=0, le=0.5)


class FolderOptions(HoldoutOptions):
    """test_fraction: what to hold out as the test set where there is none."""

    test_fraction: float = Field(0.2, gt=0, le=0.5)


def load_folder(request: DatasetRequest) -> Dataset:
    """`DIR/train/CLASS/*` with `DIR/test` or `DIR/val`; or `DIR/CLASS/*`, part of it held out as the test.

    Raises:
        DataError: there is no such folder, a class has no image, or the test set has a class of its own.
    """
    assert request.argument is not None
    root = Path(request.argument)
    if not root.is_dir():
        raise DataError(f"there is no folder {root}")
    return read_folder(root, test_fraction=request.options.test_fraction, request=request)


def read_folder(
    root: Path, *, test_fraction: float, request: DatasetRequest, only: tuple[str, ...] | None = None
) -> Dataset:
    """`load_folder` for a folder that is there; `request` gives the tuning fraction and the seed.

    only: the classes to read; all by default.
    """
    train_root = root / "train" if (root / "train").is_dir() else root
    test_root = next((root / name for name in TEST_FOLDERS if (root / name).is_dir()), None)
    if train_root == root and test_root is not None:
        raise DataError(f"{root} has {test_root.name}/ but no train/ beside it")
    class_names = class_names_of(train_root) if only is None else sorted(only)
    everything = examples_of(train_root, class_names)
    if train_root == root:
        pool, test = split_off(everything, test_fraction, seed=request.data_seed)
        assert test is not None
    elif test_root is None:
        raise DataError(f"{root} has train/ but neither test/ nor val/ beside it")
    else:
        pool, test = everything, _test_examples(test_root, class_names, only=only)
    pool, tuning = split_off(pool, request.options.tuning, seed=request.data_seed)
    return Dataset(
        pool=pool,
        tuning=tuning,
        tests={"test": test},
        class_names=tuple(class_names),
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
        augment="crop-flip",
    )


def class_names_of(root: Path) -> list[str]:
    try:
        names: list[str] = find_classes(root)[0]
        return names
    except FileNotFoundError as error:
        raise DataError(f"{root} has no class folders in it") from error


def _test_examples(root: Path, class_names: list[str], *, only: tuple[str, ...] | None) -> Examples:
    strange = sorted(set(class_names_of(root)) - set(class_names))
    if strange and only is None:
        raise DataError(f"{root} has a class {strange[0]!r} that the training images do not have")
    return examples_of(root, [name for name in class_names if (root / name).is_dir()], of=class_names)


def examples_of(root: Path, class_names: list[str], *, of: list[str] | None = None) -> Examples:
    number_of = {name: number for number, name in enumerate(of or class_names)}
    wanted = {name: number_of[name] for name in class_names}
    found = make_dataset(str(root), wanted, extensions=IMG_EXTENSIONS, allow_empty=True)
    labels = torch.tensor([label for _, label in found], dtype=torch.int64)
    counts_C = labels.bincount(minlength=len(number_of))
    for name, number in wanted.items():
        if not counts_C[number]:
            raise DataError(f"{root / name} has no image in it; fill it or remove it")
    paths = [os.path.relpath(path, root) for path, _ in found]
    return Examples(images=FolderReader(root, paths), labels=labels)
