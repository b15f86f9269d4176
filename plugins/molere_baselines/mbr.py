"""Weights by probabilistic margin: MAIL (Wang et al., NeurIPS 2021, arXiv 2106.07904) without adversaries.

Shapes: B examples of a batch.
"""

from __future__ import annotations

from pydantic import Field
from torch import Tensor

from molere_cli import Method, Options, Step, TrainingContext, probabilistic_margin


class MbrOptions(Options):
    """Options of `mbr`."""

    slope: float = Field(1.0, gt=0, description="Slope of the sigmoid.")
    bias: float = Field(-1.5, description="The margin at which an unnormalised weight is a half.")
    warmup_epochs: int | None = Field(
        None, ge=0, description="Epochs with equal weights (default: five eighths of all)."
    )


def margin_weights(margins_B: Tensor, *, slope: float, bias: float) -> Tensor:
    """sigmoid(-slope (margin - bias)), over its mean: the paper's weights, which add up to the batch size."""
    weights_B = (-slope * (margins_B - bias)).sigmoid()
    return weights_B / weights_B.mean()


class MarginReweighting(Method):
    """After a burn-in at equal weights, a low margin weighs more."""

    resumes_within_epoch = True
    batch_parts = "chunks"

    options: MbrOptions

    def __init__(self, context: TrainingContext) -> None:
        super().__init__(context)
        given = self.options.warmup_epochs
        self._warmup_epochs = round(context.config.classifier.epochs * 5 / 8) if given is None else given

    def weights(self, step: Step) -> Tensor | None:
        if step.epoch < self._warmup_epochs:
            return None
        margins_B = probabilistic_margin(step.logits.detach(), step.batch.labels)
        return margin_weights(margins_B, slope=self.options.slope, bias=self.options.bias)
