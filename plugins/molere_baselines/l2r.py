"""Learning to reweight (Ren et al., ICML 2018, arXiv 1803.09050, algorithm 1).

The published method takes a virtual step with weights eps = 0, so the step leaves the classifier where it is,
and the validation gradient v is that at the classifier itself. The derivative of the validation loss by eps_i
is then -lr < grad l_i, v >, and the learning rate falls out with the normalisation.

Shapes: B examples of a training batch.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from molere_baselines.options import L2rOptions
from molere_cli import Method, Step, TrainingContext, alignment, num_steps, training_positions


def rectified(alignment_B: Tensor) -> Tensor:
    """The positive part over its mean: the paper's weights, which add up to 1, times B. All 0 if none is
    positive."""
    positive_B = alignment_B.clamp_min(0)
    total = positive_B.sum()
    return positive_B * (len(positive_B) / torch.where(total > 0, total, torch.ones_like(total)))


class LearningToReweight(Method):
    """Weighs an example by how far its gradient goes along that of the validation loss, in this very step."""

    def __init__(self, context: TrainingContext) -> None:
        options: L2rOptions = context.options
        self._config = context.config
        self._classifier = context.classifier
        self._in_validation = context.in_validation
        self._positions = training_positions(context.config, context.labels, context.in_validation)
        self._validation = context.validation_batches(
            batch_size=options.meta_batch_size or context.config.classifier.batch_size
        )
        self._val_losses: list[Tensor] = []

    def before_epoch(self, epoch: int) -> Tensor:
        self._val_losses = []
        self._validation.start_epoch(epoch, num_batches=num_steps(self._positions, self._config))
        return self._positions

    def weights(self, step: Step) -> Tensor | None:
        val = self._validation.next()
        val_loss, gradient = self._classifier.validation_gradient(val.images, val.labels)
        self._val_losses.append(val_loss)
        direction = {name: gradient[p] for name, p in self._classifier.parameters.items()}
        losses = self._classifier.step_losses(step.batch.images, step.batch.labels, step.randomness)
        return rectified(alignment(losses, self._classifier.parameters, direction))

    def after_step(self, step: Step) -> None:
        pass

    def metrics(self) -> dict[str, float]:
        """Mean `val/loss` over this epoch's validation batches."""
        return {"val/loss": float(torch.stack(self._val_losses).mean())}

    def in_validation(self) -> Tensor | None:
        return self._in_validation

    def state_dict(self) -> dict[str, Any]:
        return self._validation.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._validation.load_state_dict(state)
