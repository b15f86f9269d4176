"""Weights by probabilistic margin: MAIL (Wang et al., NeurIPS 2021, arXiv 2106.07904) without adversaries.

Shapes: B examples of a batch.
"""

from __future__ import annotations

from torch import Tensor

from molere_baselines.options import MbrOptions
from molere_cli import Method, Step, TrainingContext, probabilistic_margin, training_positions


def margin_weights(margins_B: Tensor, *, slope: float, bias: float) -> Tensor:
    """sigmoid(-slope (margin - bias)), over its mean: the paper's weights, which add up to the batch size."""
    weights_B = (-slope * (margins_B - bias)).sigmoid()
    return weights_B / weights_B.mean()


class MarginReweighting(Method):
    """After a burn-in at equal weights, a low margin weighs more."""

    def __init__(self, context: TrainingContext) -> None:
        options: MbrOptions = context.options
        self._options = options
        self._warmup_epochs = (
            round(context.config.classifier.epochs * 5 / 8)
            if options.warmup_epochs is None
            else options.warmup_epochs
        )
        self._positions = training_positions(context.config, context.labels, context.in_validation)
        self._in_validation = context.in_validation

    def before_epoch(self, epoch: int) -> Tensor:
        return self._positions

    def weights(self, step: Step) -> Tensor | None:
        if step.epoch < self._warmup_epochs:
            return None
        margins_B = probabilistic_margin(step.logits.detach(), step.batch.labels)
        return margin_weights(margins_B, slope=self._options.slope, bias=self._options.bias)

    def after_step(self, step: Step) -> None:
        pass

    def in_validation(self) -> Tensor | None:
        return self._in_validation
