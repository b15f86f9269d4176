"""Meta-Weight-Net (Shu et al., NeurIPS 2019, arXiv 1902.07379, algorithm 1).

Shapes: B examples of a training batch.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from molere_baselines.lookahead import Lookahead
from molere_baselines.options import MwnOptions
from molere_baselines.weight_net import WeightNetTraining
from molere_cli import Method, Step, TrainingContext, hypergradient


class MetaWeightNet(Method):
    """A small network from an example's loss to its weight, improved before every step and used in it.

    Beside `lrw --reweighter loss` it differs in the order (the virtual step is not the real one, so new
    weights act at once), in the virtual step (no momentum, no weight decay), in taking the hypergradient and
    the sigmoid as they are, in weight decay, and in its initial weights.
    """

    def __init__(self, context: TrainingContext) -> None:
        options: MwnOptions = context.options
        self._normalization = options.normalization
        self._classifier = context.classifier
        self._lookahead = Lookahead(context, meta_batch_size=options.meta_batch_size)
        self._training = WeightNetTraining(context)

    def before_epoch(self, epoch: int) -> Tensor:
        self._lookahead.start_epoch(epoch)
        return self._lookahead.positions

    def weights(self, step: Step) -> Tensor | None:
        losses_B = step.losses.detach()
        weights_B = self._weigh(losses_B)
        self._training.step(weights_B, self._hypergradient(step, weights_B.detach()))
        with torch.no_grad():
            return self._weigh(losses_B)

    def _weigh(self, losses_B: Tensor) -> Tensor:
        weights_B: Tensor = self._training.net(losses_B)
        return weights_B if self._normalization == "none" else weights_B / weights_B.mean()

    def _hypergradient(self, step: Step, weights_B: Tensor) -> Tensor:
        response = self._lookahead.response(step, (weights_B * step.losses).mean())
        losses = self._classifier.step_losses(step.batch.images, step.batch.labels, step.randomness)
        return hypergradient(losses, self._classifier.parameters, response)

    def after_step(self, step: Step) -> None:
        pass

    def metrics(self) -> dict[str, float]:
        """Mean `val/loss` behind the virtual steps, and the meta-updates so far."""
        return {**self._lookahead.metrics(), "weight_net/updates": self._training.num_updates}

    def in_validation(self) -> Tensor | None:
        return self._lookahead.in_validation

    def state_dict(self) -> dict[str, Any]:
        return {"training": self._training.state_dict(), "validation": self._lookahead.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._training.load_state_dict(state["training"])
        self._lookahead.load_state_dict(state["validation"])
