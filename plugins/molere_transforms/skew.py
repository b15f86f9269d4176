"""Class skew: a pool with an exponential long tail."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from molere_cli import ConfigError, Dataset, TransformRequest, derived_generator, subset

SMALLEST = 2


def apply(dataset: Dataset, request: TransformRequest) -> Dataset:
    """The transform `class-skew` of the pool; its value is the factor."""
    kept = skewed_positions(
        dataset.pool.labels, factor=request.value, num_classes=len(dataset.class_names), seed=request.seed
    )
    return replace(dataset, pool=subset(dataset.pool, kept))


def skewed_positions(labels: Tensor, *, factor: float, num_classes: int, seed: int) -> Tensor:
    """The positions that a long tail keeps, int64, ascending (Cui et al. 2019, arXiv 1901.05555).

    Class k of C keeps n factor^(-k / (C - 1)) examples, drawn at random: the largest class, 0, has `factor`
    times as many as the smallest, C - 1. n is as large as the pool allows.

    Args:
        labels: int64 (N,).

    Raises:
        ConfigError: there is one class alone, or a class would keep fewer than two examples.
    """
    if num_classes < 2:
        raise ConfigError(f"--class-skew needs two classes or more; there is {num_classes}")
    exponents = torch.arange(num_classes, dtype=torch.float64) / (num_classes - 1)
    available = labels.bincount(minlength=num_classes)
    largest = float((available * factor**exponents).min())
    counts = [round(largest * factor**-exponent) for exponent in exponents.tolist()]
    if min(counts) < SMALLEST:
        raise ConfigError(
            f"--class-skew {factor:g} would leave a class with {min(counts)} of its examples, "
            f"and {SMALLEST} are needed; the largest factor here is about {largest / SMALLEST:.0f}"
        )
    generator = derived_generator(seed, "skew")
    kept = []
    for label, count in enumerate(counts):
        members = (labels == label).nonzero().squeeze(1)
        kept.append(members[torch.randperm(len(members), generator=generator)[:count]])
    return torch.cat(kept).sort().values
