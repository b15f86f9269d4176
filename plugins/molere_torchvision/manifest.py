"""Images listed in a CSV file, a row each: where it lies, what it shows, its group and its part."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from molere_cli import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    CsvRow,
    DataError,
    Dataset,
    DatasetRequest,
    Examples,
    FolderReader,
    csv_rows,
    ordered_names,
    plain_name,
    split_off,
)
from molere_torchvision.folder import ROLES, Role

REQUIRED, OPTIONAL = ("path", "label"), ("group", "split")
PARTS: dict[str, Role] = {**ROLES, "tuning": "tuning"}


@dataclass(frozen=True)
class Image:
    """A row: where the image lies, what it shows, its group and its part, each in its plain form."""

    row: CsvRow
    path: str
    label: str
    group: str
    part: Role | None


def load_manifest(request: DatasetRequest) -> Dataset:
    """The images of a CSV file with the columns path, label and, where wanted, group and split.

    Paths are relative to the file. `split` is train, test or tuning, or a name of these that folders have
    too; without that column a part of every class is held out as the test set. Classes and groups are
    numbered in the order of their names, or of their values if all are numbers. Other columns are left out.

    Raises:
        DataError: the file or a row of it cannot be used; the sentence names file and line.
    """
    assert request.argument is not None
    path, options = Path(request.argument), request.options
    images = _read(path)
    notes: tuple[str, ...] = ()
    if images[0].part is not None:
        images, notes = _with_parts(path, images, tuning_fraction=options.tuning, for_test=request.for_test)
    of_part = {
        part: [image for image in images if image.part == part] for part in ("train", "test", "tuning")
    }
    train = of_part["train"] or (images if request.for_test or images[0].part is None else [])
    class_names = ordered_names({image.label for image in train})
    has_groups = bool(images[0].group)
    group_names = ordered_names({image.group for image in images}) if has_groups else ()
    _check_test_labels(images, class_names)

    def examples(members: list[Image]) -> Examples:
        return Examples(
            images=FolderReader(path.parent, [image.path for image in members]),
            labels=_numbers((image.label for image in members), class_names),
            groups=_numbers((image.group for image in members), group_names) if has_groups else None,
        )

    pool = examples(train)
    tuning: Examples | None = examples(of_part["tuning"]) if of_part["tuning"] else None
    if of_part["test"]:
        test = examples(of_part["test"]) if of_part["train"] else pool
    elif request.for_test:
        test = pool
    else:
        pool, held_out = split_off(pool, options.test_fraction, seed=request.data_seed)
        assert held_out is not None
        test = held_out
    if tuning is None and test is not pool:
        pool, tuning = split_off(pool, options.tuning, seed=request.data_seed)
    return Dataset(
        pool=pool,
        tuning=tuning,
        tests={"test": test},
        class_names=class_names,
        group_names=group_names,
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
        augment="crop-flip",
        notes=notes,
    )


def _read(path: Path) -> list[Image]:
    images, line_of = list[Image](), dict[str, int]()
    for row in csv_rows(path, REQUIRED, optional=OPTIONAL):
        image = Image(
            row=row,
            path=os.path.normpath(row["path"]),
            label=plain_name(row["label"]),
            group=plain_name(row.cells.get("group", "")),
            part=_part(row),
        )
        for column, cell in row.cells.items():
            if not cell.strip():
                raise row.error(f"the {column} is empty")
        if image.path in line_of:
            raise row.error(f"{row['path']} stands in line {line_of[image.path]} already")
        if not os.path.isfile(path.parent / image.path):  # False too for what cannot be a name
            raise row.error(f"there is no file {path.parent / image.path}")
        line_of[image.path] = row.line
        images.append(image)
    return images


def _part(row: CsvRow) -> Role | None:
    if "split" not in row.cells:
        return None
    name = row["split"].strip().casefold()
    if name and name not in PARTS:
        raise row.error(f"unknown split {row['split']!r}; say train, tuning or test")
    return PARTS.get(name)


def _with_parts(
    path: Path, images: list[Image], *, tuning_fraction: float, for_test: bool
) -> tuple[list[Image], tuple[str, ...]]:
    """The images with a part that is train or test, and notes on that."""
    there = {image.part for image in images}
    notes: tuple[str, ...] = ()
    if "test" not in there and "tuning" in there:
        images = [replace(image, part="test" if image.part == "tuning" else image.part) for image in images]
        there, notes = there - {"tuning"} | {"test"}, ("the rows of split tuning are the test set",)
    for part in () if for_test else ("train", "test"):
        if part not in there:
            raise DataError(f"{path} has no row with split {part}; add some, or leave the column out")
    if tuning_fraction and "tuning" in there:
        raise DataError(f"{path} has a tuning set of its own; leave the option tuning={tuning_fraction} out")
    return images, notes


def _check_test_labels(images: list[Image], class_names: tuple[str, ...]) -> None:
    known = set(class_names)
    for image in images:
        if image.label not in known:
            raise image.row.error(f"no training image has the label {image.label!r}")


def _numbers(values: Iterable[str], names: tuple[str, ...]) -> Tensor:
    number_of = {name: number for number, name in enumerate(names)}
    return torch.tensor([number_of[value] for value in values], dtype=torch.int64)
