"""Meta-Weight-Net (Shu et al., NeurIPS 2019, arXiv 1902.07379, algorithm 1).

Shapes: B examples of a training batch.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from molere_baselines.weight_net import WeightNetMethod, WeightNetOptions
from molere_cli import Step, hypergradient


class MwnOptions(WeightNetOptions):
    """Options of `mwn`."""

    normalization: Literal["none", "mean"] = Field(
        "none", description="Take the sigmoid as it is, or divide it by its batch mean."
    )


class MetaWeightNet(WeightNetMethod):
    """A small network from an example's loss to its weight, improved before every step and used in it.

    Beside `lrw --reweighter loss` it differs in the order (the virtual step is not the real one, so new
    weights act at once), in the virtual step (no momentum, no weight decay), in taking the hypergradient and
    the sigmoid as they are, in weight decay, and in its initial weights.
    """

    options: MwnOptions

    def weights(self, step: Step) -> Tensor | None:
        losses_B = step.losses.detach()
        weights_B = self._weigh(losses_B)
        self._training.step(weights_B, self._hypergradient(step, weights_B.detach()))
        with torch.no_grad():
            return self._weigh(losses_B)

    def _weigh(self, losses_B: Tensor) -> Tensor:
        weights_B: Tensor = self._training.net(losses_B)
        return weights_B if self.options.normalization == "none" else weights_B / weights_B.mean()

    def _hypergradient(self, step: Step, weights_B: Tensor) -> Tensor:
        classifier = self.context.classifier
        response = self.response(step, (weights_B * step.losses).mean())
        losses = classifier.step_losses(step.batch.images, step.batch.labels, step.randomness)
        return hypergradient(losses, classifier.parameters, response)
