"""A log-weight that is a curve of the example's hardness: few numbers, shared by all examples.

One free number an example is learned from a handful of noisy hypergradients; a knot of the curve, from those
of a good part of the pool.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from molere_cli import ConfigError, Options, ReweighterInput, ReweighterRequest

# By margin: closest where the network's mind turns, so that right and wrong are told apart. By rank: denser
# where hardness tells most, the hardest tenth being what a split usually asks about.
KNOTS = {"margin": (-1.0, -0.5, -0.1, 0.1, 0.5, 1.0), "rank": (0.0, 0.1, 0.3, 0.6, 1.0)}


class HardnessOptions(Options):
    """Options of `hardness`."""

    scale: Literal["margin", "rank"] = Field(
        "margin",
        description="Of what it is a curve: of the margin that the split's score is (or, where the split has "
        "no score, of the run's so far), or of the rank within the class.",
    )
    by_class: bool = Field(False, description="A curve for each class, instead of one for all.")


class HardnessReweighter(nn.Module):
    """Piecewise linear between `KNOTS`, in the margin (-1 = hardest) or in the rank within the class (0)."""

    def __init__(self, request: ReweighterRequest) -> None:
        super().__init__()
        self.by_class = request.options.by_class
        self.scale = request.options.scale
        if self.scale == "margin" and request.hardness is not None and not request.hardness_is_margin:
            raise ConfigError(
                "reweighter 'hardness' goes by margins, and the split's score is none; rank it by aum, "
                "early-aum, margin or oof-margin, or use --reweighter-option scale=rank"
            )
        num_curves = request.num_classes if self.by_class else 1
        self.log_weights = nn.Parameter(torch.zeros(num_curves, len(KNOTS[self.scale])))
        self.knots: Tensor
        self.register_buffer("knots", torch.tensor(KNOTS[self.scale]), persistent=False)

    def forward(self, batch: ReweighterInput) -> Tensor:
        place_B = batch.hardness_margin if self.scale == "margin" else batch.hardness_rank
        assert place_B is not None
        knots = self.knots
        right_B = torch.searchsorted(knots, place_B).clamp(1, len(knots) - 1)
        left_B = right_B - 1
        share_B = (place_B - knots[left_B]) / (knots[right_B] - knots[left_B])
        curve_B = batch.labels if self.by_class else torch.zeros_like(batch.labels)
        left_weight_B, right_weight_B = self.log_weights[curve_B, left_B], self.log_weights[curve_B, right_B]
        return left_weight_B.lerp(right_weight_B, share_B)
