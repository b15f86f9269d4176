"""Hardness scores, and which way each of them points."""

from __future__ import annotations

from torch import Tensor

MARGINS = frozenset({"margin", "oof-margin", "aum", "early-aum"})
"""Scores that are a probabilistic margin, in [-1, 1]: below 0 another class is preferred."""
LOW_IS_HARD = MARGINS
HIGH_IS_HARD = frozenset({"loss", "el2n", "forgetting"})


def hardness(score_N: Tensor, name: str, *, aum_N: Tensor | None = None) -> Tensor:
    """The score turned so that high = hard, float64 (N,).

    Args:
        aum_N: for `forgetting`, a whole number, which leaves many examples equal: of these, the one of lower
            aum is harder; without it they stay equal.
    """
    assert name in LOW_IS_HARD | HIGH_IS_HARD
    if name == "forgetting" and aum_N is not None:
        # (1 - aum) / 4 lies in [0, 1/2], and so never reaches the next whole number.
        return score_N + (1 - aum_N) / 4
    return -score_N if name in LOW_IS_HARD else score_N
