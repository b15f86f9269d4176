"""How a step of an optimizer responds to its gradient; nothing else knows what an optimizer does with one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.optim import SGD, Adam, AdamW, Optimizer

from molere_cli.foundation.errors import TrainingError

SUPPORTED = "momentum, sgd (Nesterov), adam, adamw"


@dataclass(frozen=True, eq=False)
class Clipping:
    """What clipping by global norm did to the gradient of one step.

    bound: the norm clipped to; norm: the gradient's norm before, 0-dim; gradients: the clipped gradient of
    each parameter that has one, as the optimizer was given it (`kept_gradients`).
    """

    bound: float
    norm: Tensor
    gradients: Mapping[Tensor, Tensor]


def kept_gradients(optimizer: Optimizer) -> dict[Tensor, Tensor]:
    """The gradients as a step that is about to be taken will find them, by parameter.

    Copies where the step overwrites them: torch's Nesterov, over lists of tensors (`foreach`, the default on
    a GPU) and without weight decay, adds the momentum into `p.grad` itself.
    """
    return {
        parameter: parameter.grad.clone() if group.get("nesterov") else parameter.grad
        for group in optimizer.param_groups
        for parameter in group["params"]
        if parameter.grad is not None
    }


def check_response_known(optimizer: Optimizer) -> None:
    """Raise TrainingError if `optimizer_response` would not be exact for this optimizer."""
    # The type itself, not a subclass, which may do anything with a gradient.
    if type(optimizer) not in {SGD, Adam, AdamW}:
        name = type(optimizer).__name__
        raise TrainingError(
            f"the response of optimizer {name} to its gradient is not known, so nothing can be learned "
            f"through its step; use one of: {SUPPORTED}"
        )
    for group in optimizer.param_groups:
        for option in ("amsgrad", "maximize", "dampening"):
            if group.get(option):
                raise TrainingError(
                    f"learning through a step of {type(optimizer).__name__} excludes {option}"
                )


@torch.no_grad()
def optimizer_response(
    optimizer: Optimizer,
    gradient: Mapping[Tensor, Tensor],
    *,
    before: Mapping[Tensor, Tensor],
    clipping: Clipping | None = None,
) -> dict[Tensor, Tensor]:
    """(d step / d g)^T v for the step that `optimizer` has just taken: theta' = theta - step(g).

    Call it after `optimizer.step()` and before gradients are cleared: Adam's factor is read off its state
    and the gradient. The step's Jacobian is diagonal but for clipping, which is symmetric.

    Args:
        optimizer: torch's SGD, Adam or AdamW (`check_response_known`).
        gradient: v for each parameter; overwritten.
        before: each parameter's value before the step.
        clipping: what clipping did to this step's gradient, if it was on.

    Returns:
        For each parameter that took part in the step, a tensor of its shape: the same storage as v.
    """
    response: dict[Tensor, Tensor] = {}
    for group in optimizer.param_groups:
        # The optimizer skipped the others: their step does not respond to anything.
        members = [parameter for parameter in group["params"] if parameter.grad is not None]
        vectors = [gradient[parameter] for parameter in members]
        if isinstance(optimizer, SGD):
            torch._foreach_mul_(vectors, _sgd_factor(group))
        else:
            for parameter, vector in zip(members, vectors, strict=True):
                vector.mul_(_adam_factor(parameter, before[parameter], group, optimizer.state[parameter]))
        response.update(zip(members, vectors, strict=True))
    if clipping is not None:
        _respond_to_clipping(response, clipping)
    return response


def _sgd_factor(group: Mapping[str, Any]) -> float:
    # The momentum buffer is m = mu m_old + g, so that dm/dg = 1 whatever came before; plain momentum steps by
    # lr m. Nesterov steps by lr (g + mu m), which has g twice. Weight decay adds a constant, gone in d/dg.
    return float(group["lr"] * (1.0 + group["momentum"] if group["nesterov"] else 1.0))


def _adam_factor(
    parameter: Tensor, before: Tensor, group: Mapping[str, Any], state: Mapping[str, Any]
) -> Tensor:
    """d/dg of lr m_hat / (sqrt(v_hat) + eps), element-wise; 0 where no gradient was ever seen."""
    beta1, beta2 = group["betas"]
    # Where the optimizer keeps its count on a GPU (`fused`, `capturable`), a number of Python's would make
    # the host wait for it; doubles, because 0.999 to the first few powers is close to 1.
    step = state["step"].double()
    correction1, correction2 = 1 - beta1**step, 1 - beta2**step
    first, second = state["exp_avg"], state["exp_avg_sq"]
    assert parameter.grad is not None
    gradient = parameter.grad
    if group["weight_decay"] and not group["decoupled_weight_decay"]:
        gradient = gradient + group["weight_decay"] * before
    # Both moments hold this step's g: m_hat = (.. + (1 - beta1) g) / c1, v_hat = (.. + (1 - beta2) g^2) / c2,
    # whose root has the derivative (1 - beta2) g / (c2 root). The two terms are those of the quotient rule.
    root = (second / correction2).sqrt_()
    denominator = root + group["eps"]  # outside of the root, as torch has it
    through_first = (1 - beta1) / correction1 / denominator
    through_second = (
        first / correction1 * gradient * ((1 - beta2) / correction2) / (root * denominator.square())
    )
    factor = (through_first - through_second) * group["lr"]
    # Where no gradient was ever seen the second term is 0 / 0; such a parameter is taken not to respond.
    return torch.where(second > 0, factor, torch.zeros_like(factor))


def _respond_to_clipping(response: dict[Tensor, Tensor], clipping: Clipping) -> None:
    """g -> s g with s = bound / (norm + 1e-6) where that is below 1 (torch's `clip_grad_norm_`)."""
    gradients = [clipping.gradients[parameter] for parameter in response]
    vectors = list(response.values())
    scale = clipping.bound / (clipping.norm + 1e-6)
    # d(s g)/dg = s (I - g g^T / (norm (norm + 1e-6))): shorter in all directions, and nearly nothing along g,
    # since a longer gradient is cut back to the same length. It is symmetric: its own transpose.
    # What the optimizer was given is the clipped gradient s g, so its direction is that over (s norm).
    along = sum((g * v).sum() for g, v in zip(gradients, vectors, strict=True)) / (scale * clipping.norm)
    shrink = along * clipping.norm / (clipping.norm + 1e-6) / (scale * clipping.norm)
    # No `if`, which would make the host wait for the norm.
    is_clipped = scale < 1
    torch._foreach_sub_(vectors, torch._foreach_mul(gradients, torch.where(is_clipped, shrink, 0.0)))
    torch._foreach_mul_(vectors, torch.where(is_clipped, scale, 1.0))
