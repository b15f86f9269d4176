"""Where each example stands in its class by hardness, for reweighters that go by it.

Shapes: N examples of the pool, B of a batch.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

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


class HardnessRanks:
    """The ranks of a run: fixed by scores from before it, or followed as it goes.

    Without scores an example is the harder, the lower the mean probability of its label over the training
    passes so far; ranks are made anew at the start of every epoch. What has not trained yet, or never does,
    counts as in the middle.
    """

    def __init__(self, labels_N: Tensor, hardness_N: Tensor | None) -> None:
        """labels_N: int64, on the device that ranks are asked for on; hardness_N: any float, high = hard."""
        self._labels_N = labels_N
        self._follows = hardness_N is None
        self._prob_sum_N = torch.zeros(len(labels_N), device=labels_N.device)
        self._num_seen_N = torch.zeros(len(labels_N), device=labels_N.device)
        self._ranks_N = torch.full((len(labels_N),), 0.5, device=labels_N.device)
        if hardness_N is not None:
            self._ranks_N = hardness_ranks(hardness_N.to(labels_N.device), labels_N)

    def start_epoch(self) -> None:
        """Rank anew by what has been seen, if the run is followed."""
        if not self._follows or not self._num_seen_N.any():
            return
        mean_prob_N = self._prob_sum_N / self._num_seen_N.clamp_min(1)
        ranks_N = hardness_ranks(-mean_prob_N, self._labels_N)
        self._ranks_N = torch.where(self._num_seen_N > 0, ranks_N, torch.full_like(ranks_N, 0.5))

    def of(self, positions_B: Tensor) -> Tensor:
        """The ranks of these examples, float32 (B,)."""
        return self._ranks_N[positions_B]

    def add(self, step: Step) -> None:
        """Take in what a step's forward pass says of its examples."""
        if not self._follows:
            return
        probabilities_B = (-step.losses.detach()).exp()
        self._prob_sum_N.index_add_(0, step.batch.positions, probabilities_B)
        self._num_seen_N.index_add_(0, step.batch.positions, torch.ones_like(probabilities_B))

    def state_dict(self) -> dict[str, Any]:
        """What a resume needs, between epochs."""
        return {"prob_sum": self._prob_sum_N, "num_seen": self._num_seen_N} if self._follows else {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a `state_dict`."""
        if self._follows:
            self._prob_sum_N.copy_(state["prob_sum"])
            self._num_seen_N.copy_(state["num_seen"])
