"""Images listed in a CSV file, a row each: where it lies, what it shows, its group and its part."""

from __future__ import annotations

import os
from collections.abc import Iterable
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
    split_off,
)

REQUIRED, OPTIONAL = ("path", "label"), ("group", "split")
MOST_DIGITS = 19
PARTS = ("train", "tuning", "test")


def load_manifest(request: DatasetRequest) -> Dataset:
    """The images of a CSV file with the columns path, label and, where wanted, group and split.

    Paths are relative to the file. `split` is train, tuning or test; without that column a part of every
    class is held out as the test set. Classes and groups are numbered in the order of their names, or of
    their values if all are numbers. Other columns are passed over.

    Raises:
        DataError: the file or a row of it cannot be used; the sentence names file and line.
    """
    assert request.argument is not None
    path, options = Path(request.argument), request.options
    rows = _read(path)
    has_groups, has_splits = "group" in rows[0].cells, "split" in rows[0].cells
    if has_splits:
        _check_parts(path, rows, tuning_fraction=options.tuning)
    class_names = _names(row["label"] for row in rows if not has_splits or row["split"] == "train")
    group_names = _names(row["group"] for row in rows) if has_groups else ()
    _check_test_labels(rows, class_names)

    def examples(part: str) -> Examples:
        members = [row for row in rows if not has_splits or row["split"] == part]
        return Examples(
            images=FolderReader(path.parent, [os.path.normpath(row["path"]) for row in members]),
            labels=_numbers((row["label"] for row in members), class_names),
            groups=_numbers((row["group"] for row in members), group_names) if has_groups else None,
        )

    tuning: Examples | None
    if has_splits:
        pool, test, tuning = examples("train"), examples("test"), examples("tuning")
    else:
        pool, held_out = split_off(examples(""), options.test_fraction, seed=request.data_seed)
        assert held_out is not None
        test, tuning = held_out, None
    if not tuning:
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
    )


def _read(path: Path) -> list[CsvRow]:
    rows, line_of = list(csv_rows(path, REQUIRED, optional=OPTIONAL)), dict[str, int]()
    for row in rows:
        for column, cell in row.cells.items():
            if not cell:
                raise row.error(f"the {column} is empty")
        image = os.path.normpath(row["path"])
        if image in line_of:
            raise row.error(f"{row['path']} stands in line {line_of[image]} already")
        if not os.path.isfile(path.parent / image):  # False too for what cannot be a name
            raise row.error(f"there is no file {path.parent / image}")
        if "split" in row.cells and row["split"] not in PARTS:
            raise row.error(f"unknown split {row['split']!r}; say train, tuning or test")
        line_of[image] = row.line
    return rows


def _check_test_labels(rows: list[CsvRow], class_names: tuple[str, ...]) -> None:
    known = set(class_names)
    for row in rows:
        if row["label"] not in known:
            raise row.error(f"no training image has the label {row['label']!r}")


def _check_parts(path: Path, rows: list[CsvRow], *, tuning_fraction: float) -> None:
    there = {row["split"] for row in rows}
    for part in ("train", "test"):
        if part not in there:
            raise DataError(f"{path} has no row with split {part}; add some, or leave the column out")
    if tuning_fraction and "tuning" in there:
        raise DataError(f"{path} has a tuning set of its own; leave the option tuning={tuning_fraction} out")


def _names(values: Iterable[str]) -> tuple[str, ...]:
    """In order; as numbers if all are, so that 10 comes after 9."""
    names = set(values)
    if all(name.isdecimal() and len(name) < MOST_DIGITS for name in names):
        return tuple(sorted(names, key=lambda name: (int(name), name)))
    return tuple(sorted(names))


def _numbers(values: Iterable[str], names: tuple[str, ...]) -> Tensor:
    number_of = {name: number for number, name in enumerate(names)}
    return torch.tensor([number_of[value] for value in values], dtype=torch.int64)
