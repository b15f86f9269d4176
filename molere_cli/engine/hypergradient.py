"""The one-step hypergradient without a second-order graph (pure functions over tensors).

With per-example losses l_i(theta), weights w_i and one step theta' = theta - u(g),
g = (1/B) sum_i w_i grad l_i(theta), the derivative of the validation loss after the step is

    d L_val(theta') / d w_i = -(1/B) < grad l_i(theta), r >,    r = (du/dg)^T grad L_val(theta')

r is the `optimizer_response` to the validation gradient; all inner products at once are one
forward-mode derivative of the vector of losses at theta in direction r (`alignment`). Nothing of second
order is ever built. Equation (4) of docs/concepts/method.md; forward mode: `torch.autograd.forward_ad`.

Shapes: B examples of a batch.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.autograd import forward_ad

Parameters = Mapping[str, Tensor]


def alignment(
    per_example_loss: Callable[[Parameters], Tensor], parameters: Parameters, direction: Parameters
) -> Tensor:
    """< grad l_i(theta), direction > for every example i of a batch, by one forward-mode pass.

    Args:
        per_example_loss: the losses (B,), or anything else of which there is one or a row for each example,
            as a function of the parameters; run once, with dual tensors and gradient recording off, so that
            its activations are freed as it goes.
        parameters: theta, by name.
        direction: tensors shaped like the parameters; a name that is missing counts as zero.

    Returns:
        (B,), or the shape of what the function gives, in its dtype.
    """
    _load_forward_mode()
    # Forward mode alone: with recording on, every activation would wait for a backward pass that never comes.
    with torch.no_grad(), forward_ad.dual_level():
        duals = {
            name: forward_ad.make_dual(value.detach(), direction[name])
            if name in direction
            else value.detach()
            for name, value in parameters.items()
        }
        # A parameter without a tangent is a constant, which costs forward mode nothing.
        losses_B, tangents_B = forward_ad.unpack_dual(per_example_loss(duals))
    # No tangent: nothing in the direction reaches the losses.
    return torch.zeros_like(losses_B) if tangents_B is None else tangents_B


def hypergradient(
    per_example_loss: Callable[[Parameters], Tensor], parameters: Parameters, response: Parameters
) -> Tensor:
    """d L_val(theta') / d w_i for the weights of a mean-reduced weighted loss, (B,).

    Args:
        per_example_loss: as in `alignment`.
        parameters: theta *before* the step.
        response: the optimizer's response to the validation gradient at theta'.
    """
    alignment_B = alignment(per_example_loss, parameters, response)
    # 1/B because the step was on the mean of the weighted losses.
    return alignment_B.neg_().div_(len(alignment_B))


@functools.cache
def _load_forward_mode() -> None:
    """torch compiles its forward derivatives at the first use, with a warning about its own torch.jit."""
    with warnings.catch_warnings(), forward_ad.dual_level():
        warnings.filterwarnings("ignore", message=r".*torch\.jit", category=FutureWarning)
        warnings.filterwarnings("ignore", message=r".*torch\.jit", category=DeprecationWarning)
        forward_ad.make_dual(torch.zeros(1), torch.zeros(1))
