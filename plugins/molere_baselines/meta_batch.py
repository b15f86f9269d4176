"""What L2R, MWN and GDW share: a batch of validation examples for every step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from molere_cli import Method, Options, TrainingContext


def stacked(numbers: list[Tensor]) -> Tensor:
    """0-dim tensors of one dtype as one, (n,), for a state; `list` of it gives them back."""
    return torch.stack(numbers) if numbers else torch.empty(0)


class MetaBatchOptions(Options):
    """Options of `l2r`, and of every method that takes a validation batch a step."""

    meta_batch_size: int | None = Field(
        None, ge=2, description="Validation examples a step (default: the batch size)."
    )


class MetaBatchMethod(Method):
    """A method whose every step looks at the gradient of the loss on a batch of the validation part."""

    resumes_within_epoch = True

    options: MetaBatchOptions

    def __init__(self, context: TrainingContext) -> None:
        super().__init__(context)
        self._validation = context.validation_batches(
            batch_size=self.options.meta_batch_size or context.config.classifier.batch_size
        )
        self._val_losses: list[Tensor] = []

    def before_epoch(self, epoch: int) -> Tensor:
        self._val_losses = []
        num_batches = self.context.num_steps(self.positions)
        self._validation.start_epoch(epoch, num_batches=num_batches)
        return self.positions

    def resume_epoch(self, epoch: int) -> Tensor:
        num_batches = self.context.num_steps(self.positions)
        self._validation.resume_epoch(epoch, num_batches=num_batches)
        return self.positions

    def validation_gradient(self, *, at: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
        """The gradient of the mean loss on the next validation batch, by parameter name.

        Args:
            at: values that stand in for the classifier's parameters of these names.
        """
        classifier, val = self.context.classifier, self._validation.next()
        val_loss, gradient = classifier.validation_gradient(val.images, val.labels, at=at)
        self._val_losses.append(val_loss)
        return {name: gradient[parameter] for name, parameter in classifier.parameters.items()}

    def metrics(self) -> dict[str, float]:
        """Mean `val/loss` over this epoch's validation batches, where their gradients were taken."""
        return {"val/loss": float(torch.stack(self._val_losses).mean())}

    def state_dict(self) -> dict[str, Any]:
        return {**self._validation.state_dict(), "val_losses": stacked(self._val_losses)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._validation.load_state_dict(state)
        self._val_losses = list(state.get("val_losses", stacked([])).to(self.context.classifier.device))
