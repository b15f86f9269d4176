"""Hardness scores, and which way each of them points."""

from __future__ import annotations

from torch import Tensor

LOW_IS_HARD = frozenset({"margin", "oof-margin", "aum"})
HIGH_IS_HARD = frozenset({"loss"})


def hardness(score_N: Tensor, name: str) -> Tensor:
    """The score turned so that high = hard, (N,)."""
    assert name in LOW_IS_HARD | HIGH_IS_HARD
    return -score_N if name in LOW_IS_HARD else score_N
