"""What a split looks like: per class, per side, per group."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from molere_cli.splits.split_file import Split


@dataclass(frozen=True)
class SplitSide:
    """Some of the pool: how many are on either side, and their mean score (None without scores)."""

    name: str
    num_train: int
    num_val: int
    train_score: float | None
    val_score: float | None


def summarize_part(split: Split, name: str, mask_N: Tensor) -> SplitSide:
    """The part of the pool where `mask_N` holds."""
    train_N, val_N = mask_N & ~split.in_validation, mask_N & split.in_validation
    return SplitSide(
        name, int(train_N.sum()), int(val_N.sum()), _mean_score(split, train_N), _mean_score(split, val_N)
    )


def summarize_whole(split: Split) -> SplitSide:
    """The whole pool."""
    return summarize_part(split, "all", torch.ones_like(split.in_validation))


def summarize_by(split: Split, kind_N: Tensor, names: tuple[str, ...]) -> list[SplitSide]:
    """The pool by class or by group: kind_N is int64 (N,), an index into `names`."""
    return [summarize_part(split, name, kind_N == kind) for kind, name in enumerate(names)]


def _mean_score(split: Split, mask_N: Tensor) -> float | None:
    if split.score is None or not mask_N.any():
        return None
    return float(split.score[mask_N].mean())
