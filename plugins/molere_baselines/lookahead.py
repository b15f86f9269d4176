"""The order of two passes that MWN and GDW publish: a virtual step, what it did to the validation loss, and
only then the real step.

Shapes: B examples of a training batch.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from molere_cli import Step, TrainingContext, num_steps, training_positions


class Lookahead:
    """A virtual step of plain gradient descent at the classifier's learning rate, without momentum and weight
    decay, and the validation gradient behind it."""

    def __init__(self, context: TrainingContext, *, meta_batch_size: int | None) -> None:
        self._config = context.config
        self._classifier = context.classifier
        self._optimizer = context.optimizer
        self.in_validation = context.in_validation
        self.positions = training_positions(context.config, context.labels, context.in_validation)
        self._validation = context.validation_batches(
            batch_size=meta_batch_size or context.config.classifier.batch_size
        )
        self._val_losses: list[Tensor] = []

    def start_epoch(self, epoch: int) -> None:
        """Line up the validation batches of an epoch."""
        self._val_losses = []
        self._validation.start_epoch(epoch, num_batches=num_steps(self.positions, self._config))

    def response(self, step: Step, loss: Tensor) -> dict[str, Tensor]:
        """lr times the gradient of the validation loss at theta - lr grad loss, by parameter name.

        Args:
            loss: 0-dim, on the graph of the step's forward pass, which stays there.
        """
        parameters = self._classifier.parameters
        lr = self._optimizer.param_groups[0]["lr"]
        gradients = torch.autograd.grad(
            loss, list(parameters.values()), retain_graph=True, materialize_grads=True
        )
        ahead = {
            name: parameter.detach() - lr * gradient
            for (name, parameter), gradient in zip(parameters.items(), gradients, strict=True)
        }
        val = self._validation.next()
        val_loss, val_gradient = self._classifier.validation_gradient(val.images, val.labels, at=ahead)
        self._val_losses.append(val_loss)
        return {name: lr * val_gradient[parameter] for name, parameter in parameters.items()}

    def metrics(self) -> dict[str, float]:
        """Mean `val/loss` behind the virtual steps of this epoch."""
        return {"val/loss": float(torch.stack(self._val_losses).mean())}

    def state_dict(self) -> dict[str, Any]:
        """What a resume needs, between epochs."""
        return self._validation.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a `state_dict`."""
        self._validation.load_state_dict(state)
