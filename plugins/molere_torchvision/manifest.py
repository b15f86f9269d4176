"""Images listed in a CSV file, a row each: where it lies, what it shows, its group and its part."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from molere_cli import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    DataError,
    Dataset,
    DatasetRequest,
    Examples,
    FolderReader,
    split_off,
)

REQUIRED, OPTIONAL = ("path", "label"), ("group", "split")
PARTS = ("train", "tuning", "test")


@dataclass(frozen=True)
class Row:
    """One image; `line` is the line of the file that its row ends on, counted from 1."""

    line: int
    path: str
    label: str
    group: str
    split: str


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
    rows, has_groups, has_splits = _read(path)
    if has_splits:
        _check_parts(path, rows, tuning_fraction=options.tuning)
    class_names = _names(row.label for row in rows if row.split in {"train", ""})
    group_names = _names(row.group for row in rows) if has_groups else ()
    _check_test_labels(path, rows, class_names)

    def examples(part: str) -> Examples:
        members = [row for row in rows if row.split == part]
        return Examples(
            images=FolderReader(path.parent, [row.path for row in members]),
            labels=_numbers((row.label for row in members), class_names),
            groups=_numbers((row.group for row in members), group_names) if has_groups else None,
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


def _read(path: Path) -> tuple[list[Row], bool, bool]:
    """The rows, and whether they have groups and splits."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, strict=True)
            columns = reader.fieldnames or ()
            for name in REQUIRED:
                if name not in columns:
                    raise DataError(f"{path}, line 1: there is no column {name!r}; it needs path,label")
            for name in (*REQUIRED, *OPTIONAL):
                if list(columns).count(name) > 1:
                    raise DataError(f"{path}, line 1: there are two columns {name!r}")
            wanted = [name for name in (*REQUIRED, *OPTIONAL) if name in columns]
            rows = list(_checked(path, reader, wanted))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise DataError(f"cannot read the list of images {path}: {reason}") from error
    if not rows:
        raise DataError(f"{path} has no row below its header")
    return rows, "group" in wanted, "split" in wanted


def _checked(path: Path, reader: csv.DictReader[str], wanted: list[str]) -> Iterator[Row]:
    line_of: dict[str, int] = {}
    for cells in reader:
        line = reader.line_num
        where = f"{path}, line {line}"
        for name in wanted:
            if not cells[name]:
                raise DataError(f"{where}: the {name} is empty")
        image = os.path.normpath(cells["path"])
        if image in line_of:
            raise DataError(f"{where}: {cells['path']} stands in line {line_of[image]} already")
        if not (path.parent / image).is_file():
            raise DataError(f"{where}: there is no file {path.parent / image}")
        split = cells["split"] if "split" in wanted else ""
        if "split" in wanted and split not in PARTS:
            raise DataError(f"{where}: unknown split {split!r}; say train, tuning or test")
        line_of[image] = line
        yield Row(line, image, cells["label"], cells["group"] if "group" in wanted else "", split)


def _check_test_labels(path: Path, rows: list[Row], class_names: tuple[str, ...]) -> None:
    known = set(class_names)
    for row in rows:
        if row.label not in known:
            raise DataError(f"{path}, line {row.line}: no training image has the label {row.label!r}")


def _check_parts(path: Path, rows: list[Row], *, tuning_fraction: float) -> None:
    there = {row.split for row in rows}
    for part in ("train", "test"):
        if part not in there:
            raise DataError(f"{path} has no row with split {part}; add some, or leave the column out")
    if tuning_fraction and "tuning" in there:
        raise DataError(f"{path} has a tuning set of its own; leave the option tuning={tuning_fraction} out")


def _names(values: Iterable[str]) -> tuple[str, ...]:
    """In order; as numbers if all are, so that 10 comes after 9."""
    names = set(values)
    if all(name.isdecimal() for name in names):
        return tuple(sorted(names, key=lambda name: (int(name), name)))
    return tuple(sorted(names))


def _numbers(values: Iterable[str], names: tuple[str, ...]) -> Tensor:
    number_of = {name: number for number, name in enumerate(names)}
    return torch.tensor([number_of[value] for value in values], dtype=torch.int64)
