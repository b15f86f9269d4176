"""How hard each example of the pool is, for reweighters that go by it.

Shapes: N examples of the pool, B of a batch, C classes.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from molere_cli.engine.prediction_metrics import probabilistic_margin
from molere_cli.engine.step import Step
from molere_cli.splits.quota import rank_within_class


def hardness_ranks(hardness_N: Tensor, labels_N: Tensor) -> Tensor:
    """The place of each example in its class, float32 (N,) in (0, 1), 0 = hardest.

    Of n examples the one at place k has (k + 1/2) / n, so that classes of any size share one scale.

    Args:
        hardness_N: high = hard; no NaN.
        labels_N: int64, on the same device.
    """
    sizes_N = labels_N.bincount()[labels_N]
    return (rank_within_class(labels_N, hardness_N) + 0.5) / sizes_N


class PoolHardness:
    """Margins and ranks in a run: fixed by scores from before it, or followed as it goes.

    Without scores an example is the harder, the lower its margin over the training passes so far, on average;
    both are made anew at the start of every epoch. What has not trained yet, or never does, counts as in the
    middle: margin 0, rank 1/2.
    """

    def __init__(self, labels_N: Tensor, hardness_N: Tensor | None, *, is_margin: bool = True) -> None:
        """labels_N: int64, on the device that is asked for; hardness_N: any float, high = hard; is_margin:
        whether that is minus a margin."""
        self._labels_N = labels_N
        self._follows = hardness_N is None
        self._margin_sum_N = torch.zeros(len(labels_N), device=labels_N.device)
        self._num_seen_N = torch.zeros(len(labels_N), device=labels_N.device)
        self._ranks_N = torch.full((len(labels_N),), 0.5, device=labels_N.device)
        self._margins_N: Tensor | None = torch.zeros(len(labels_N), device=labels_N.device)
        if hardness_N is not None:
            self._ranks_N = hardness_ranks(hardness_N.to(labels_N.device), labels_N)
            self._margins_N = -hardness_N.to(labels_N.device, torch.float32) if is_margin else None

    def start_epoch(self) -> None:
        """Look anew at what has been seen, if the run is followed."""
        if not self._num_seen_N.any():  # never, unless it is followed
            return
        margins_N = self._margin_sum_N / self._num_seen_N.clamp_min(1)
        ranks_N = hardness_ranks(-margins_N, self._labels_N)
        self._margins_N = margins_N
        self._ranks_N = torch.where(self._num_seen_N > 0, ranks_N, torch.full_like(ranks_N, 0.5))

    def ranks(self, positions_B: Tensor) -> Tensor:
        """The ranks of these examples, float32 (B,)."""
        return self._ranks_N[positions_B]

    def margins(self, positions_B: Tensor) -> Tensor | None:
        """Their margins, float32 (B,) in [-1, 1]; None where the scores are none."""
        return None if self._margins_N is None else self._margins_N[positions_B]

    def add(self, step: Step) -> None:
        """Take in what a step's forward pass says of its examples."""
        if not self._follows:
            return
        margins_B = probabilistic_margin(step.logits.detach().float(), step.batch.labels)
        self._margin_sum_N.index_add_(0, step.batch.positions, margins_B)
        self._num_seen_N.index_add_(0, step.batch.positions, torch.ones_like(margins_B))

    def state_dict(self) -> dict[str, Any]:
        """What a resume needs, between epochs and within one."""
        if not self._follows:
            return {}
        return {
            "margin_sum": self._margin_sum_N,
            "num_seen": self._num_seen_N,
            "ranks": self._ranks_N,
            "margins": self._margins_N,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a `state_dict`."""
        if self._follows:
            self._margin_sum_N.copy_(state["margin_sum"])
            self._num_seen_N.copy_(state["num_seen"])
            # Versions that wrote checkpoints between epochs alone had no need of these.
            if "ranks" in state:
                self._ranks_N = state["ranks"].to(self._ranks_N)
                self._margins_N = state["margins"].to(self._ranks_N)
