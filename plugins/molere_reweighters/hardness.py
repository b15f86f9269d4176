"""A log-weight that is a curve of the example's hardness: few numbers, shared by all examples.

One free number an example is learned from a handful of noisy hypergradients; a knot of the curve, from those
of a fifth of the pool.
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor, nn

from molere_cli import Options, ReweighterInput, ReweighterRequest

# Denser where hardness tells most: the hardest tenth is what the split usually asks about.
KNOTS = (0.0, 0.1, 0.3, 0.6, 1.0)


class HardnessOptions(Options):
    """Options of `hardness`."""

    by_class: bool = Field(False, description="A curve for each class, instead of one for all.")


class HardnessReweighter(nn.Module):
    """Piecewise linear in the rank of hardness within the class, 0 = hardest, between `KNOTS`."""

    def __init__(self, request: ReweighterRequest) -> None:
        super().__init__()
        self.by_class = request.options.by_class
        num_curves = request.num_classes if self.by_class else 1
        self.log_weights = nn.Parameter(torch.zeros(num_curves, len(KNOTS)))

    def forward(self, batch: ReweighterInput) -> Tensor:
        assert batch.hardness_rank is not None
        rank_B = batch.hardness_rank
        knots = rank_B.new_tensor(KNOTS)
        right_B = torch.searchsorted(knots, rank_B).clamp(1, len(KNOTS) - 1)
        left_B = right_B - 1
        share_B = (rank_B - knots[left_B]) / (knots[right_B] - knots[left_B])
        curve_B = batch.labels if self.by_class else torch.zeros_like(batch.labels)
        left_weight_B, right_weight_B = self.log_weights[curve_B, left_B], self.log_weights[curve_B, right_B]
        return left_weight_B.lerp(right_weight_B, share_B)
