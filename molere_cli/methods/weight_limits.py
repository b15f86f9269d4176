"""From log-weights to weights, and how far these may go. Shapes: B examples of a training batch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from molere_cli.engine.method import TrainingContext


class _Within(torch.autograd.Function):
    """Clamp to [-bound, bound]; the gradient passes unless it would push further out.

    With the plain derivative of a clamp, a log-weight that has left the interval could never come back.
    """

    @staticmethod
    def forward(ctx: Any, values: Tensor, bound: float) -> Tensor:
        ctx.save_for_backward(values)
        ctx.bound = bound
        return values.clamp(-bound, bound)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (values,) = ctx.saved_tensors
        outward = (values >= ctx.bound) & (gradient < 0) | (values <= -ctx.bound) & (gradient > 0)
        return gradient.masked_fill(outward, 0.0), None


def weights_from_log(
    log_weights_B: Tensor, *, normalization: str = "mean", bound: float | None = None
) -> Tensor:
    """Weights from a reweighter's log-weights, differentiable.

    `mean`: exp(z) over its batch mean, that is softmax(z) times B; exactly 1 where all z are equal.
    `none`: sigmoid(z), as in Meta-Weight-Net (arXiv 1902.07379).
    """
    # Bounded before normalisation: the bound is on how far apart two weights can be, b^2 at most.
    if bound is not None:
        log_weights_B = _Within.apply(log_weights_B, math.log(bound))
    if normalization == "none":
        return log_weights_B.sigmoid()
    # Less the highest, so that nothing overflows; the mean takes it out again.
    weights_B = (log_weights_B - log_weights_B.detach().max()).exp()
    return weights_B / weights_B.mean()


def with_spread(log_weights_B: Tensor, spread: float) -> Tensor:
    """The log-weights scaled to a standard deviation of `spread` over the batch, differentiable in all but
    the scale itself; log-weights that are all equal stay so."""
    std = log_weights_B.detach().std(correction=0)
    return log_weights_B * (spread / std if std > 0 else 0.0)


@dataclass(frozen=True)
class WeightLimits:
    """How far weights may go, whatever is learned.

    A weight is floor + (1 - floor) v of a learned v, and at most cap; their mean is 1. cap: None for none.
    """

    cap: float | None = None
    floor: float = 0.0

    @property
    def leave_nothing(self) -> bool:
        """Whether all weights are 1."""
        return self.cap == 1

    def apply(self, weights_B: Tensor) -> Tensor:
        """The weights within the limits, differentiable, with the mean of `weights_B`, which must be 1."""
        if self.floor:
            weights_B = self.floor + (1 - self.floor) * weights_B
        return weights_B if self.cap is None else _Capped.apply(weights_B, self.cap)


NO_LIMITS = WeightLimits()


class _Capped(torch.autograd.Function):
    """Weights cut at a cap, what is cut off shared out over the others in proportion.

    The gradient passes as if nothing had been cut, unless it would push a weight at the cap further up: with
    the plain derivative a weight that has reached the cap could never come back.
    """

    @staticmethod
    def forward(ctx: Any, weights_B: Tensor, cap: float) -> Tensor:
        falling_B, order_B = weights_B.sort(descending=True)
        num_full_B = torch.arange(len(weights_B), device=weights_B.device, dtype=weights_B.dtype)
        # With the k heaviest at the cap, the others are scaled to what is left: k is right once that lifts
        # none of them above the cap, and the least such k is meant.
        left_B = len(weights_B) - cap * num_full_B
        rest_B = falling_B.flip(0).cumsum(0).flip(0).clamp_min(torch.finfo(weights_B.dtype).tiny)
        scale_B = left_B / rest_B
        num_full = (scale_B * falling_B <= cap).float().argmax()
        is_full_B = torch.empty_like(order_B, dtype=torch.bool)
        is_full_B[order_B] = num_full_B < num_full
        # `gather`, because an index of no dimensions would be read by the host.
        capped_B = (weights_B * scale_B.gather(0, num_full[None])).masked_fill(is_full_B, cap)
        ctx.save_for_backward(is_full_B)
        return capped_B

    @staticmethod
    def backward(ctx: Any, gradient_B: Tensor) -> tuple[Tensor, None]:
        (is_full_B,) = ctx.saved_tensors
        return gradient_B.masked_fill(is_full_B & (gradient_B < 0), 0.0), None


def weight_limits(context: TrainingContext) -> WeightLimits:
    """What was asked for; else, for a reweighter that wants limits, what the split represents.

    A pool of nothing but the examples that validation represents gives each of them 1 / share. No weight
    needs to be higher than that to do well on them, and where they are the whole pool, as in a random split,
    all weights are 1. Nor is any higher than 1 / delta, as in a pool of the worst delta: with more, a step
    would be that of a single example.
    """
    settings, split = context.config.reweighting, context.split
    cap, floor = settings.weight_cap, settings.weight_floor
    if settings.weight_normalization == "none":
        return WeightLimits()
    assert context.reweighter is not None
    if context.reweighter.limits_weights and split is not None:
        if cap is None and split.info.represented_fraction is not None:
            cap = 1 / max(split.info.represented_fraction, split.info.delta)
        if floor is None and split.info.keeps_base_weight:
            floor = 0.5
    return WeightLimits(cap, floor or 0.0)


def why_nothing_is_learned(context: TrainingContext) -> str | None:
    """Why the weights of a run with a reweighter will all stay 1, for a user; None if they are learned."""
    if context.reweighter is None:
        return None
    warmup, epochs = context.config.reweighting.warmup_epochs, context.config.classifier.epochs
    if warmup is not None and warmup >= epochs:
        return f"--warmup-epochs {warmup} takes all of its {epochs} epochs"
    if weight_limits(context).leave_nothing:
        if context.config.reweighting.weight_cap == 1:
            return "--weight-cap 1 leaves all weights at 1"
        return "its validation set represents the whole pool, beside which no example needs more weight"
    return None
