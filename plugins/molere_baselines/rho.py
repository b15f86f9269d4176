"""RHO-Loss: train on what is learnable and not yet learnt (Mindermann et al., ICML 2022, arXiv 2206.07137).

Shapes: N examples of the pool, B of a candidate batch.
"""

from __future__ import annotations

from typing import Any

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from molere_cli import (
    Batch,
    ConfigError,
    Method,
    Options,
    Step,
    TrainingContext,
    derived_seed,
    epoch_batches,
    erm_epochs,
    predict_feed,
)


class RhoOptions(Options):
    """Options of `rho`."""

    fraction: float = Field(0.1, gt=0, le=1, description="Share of a candidate batch that is trained on.")
    irreducible_epochs: int | None = Field(
        None, ge=1, description="Epochs of the irreducible-loss model (default: as many as the run's)."
    )


def top_reducible(losses_B: Tensor, irreducible_B: Tensor, *, fraction: float) -> Tensor:
    """Where loss minus irreducible loss is highest: the share `fraction` of B, two at least, ascending."""
    num_chosen = min(len(losses_B), max(2, round(fraction * len(losses_B))))
    return (losses_B - irreducible_B).topk(num_chosen).indices.sort().values


class RhoLoss(Method):
    """Scores a large batch by reducible holdout loss and trains on its top.

    An epoch goes over the training examples 1 / fraction times, so that it has about as many steps as an
    epoch of ERM, on as many examples.
    """

    resumes_within_epoch = True
    batch_parts = "chunks"
    weights_read = "nothing"

    options: RhoOptions

    def __init__(self, context: TrainingContext) -> None:
        super().__init__(context)
        assert context.in_validation is not None
        if context.config.split.train_on == "all":
            raise ConfigError(
                "rho scores what trains by a model of the validation part, so the two must not overlap; "
                "add --train-on train"
            )
        self._in_validation = context.in_validation
        self._irreducible_N: Tensor | None = None

    def before_epoch(self, epoch: int) -> Tensor:
        if self._irreducible_N is None:
            self._irreducible_N = self._irreducible_losses()
        return self.positions

    def _irreducible_losses(self) -> Tensor:
        """Each example's loss under a model of the validation part, at that model's best epoch for the
        training part."""
        context, trains_N = self.context, ~self._in_validation
        context.note("rho: a model of the validation part first, for irreducible losses")
        models = erm_epochs(context, self._in_validation, num_epochs=self.options.irreducible_epochs)
        of_each_epoch = (predict_feed(model, context.feed).loss for model in models)
        best_N = min(of_each_epoch, key=lambda losses_N: float(losses_N[trains_N].double().mean()))
        return best_N.to(context.classifier.device)

    def batches(self, epoch: int, positions: Tensor, *, batch_size: int, seed: int) -> list[Tensor]:
        """Candidate batches, 1 / fraction times as large, of as many passes over the positions."""
        num_candidates = round(batch_size / self.options.fraction)
        return [
            batch
            for number in range(round(1 / self.options.fraction))
            for batch in epoch_batches(positions, num_candidates, seed=derived_seed(seed, "pass", number))
        ]

    def select(self, batch: Batch) -> Batch:
        """The candidates of highest reducible loss now."""
        assert self._irreducible_N is not None
        logits = self.context.classifier.meta_forward(batch.images).logits
        losses_B = F.cross_entropy(logits, batch.labels, reduction="none")
        chosen = top_reducible(losses_B, self._irreducible_N[batch.positions], fraction=self.options.fraction)
        images = batch.images[chosen]
        if images.dim() == 4:  # not the features of a frozen backbone
            images = images.contiguous(memory_format=torch.channels_last)
        return Batch(batch.positions[chosen], images, batch.labels[chosen])

    def weights(self, step: Step) -> Tensor | None:
        return None

    def state_dict(self) -> dict[str, Any]:
        return {"irreducible": self._irreducible_N}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._irreducible_N = state["irreducible"].to(self.context.classifier.device)
