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
        return func(*args, **kwargs)


def _convolution(
    convolve: Callable[..., Tensor], input: Any, weight: Any, bias: Any = None, *rest: Any, **options: Any
) -> Tensor:
    """d conv(x, w) = conv(dx, w) + conv(x, dw), summed in place; nothing is convolved for a zero tangent."""
    (x, dx), (w, dw), (b, db) = _parts(input), _parts(weight), _parts(bias)
    y = convolve(x, w, b, *rest, **options)
    through_weight = None if dw is None else convolve(x, dw, db, *rest, **options)
    if dx is None:
        tangent = through_weight
    else:
        tangent = convolve(dx, w, None, *rest, **options)
        if through_weight is not None:
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
    """With batch statistics: dy = J dx + dgamma x_hat + dbeta.

    J = gamma / sigma (I - 1 1^T / n - x_hat x_hat^T / n) is symmetric, so torch's fused backward kernel
    gives J dx. Running statistics are left alone.
    """
    if not training:
        return F.batch_norm(input, running_mean, running_var, weight, bias, False, momentum, eps)
    (x, dx), (gamma, dgamma), (beta, dbeta) = _parts(input), _parts(weight), _parts(bias)
    y, mean_C, inverse_std_C = torch.native_batch_norm(x, gamma, beta, None, None, True, momentum, eps)
    tangent = None
    if dx is not None:
        tangent, _, _ = torch.ops.aten.native_batch_norm_backward(
            dx, x, gamma, None, None, mean_C, inverse_std_C, True, eps, [True, False, False]
        )
    if dgamma is not None or dbeta is not None:
        scale_C = torch.zeros_like(mean_C) if dgamma is None else dgamma * inverse_std_C
        shift_C = -mean_C * scale_C if dbeta is None else dbeta - mean_C * scale_C
        affine = _per_channel(x, scale_C, shift_C)
        tangent = affine if tangent is None else tangent.add_(affine)
    return y if tangent is None else make_dual(y, tangent)


def _per_channel(x: Tensor, scale_C: Tensor, shift_C: Tensor) -> Tensor:
    shape = (1, -1, *[1] * (x.dim() - 2))
    return torch.addcmul(shift_C.view(shape).to(x.dtype), x, scale_C.view(shape).to(x.dtype))


def _parts(value: Tensor | None) -> tuple[Any, Tensor | None]:
    return (None, None) if value is None else unpack_dual(value)
