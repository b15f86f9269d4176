"""From a table of training rows and one of test rows to a dataset."""

from __future__ import annotations

import torch

from molere_cli import Dataset, DatasetRequest, Examples, split_off
from molere_huggingface.rows import Rows, class_names_of, examples_from_rows, find_label_column

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def assemble(train: Rows, test: Rows | None, request: DatasetRequest) -> Dataset:
    """Pool, tuning and test set; without test rows, part of the training rows is held out."""
    options = request.options
    pool = examples_from_rows(train, options)
    label_column = find_label_column(train.table.schema, options.label_column, source=train.name)
    class_names = class_names_of(train.table.schema, label_column, pool.labels)
    if test is None:
        pool, held_out = split_off(pool, options.test_fraction, seed=request.data_seed)
        assert held_out is not None
        tests = {"test": held_out}
    else:
        tests = {"test": examples_from_rows(test, options)}
    pool, tuning = split_off(pool, options.tuning, seed=request.data_seed)
    mean, std = pixel_statistics(pool)
    return Dataset(
        pool=pool,
        tuning=tuning,
        tests=tests,
        class_names=class_names,
        mean=mean,
        std=std,
        augment="crop-flip",
    )


def pixel_statistics(pool: Examples) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Mean and standard deviation of the pool's pixels in [0, 1], per channel; ImageNet's if streamed."""
    if not isinstance(pool.images, torch.Tensor):
        return IMAGENET_MEAN, IMAGENET_STD
    values_V = torch.arange(256, dtype=torch.float64) / 255
    means, stds = [], []
    for channel in range(3):
        counts_V = pool.images[:, channel].flatten().bincount(minlength=256).double()
        share_V = counts_V / counts_V.sum()
        mean = (share_V * values_V).sum()
        means.append(float(mean))
        stds.append(max(float((share_V * (values_V - mean) ** 2).sum().sqrt()), 1e-3))
    return (means[0], means[1], means[2]), (stds[0], stds[1], stds[2])
