"""A folder of images, one sub-folder a class, decoded as they are needed."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from pydantic import Field

from molere_cli import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    DataError,
    Dataset,
    DatasetRequest,
    Examples,
    FolderReader,
    Options,
    Walk,
    split_off,
)

Role = Literal["train", "test", "tuning"]
ROLES: dict[str, Role] = {
    "train": "train",
    "training": "train",
    "test": "test",
    "testing": "test",
    "val": "tuning",
    "valid": "tuning",
    "validation": "tuning",
}


class HoldoutOptions(Options):
    """tuning: the fraction of the training images held out as a tuning set."""

    tuning: float = Field(0.0, ge=0, le=0.5)


class FolderOptions(HoldoutOptions):
    """test_fraction: what to hold out as the test set where there is none."""

    test_fraction: float = Field(0.2, gt=0, le=0.5)


@dataclass(frozen=True)
class Parts:
    """The folder of each part; `train` is None where there are test images alone, `test` where the class
    folders lie in `train` itself, to be held out from."""

    train: Path | None
    test: Path | None
    tuning: Path | None = None


def load_folder(request: DatasetRequest) -> Dataset:
    """`DIR/train/CLASS/*` with `DIR/test`, `DIR/val` or both; or `DIR/CLASS/*`, part of it held out as the
    test. Names of parts go by case as little as by language: Training, testing, valid.

    Raises:
        DataError: there is no such folder, a class has no image, a part has a class that the training images
            lack, or it cannot be told what a folder is for.
    """
    assert request.argument is not None
    root = Path(request.argument)
    if root.is_file():
        raise DataError(f"{root} is a file, not a folder of images; a list of images is --dataset csv:{root}")
    if not root.is_dir():
        raise DataError(f"there is no folder {root}")
    return read_folder(root, test_fraction=request.options.test_fraction, request=request)


def read_folder(
    root: Path, *, test_fraction: float, request: DatasetRequest, only: Sequence[str] | None = None
) -> Dataset:
    """`load_folder` for a folder that is there; `request` gives the tuning fraction and the seed.

    only: the classes to read; all by default.
    """
    walk = Walk()
    walk.start(root)
    parts = find_parts(root, walk, for_test=request.for_test)
    class_names = None if only is None else sorted(only)
    tuning: Examples | None = None
    if parts.train is None:
        assert parts.test is not None
        class_names, pool = examples_of(parts.test, walk, class_names=class_names)
        test = pool
    else:
        class_names, pool = examples_of(parts.train, walk, class_names=class_names)
        if parts.test is not None:
            test = _part(parts.test, walk, class_names, only=only)
        elif request.for_test:
            test = pool
        else:
            pool, held_out = split_off(pool, test_fraction, seed=request.data_seed)
            assert held_out is not None
            test = held_out
        if parts.tuning is not None:
            if request.options.tuning:
                raise DataError(
                    f"{parts.tuning} is a tuning set already; leave the option "
                    f"tuning={request.options.tuning} out"
                )
            tuning = _part(parts.tuning, walk, class_names, only=only)
    if tuning is None and test is not pool:
        pool, tuning = split_off(pool, request.options.tuning, seed=request.data_seed)
    return Dataset(
        pool=pool,
        tuning=tuning,
        tests={"test": test},
        class_names=tuple(class_names),
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
        augment="crop-flip",
        skipped=walk.skipped,
        notes=tuple(walk.notes),
    )


def find_parts(root: Path, walk: Walk, *, for_test: bool) -> Parts:
    """Which folder is which part; folders called `train` and the like with images and no folders in them are
    classes of that name.

    Raises:
        DataError: two folders could be the same part, there is no training part or nothing to test on beside
            it, or the parts have no class folders.
    """
    folders = walk.folders(root)
    named = [name for name in folders if name.casefold() in ROLES]
    flat = [name for name in named if not walk.folders(root / name)]
    of_role: dict[Role, Path] = {}
    for name in named:
        if name in flat:
            continue
        role = ROLES[name.casefold()]
        if role in of_role:
            raise DataError(f"{root} has both {of_role[role].name}/ and {name}/; which one is meant?")
        of_role[role] = root / name
    if flat and len(flat) == len(folders):
        raise DataError(
            f"{root} has {' and '.join(f'{name}/' for name in flat)}, with no class folders in them"
        )
    if "train" not in of_role and not ({"test", "tuning"} & of_role.keys()):
        walk.notes.extend(f"{name}/ is a class, since images lie in it and no class folders" for name in flat)
        return Parts(train=_unwrapped(root, folders, walk), test=None)
    for name in set(folders) - {path.name for path in of_role.values()}:
        walk.pass_over(root / name, f"{name}/ beside the parts")
    train, test, tuning = of_role.get("train"), of_role.get("test"), of_role.get("tuning")
    if test is None:
        test, tuning = tuning, None
        if test is not None and train is not None:
            walk.notes.append(f"{test.name}/ is the test set, since there is no test/")
    if train is None and not for_test:
        assert test is not None
        raise DataError(f"{root} has {test.name}/ but no train/ beside it")
    if train is not None and test is None and not for_test:
        if flat:
            raise DataError(f"{root / flat[0]} has no class folders in it")
        raise DataError(f"{root} has {train.name}/ but neither test/ nor val/ beside it")
    return Parts(train=train, test=test, tuning=tuning)


def _unwrapped(root: Path, folders: list[str], walk: Walk) -> Path:
    """`root`, unless it has nothing in it but one folder of folders, which is then the dataset."""
    if len(folders) == 1 and walk.folders(root / folders[0]):
        raise DataError(
            f"{root} has one folder in it, {folders[0]}; did you mean folder:{root / folders[0]}?"
        )
    return root


def _part(root: Path, walk: Walk, class_names: list[str], *, only: Sequence[str] | None) -> Examples:
    walk.start(root)
    strange = [name for name in walk.class_folders(root) if name not in class_names]
    if strange and only is None:
        alike = [name for name in class_names if name.casefold() == strange[0].casefold()]
        hint = f"; did you mean {alike[0]!r}?" if alike else ""
        raise DataError(f"{root} has a class {strange[0]!r} that the training images do not have{hint}")
    return examples_of(root, walk, class_names=class_names, all_there=False)[1]


def examples_of(
    root: Path, walk: Walk, *, class_names: list[str] | None = None, all_there: bool = True
) -> tuple[list[str], Examples]:
    """The classes in `root` and their images.

    Args:
        class_names: those to read, which number the labels; all that are there by default.
        all_there: whether each of them must have a folder.

    Raises:
        DataError: a class has no image.
    """
    folder_of = walk.class_folders(root)
    names = list(folder_of) if class_names is None else class_names
    paths: list[str] = []
    labels: list[int] = []
    for label, name in enumerate(names):
        if name not in folder_of and not all_there:
            continue
        folder = root / folder_of.get(name, name)
        found = walk.pictures(folder, of=f"{name!r} in {root}")
        if not found:
            raise DataError(f"{folder} has no image in it; fill it or remove it")
        paths += [os.path.relpath(path, root) for path in found]
        labels += [label] * len(found)
    return names, Examples(images=FolderReader(root, paths), labels=torch.tensor(labels, dtype=torch.int64))
