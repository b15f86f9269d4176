"""From a table of training rows and one of test rows to a dataset."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import torch
from pydantic import Field
from torch import Tensor

from molere_cli import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    DataError,
    Dataset,
    DatasetRequest,
    Examples,
    Options,
    split_off,
)
from molere_huggingface.arrow_rows import Labels, Rows, images_from_rows, labels_from_rows

CHUNK = 4096


class ParquetOptions(Options):
    """image_column, label_column: found by name or type if not given. tuning: the fraction of the training
    rows held out as a tuning set. test_fraction: what to hold out where there is no test file.
    memory_limit_mib: decoded images beyond this are read from the compressed rows as they are needed."""

    image_column: str | None = None
    label_column: str | None = None
    tuning: float = Field(0.0, ge=0, le=0.5)
    test_fraction: float = Field(0.2, gt=0, le=0.5)
    memory_limit_mib: int = Field(2048, ge=1)


def assemble(
    request: DatasetRequest, *, train: Rows | None, test: Rows | None, tuning: Rows | None = None
) -> Dataset:
    """Pool, tuning and test set, classes matched by name; without test rows, part of the training rows is
    held out.

    Classes without names are named by their labels, in order, and renumbered from 0.

    Args:
        train: there must be some unless `request` is for tests alone.

    Raises:
        DataError: rows that cannot be used, a class that no training row has, or a tuning set twice.
    """
    options = request.options
    given = {"train": train, "test": test, "tuning": tuning}
    parts = {part: rows for part, rows in given.items() if rows is not None}
    own = next(iter(parts.values()))
    read = {part: labels_from_rows(rows, options) for part, rows in parts.items()}
    class_names, notes = _class_names(parts, read)
    are_named = any(labels.are_named for labels in read.values())
    found, converted = dict[str, Examples](), Counter[str]()
    for part, rows in parts.items():
        images, of_images = images_from_rows(rows, options)
        converted += of_images
        found[part] = Examples(
            images=images,
            labels=_renumbered(read[part], class_names, are_named=are_named, source=rows.name),
        )
    pool = found.get("train", found.get("test", found[next(iter(found))]))
    held_out, tuned = found.get("test"), found.get("tuning")
    if held_out is None and request.for_test:
        held_out = pool
    if held_out is None:
        pool, held_out = split_off(pool, options.test_fraction, seed=request.data_seed)
        assert held_out is not None
    if options.tuning and tuned is not None:
        raise DataError(
            f"{own.name} has a tuning set beside it; leave the option tuning={options.tuning} out"
        )
    if tuned is None and held_out is not pool:
        pool, tuned = split_off(pool, options.tuning, seed=request.data_seed)
    mean, std = pixel_statistics(pool)
    return Dataset(
        pool=pool,
        tuning=tuned,
        tests={"test": held_out},
        class_names=class_names,
        mean=mean,
        std=std,
        augment="crop-flip",
        converted=converted,
        notes=tuple(notes),
    )


def _class_names(parts: Mapping[str, Rows], read: Mapping[str, Labels]) -> tuple[tuple[str, ...], list[str]]:
    """The names of the first part, which trains; or another's, where it has numbers alone. And what to say
    of parts that have none while others do."""
    named = [part for part in read if read[part].are_named]
    if not named or named == list(read):
        return next(iter(read.values())).names, []
    with_names = named[0]
    names = read[with_names].names
    lacking = [part for part in read if part not in named]
    for part in lacking:
        if strange := [name for name in read[part].names if int(name) >= len(names)]:
            raise DataError(
                f"{parts[part].name} has label {strange[0]}, but {parts[with_names].name} names "
                f"{len(names)} classes"
            )
    return names, [
        f"{parts[part].name} has no class names: its numbers are taken in the order of the names that "
        f"{parts[with_names].name} has"
        for part in lacking
    ]


def _renumbered(labels: Labels, class_names: tuple[str, ...], *, are_named: bool, source: str) -> Tensor:
    """The labels int64 (N,) as places in `class_names`, which are names unless no part has any."""
    # A number is its own name where no part has names, and a place in the others' names where one has.
    names = class_names if labels.are_named or not are_named else map(str, range(len(class_names)))
    place_of = {name: place for place, name in enumerate(names)}
    for number in labels.number_N.unique().tolist():
        if labels.names[number] not in place_of:
            raise DataError(f"{source} has label {labels.names[number]}, which no training row has")
    places_C = torch.tensor([place_of.get(name, -1) for name in labels.names])
    return places_C[labels.number_N]


def pixel_statistics(pool: Examples) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Mean and standard deviation of the pool's pixels in [0, 1], per channel; ImageNet's if streamed."""
    if not isinstance(pool.images, torch.Tensor):
        return IMAGENET_MEAN, IMAGENET_STD
    values_V = torch.arange(256, dtype=torch.float64) / 255
    means, stds = [], []
    for channel in range(3):
        counts_V = torch.zeros(256, dtype=torch.int64)
        for images in pool.images.split(CHUNK):
            counts_V += images[:, channel].flatten().bincount(minlength=256)
        share_V = counts_V.double() / counts_V.sum()
        mean = (share_V * values_V).sum()
        means.append(float(mean))
        stds.append(max(float((share_V * (values_V - mean) ** 2).sum().sqrt()), 1e-3))
    return (means[0], means[1], means[2]), (stds[0], stds[1], stds[2])
