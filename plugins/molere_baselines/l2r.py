"""Learning to reweight (Ren et al., ICML 2018, arXiv 1803.09050, algorithm 1).

The published method takes a virtual step with weights eps = 0, so the step leaves the classifier where it is,
and the validation gradient v is that at the classifier itself. The derivative of the validation loss by eps_i
is then -lr < grad l_i, v >, and the learning rate falls out with the normalisation.

Shapes: B examples of a training batch.
"""

from __future__ import annotations

import torch
from torch import Tensor

from molere_baselines.meta_batch import MetaBatchMethod
from molere_cli import Step, alignment


def rectified(alignment_B: Tensor) -> Tensor:
    """The positive part over its mean: the paper's weights, which add up to 1, times B. All 0 if none is
    positive."""
    positive_B = alignment_B.clamp_min(0)
    total = positive_B.sum()
    return positive_B * (len(positive_B) / torch.where(total > 0, total, torch.ones_like(total)))


class LearningToReweight(MetaBatchMethod):
    """Weighs an example by how far its gradient goes along that of the validation loss, in this very step."""

    batch_parts = "chunks"
    weights_read = "nothing"

    def weights(self, step: Step) -> Tensor | None:
        classifier, direction = self.context.classifier, self.validation_gradient()
        losses = classifier.step_losses(step.batch.images, step.batch.labels, step.randomness)
        return rectified(alignment(losses, classifier.parameters, direction))
