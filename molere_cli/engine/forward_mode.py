"""Forward derivatives of convolution and batch norm, where torch's own are slow.

Exact, and generic in the network: within `fast_forward_mode()` the two functions are intercepted wherever
a module calls them with dual tensors; everything else takes torch's own way.

Shapes: B examples, C channels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.autograd.forward_ad import make_dual, unpack_dual
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

CONVOLUTIONS = (F.conv1d, F.conv2d, F.conv3d)


class fast_forward_mode(TorchFunctionMode):
    """Within the block, duals go through convolution and batch norm by the formulas below."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if func in CONVOLUTIONS:
            return _convolution(func, *args, **kwargs)
        if func is F.batch_norm:
            return _batch_norm(*args, **kwargs)
        if func is F.group_norm:
            # Up to torch 2.7 its forward derivative asks for a view that channels last does not have.
            input, *rest = args
            return func(input.contiguous(), *rest, **kwargs)
        return func(*args, **kwargs)


def _convolution(
    convolve: Callable[..., Tensor], input: Any, weight: Any, bias: Any = None, *rest: Any, **options: Any
) -> Tensor:
    """d conv(x, w) = conv(dx, w) + conv(x, dw), summed in place; nothing is convolved for a zero tangent."""
    (x, dx), (w, dw), (b, db) = parts_of_dual(input), parts_of_dual(weight), parts_of_dual(bias)
    y = convolve(x, w, b, *rest, **options)
    through_weight = None if dw is None else convolve(x, dw, db, *rest, **options)
    if dx is None:
        tangent = through_weight
    else:
        # The bias is a constant here: it has gone into y, and its own tangent is added once, below or above.
        tangent = convolve(dx, w, None, *rest, **options)
        if through_weight is not None:
            # In place: one tensor of the activation's size less for every layer.
            tangent.add_(through_weight)
    if dw is None and db is not None:
        db_C = db.view(-1, *[1] * (y.dim() - 2))
        tangent = db_C.expand_as(y).clone() if tangent is None else tangent.add_(db_C)
    return y if tangent is None else make_dual(y, tangent)


def _batch_norm(
    input: Any,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Any = None,
    bias: Any = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """dy = gamma / sigma (dx - mean(dx) - x_hat mean(dx x_hat)) + dgamma x_hat + dbeta, on batch statistics.

    The two sums come from torch's fused backward kernel; what is left is affine in dx and x by channel, and
    takes one pass over each. Running statistics are left alone.
    """
    # On running statistics it is affine in its input, and torch's own derivative of that is fast.
    if not training:
        return F.batch_norm(input, running_mean, running_var, weight, bias, False, momentum, eps)
    (x, dx), (gamma, dgamma), (beta, dbeta) = (
        parts_of_dual(input),
        parts_of_dual(weight),
        parts_of_dual(bias),
    )
    # Without running statistics in the call, so that a meta pass cannot move them.
    y, mean_C, inverse_std_C = torch.native_batch_norm(x, gamma, beta, None, None, True, momentum, eps)
    sums = None if dx is None else batch_norm_sums(dx, x, gamma, mean_C, inverse_std_C, eps)
    per_channel = x.numel() // len(mean_C)
    tangent = batch_norm_tangent(x, dx, gamma, dgamma, dbeta, mean_C, inverse_std_C, sums, per_channel)
    dual: Tensor = make_dual(y, tangent)
    return dual


def batch_norm_sums(
    dx: Tensor, x: Tensor, gamma: Tensor | None, mean_C: Tensor, inverse_std_C: Tensor, eps: float
) -> tuple[Tensor, Tensor]:
    """sum(dx x_hat) and sum(dx) by channel, (C,) each, in one pass."""
    # With dx in the place of an output gradient, they are its gradients of gamma and beta; the gradient of
    # the input is not asked for. On a GPU a layer without gamma gets none for channels last, so ones stand
    # in: they do not enter into the sums.
    ones_C = torch.ones_like(mean_C) if gamma is None else gamma
    _, dot_C, sum_C = torch.ops.aten.native_batch_norm_backward(
        dx, x, ones_C, None, None, mean_C, inverse_std_C, True, eps, [False, True, True]
    )
    return dot_C, sum_C


def batch_norm_tangent(
    x: Tensor,
    dx: Tensor | None,
    gamma: Tensor | None,
    dgamma: Tensor | None,
    dbeta: Tensor | None,
    mean_C: Tensor,
    inverse_std_C: Tensor,
    sums: tuple[Tensor, Tensor] | None,
    per_channel: int | Tensor,
) -> Tensor:
    """dy of a batch norm on batch statistics, where `sums` are `batch_norm_sums` over the `per_channel`
    numbers that the statistics are of."""
    x_hat_factor_C = torch.zeros_like(mean_C) if dgamma is None else dgamma
    shift_C = torch.zeros_like(mean_C) if dbeta is None else dbeta
    dx_factor_C = inverse_std_C if gamma is None else gamma * inverse_std_C
    if sums is not None:
        dot_C, sum_C = sums
        x_hat_factor_C = x_hat_factor_C - dx_factor_C * dot_C / per_channel
        shift_C = shift_C - dx_factor_C * sum_C / per_channel
    x_factor_C = x_hat_factor_C * inverse_std_C
    shift_C = shift_C - x_factor_C * mean_C
    if dx is None:
        return _affine(x, x_factor_C, shift_C)
    return _affine(dx, dx_factor_C, shift_C).addcmul_(x, _by_channel(x_factor_C, x))


def _affine(values: Tensor, factor_C: Tensor, shift_C: Tensor) -> Tensor:
    """factor x + shift by channel in one pass: batch norm with mean 0 and variance 1."""
    zeros_C, ones_C = torch.zeros_like(factor_C), torch.ones_like(factor_C)
    return torch.native_batch_norm(values, factor_C, shift_C, zeros_C, ones_C, False, 0.0, 0.0)[0]


def _by_channel(values_C: Tensor, like: Tensor) -> Tensor:
    return values_C.to(like.dtype).view(1, -1, *[1] * (like.dim() - 2))


def parts_of_dual(value: Tensor | None) -> tuple[Any, Tensor | None]:
    """A dual's value and tangent, which is None where there is none."""
    return (None, None) if value is None else unpack_dual(value)
