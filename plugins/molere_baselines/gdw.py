"""Generalized data weighting (Chen et al., NeurIPS 2021, arXiv 2111.00056): a weight for every class of every
example, on the gradient of the logits.

Shapes: B examples of a training batch, C classes.
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from molere_baselines.weight_net import WeightNetMethod, WeightNetOptions
from molere_cli import Step, alignment

PROBABILITY_MAX = 0.999
WEIGHT_MIN, WEIGHT_MAX = 1e-6, 1e6


class GdwOptions(WeightNetOptions):
    """Options of `gdw`."""

    outer_lr: float = Field(100.0, gt=0, description="Step on the class-level weights, before clipping.")
    clip: float = Field(0.2, gt=0, description="The largest step of one class-level weight.")


def logit_errors(logits_BC: Tensor, labels_B: Tensor) -> Tensor:
    """The gradient of each cross-entropy by its logits: p - y, with p at most 0.999, (B, C), detached."""
    probabilities_BC = logits_BC.detach().softmax(dim=1).clamp_max(PROBABILITY_MAX)
    return probabilities_BC - F.one_hot(labels_B, logits_BC.shape[1]).to(logits_BC.dtype)


def with_zero_sum(weights_BC: Tensor, errors_BC: Tensor, labels_B: Tensor) -> Tensor:
    """The weights with that of the label put to where the weighted errors of an example add up to 0.

    w_t = sum_{c != t} w_c p_c / (1 - p_t). Differentiable by the other weights.
    """
    target_BC = F.one_hot(labels_B, weights_BC.shape[1]).bool()
    others_B = (weights_BC * errors_BC).masked_fill(target_BC, 0.0).sum(dim=1)
    own_error_B = errors_BC.gather(1, labels_B[:, None]).squeeze(1)
    return torch.where(target_BC, (others_B / -own_error_B)[:, None], weights_BC)


def class_level_step(weights_BC: Tensor, gradient_BC: Tensor, *, lr: float, clip: float) -> Tensor:
    """A step down the gradient over its L1 norm, clipped to +-clip, kept within [1e-6, 1e6]."""
    norm = gradient_BC.abs().sum().clamp_min(torch.finfo(gradient_BC.dtype).tiny)
    step_BC = (lr * gradient_BC / norm).clamp(-clip, clip)
    return (weights_BC - step_BC).clamp(WEIGHT_MIN, WEIGHT_MAX)


class GeneralizedDataWeighting(WeightNetMethod):
    """Meta-Weight-Net's weight for every class of an example, moved on by one step of its own.

    `weights` (in `pool.parquet` and the metrics) are those on the label's own logit.
    """

    options: GdwOptions
    _logit_gradient_BC: Tensor | None = None

    def weights(self, step: Step) -> Tensor | None:
        labels_B = step.batch.labels
        errors_BC = logit_errors(step.logits, labels_B)
        instance_B: Tensor = self._training.net(step.losses.detach())
        weights_BC = with_zero_sum(instance_B[:, None].expand_as(errors_BC), errors_BC, labels_B)
        gradient_BC = self._hypergradient(step, weights_BC.detach() * errors_BC) * errors_BC
        self._training.step(weights_BC, gradient_BC)
        moved_BC = class_level_step(
            weights_BC.detach(), gradient_BC, lr=self.options.outer_lr, clip=self.options.clip
        )
        moved_BC = with_zero_sum(moved_BC, errors_BC, labels_B)
        self._logit_gradient_BC = moved_BC * errors_BC
        return moved_BC.gather(1, labels_B[:, None]).squeeze(1)

    def loss(self, step: Step, weights: Tensor | None) -> Tensor:
        """The mean loss, whose gradient by the logits is replaced by the weighted one."""
        assert self._logit_gradient_BC is not None
        surrogate = _mean_along(self._logit_gradient_BC, step.logits)
        return surrogate + (step.losses.mean() - surrogate).detach()

    def _hypergradient(self, step: Step, logit_gradient_BC: Tensor) -> Tensor:
        """d L_val(theta') / d G for theta' = theta - (lr / B) sum_ic G_ic grad z_ic: (B, C)."""
        classifier = self.context.classifier
        response = self.response(step, _mean_along(logit_gradient_BC, step.logits))
        logits = classifier.step_logits(step.batch.images, step.randomness)
        return -alignment(logits, classifier.parameters, response) / len(logit_gradient_BC)

    def after_step(self, step: Step) -> None:
        self._logit_gradient_BC = None


def _mean_along(gradient_BC: Tensor, logits_BC: Tensor) -> Tensor:
    """A scalar whose gradient by the logits is the given one over B."""
    return (gradient_BC * logits_BC).sum() / len(logits_BC)
