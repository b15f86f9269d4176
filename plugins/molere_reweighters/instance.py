"""One free log-weight per training example."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from molere_cli import ReweighterInput, ReweighterRequest


class InstanceReweighter(nn.Module):
    """A table of log-weights, float32 (num_examples,), looked up by position in the pool."""

    def __init__(self, request: ReweighterRequest) -> None:
        super().__init__()
        self.log_weights = nn.Parameter(torch.zeros(request.num_examples))

    def forward(self, batch: ReweighterInput) -> Tensor:
        return self.log_weights[batch.positions]


def learning_rate(num_batches: int) -> float:
    """0.05, or less if a pass over the pool takes more than the 16 batches that it was tuned at.

    The rarer an example is met, the further Adam moves its weight each time, by about the root of the
    updates between: the second moment averages over a thousand updates, most of them without the example.
    With less, weights of a large pool move as far at a visit as those of a small one, where at 0.05 they
    scatter (docs/dev/results-history.md, "Why natural images lose").
    """
    per_visit = math.sqrt(16 / min(max(num_batches, 16), 1000))
    return float(f"{0.05 * per_visit:.3g}")
