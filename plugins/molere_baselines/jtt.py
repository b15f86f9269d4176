"""Just Train Twice (Liu et al., ICML 2021, arXiv 2107.09044).

Shapes: N examples of the pool.
"""

from __future__ import annotations

from itertools import islice
from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from molere_cli import (
    ConfigError,
    Method,
    Options,
    Step,
    TrainingContext,
    TrainingError,
    erm_epochs,
    predict_feed,
)


class JttOptions(Options):
    """Options of `jtt`."""

    first_epochs: int | None = Field(
        None, ge=1, description="Epochs of ERM before errors are counted (default: an eighth of all)."
    )
    up_weight: int = Field(20, ge=1, le=10_000, description="How many extra times an epoch has each error.")


def upsampled(positions: Tensor, errors_N: Tensor, *, up_weight: int) -> Tensor:
    """The positions, followed by `up_weight` copies of those in the error set (bool (N,)): each error occurs
    1 + up_weight times."""
    return torch.cat([positions, positions[errors_N[positions]].repeat(up_weight)])


class JustTrainTwice(Method):
    """Trains by ERM for some epochs, and from the start again with its errors upsampled."""

    resumes_within_epoch = True
    batch_parts = "chunks"
    weights_read = "nothing"

    options: JttOptions

    def __init__(self, context: TrainingContext) -> None:
        super().__init__(context)
        num_epochs = context.config.classifier.epochs
        self._first_epochs = self.options.first_epochs or max(1, round(num_epochs / 8))
        if self._first_epochs > num_epochs:
            raise ConfigError(
                f"jtt's first_epochs = {self._first_epochs} is more than --epochs {num_epochs}; lower it"
            )
        self._errors_N: Tensor | None = None

    def before_epoch(self, epoch: int) -> Tensor:
        if self._errors_N is None:
            self._errors_N = self._find_errors()
        return upsampled(self.positions, self._errors_N, up_weight=self.options.up_weight)

    def _find_errors(self) -> Tensor:
        context = self.context
        context.note(f"jtt: ERM first, for {self._first_epochs} of its epochs, to find its errors")
        trains_N = torch.zeros(len(context.labels), dtype=torch.bool)
        trains_N[self.positions] = True
        *_, first = islice(erm_epochs(context, trains_N), self._first_epochs)
        predictions = predict_feed(first, context.feed)
        errors_N = (predictions.predicted != predictions.labels) & trains_N
        if not errors_N.any():
            raise TrainingError(
                f"jtt's first model makes no error on the training examples after {self._first_epochs} "
                "epochs; lower --method-option first_epochs"
            )
        self._tell_of_steps(errors_N)
        return errors_N

    def _tell_of_steps(self, errors_N: Tensor) -> None:
        up_weight = self.options.up_weight
        longer = self.context.num_steps(upsampled(self.positions, errors_N, up_weight=up_weight))
        self.context.note(
            f"jtt: {int(errors_N.sum()):,} errors, {up_weight} extra times each, make an epoch {longer:,} "
            f"steps long instead of {self.context.num_steps(self.positions):,}"
        )

    def weights(self, step: Step) -> Tensor | None:
        return None

    def metrics(self) -> dict[str, float]:
        """The size of the error set."""
        assert self._errors_N is not None
        return {"jtt/num_errors": int(self._errors_N.sum())}

    def state_dict(self) -> dict[str, Any]:
        return {"errors": self._errors_N}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._errors_N = state["errors"].cpu()
