"""Class-balanced loss by the effective number of examples (Cui et al., CVPR 2019, arXiv 1901.05555).

Shapes: N examples of the pool, B of a batch, C classes.
"""

from __future__ import annotations

import math

import torch
from pydantic import Field
from torch import Tensor

from molere_cli import Method, Options, Step, TrainingContext


class ClassBalancedOptions(Options):
    """Options of `class-balanced`."""

    beta: float = Field(0.9999, ge=0, lt=1, description="0 is ERM; near 1, inverse class frequency.")


def class_balanced_weights(counts_C: Tensor, *, beta: float) -> Tensor:
    """(1 - beta) / (1 - beta^n) for classes of n examples, scaled so that their mean over classes is 1.

    Section 3 of the paper: the inverse of the effective number of examples.

    Args:
        counts_C: int64 (C,); a class without examples gets weight 0 and does not count in the mean.

    Returns:
        float64 (C,).
    """
    present_C = counts_C > 0
    log_beta = math.log(beta) if beta else -math.inf
    weights_C = (1 - beta) / -torch.expm1(counts_C.clamp_min(1).double() * log_beta)
    weights_C = weights_C.where(present_C, 0.0)
    return weights_C * present_C.sum() / weights_C.sum()


class ClassBalanced(Method):
    """Every example weighs what its class does."""

    resumes_within_epoch = True
    batch_parts = "chunks"
    weights_read = "nothing"

    options: ClassBalancedOptions

    def __init__(self, context: TrainingContext) -> None:
        super().__init__(context)
        counts_C = context.labels[self.positions].bincount(minlength=context.num_classes)
        weights_C = class_balanced_weights(counts_C, beta=self.options.beta)
        self._weights_C = weights_C.float().to(context.classifier.device)

    def weights(self, step: Step) -> Tensor | None:
        return self._weights_C[step.batch.labels]
