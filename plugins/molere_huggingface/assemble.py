"""From a table of training rows and one of test rows to a dataset."""

from __future__ import annotations

from dataclasses import replace

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
from molere_huggingface.rows import Rows, class_names_of, examples_from_rows, find_label_column

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


def assemble(train: Rows, test: Rows | None, request: DatasetRequest) -> Dataset:
    """Pool, tuning and test set; without test rows, part of the training rows is held out.

    Classes without names are named by their labels, in order, and renumbered from 0.
    """
    options = request.options
    pool = examples_from_rows(train, options)
    held_out = None if test is None else examples_from_rows(test, options)
    label_column = find_label_column(train.table.schema, options.label_column, source=train.name)
    class_names = class_names_of(train, label_column)
    if class_names is None:
        values_C = pool.labels.unique()
        class_names = tuple(str(value) for value in values_C.tolist())
        pool = _renumbered(pool, values_C, source=train.name)
        if test is not None and held_out is not None:
            held_out = _renumbered(held_out, values_C, source=test.name)
    if held_out is None:
        pool, held_out = split_off(pool, options.test_fraction, seed=request.data_seed)
        assert held_out is not None
    pool, tuning = split_off(pool, options.tuning, seed=request.data_seed)
    mean, std = pixel_statistics(pool)
    return Dataset(
        pool=pool,
        tuning=tuning,
        tests={"test": held_out},
        class_names=class_names,
        mean=mean,
        std=std,
        augment="crop-flip",
    )


def _renumbered(examples: Examples, values_C: Tensor, *, source: str) -> Examples:
    """Each label replaced by its position in `values_C`, which ascends."""
    strange = examples.labels[~torch.isin(examples.labels, values_C)]
    if len(strange):
        raise DataError(f"{source} has label {int(strange[0])}, which no training row has")
    return replace(examples, labels=torch.searchsorted(values_C, examples.labels))


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
