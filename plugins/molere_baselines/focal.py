"""Focal loss (Lin et al., ICCV 2017, arXiv 1708.02002) as weights on the cross-entropy.

The focal loss (1 - p)^gamma l of an example with p = exp(-l) is a function of its cross-entropy l alone. Its
gradient is therefore that of l times a number, its derivative by l, and a step on l with that number as the
weight is the step on the focal loss, the part that goes through p included.

Shapes: B examples of a batch.
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

from molere_cli import Method, Options, Step


class FocalOptions(Options):
    """Options of `focal`."""

    gamma: float = Field(2.0, ge=0, description="Focusing parameter; 0 is ERM.")


def focal_weights(losses_B: Tensor, *, gamma: float) -> Tensor:
    """d/dl of (1 - e^-l)^gamma l: (1 - p)^gamma + gamma l p (1 - p)^(gamma - 1), with p = e^-l.

    Args:
        losses_B: cross-entropies, at least 0; the result has their dtype.
    """
    wrong_B = -torch.expm1(-losses_B)
    # l / (1 - p) tends to 1 as the loss vanishes.
    ratio_B = torch.where(wrong_B > 0, losses_B / wrong_B, torch.ones_like(losses_B))
    return wrong_B**gamma * (1 + gamma * (1 - wrong_B) * ratio_B)


class Focal(Method):
    """Down-weights what is classified well."""

    resumes_within_epoch = True
    batch_parts = "chunks"

    options: FocalOptions

    def weights(self, step: Step) -> Tensor | None:
        return focal_weights(step.losses.detach(), gamma=self.options.gamma)
