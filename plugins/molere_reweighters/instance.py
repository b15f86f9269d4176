"""One free log-weight per training example."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from molere_cli import ReweighterInput


class InstanceReweighter(nn.Module):
    """A table of log-weights, float32 (num_examples,), looked up by position in the pool."""

    def __init__(self, num_examples: int) -> None:
        super().__init__()
        self.log_weights = nn.Parameter(torch.zeros(num_examples))

    def forward(self, batch: ReweighterInput) -> Tensor:
        return self.log_weights[batch.positions]
