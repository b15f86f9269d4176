"""Batch norm on the statistics of a batch that several ranks share.

Torch's SyncBatchNorm has no CPU kernels and no forward derivative.

Within `shared_batch_norm` every module's batch norm in training mode takes them, whatever the module is.

Shapes: B examples on this rank, C channels; n numbers by channel on all ranks together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.autograd.forward_ad import make_dual
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from molere_cli.engine.forward_mode import batch_norm_sums, batch_norm_tangent, parts_of_dual
from molere_cli.foundation.ranks import Ranks


class shared_batch_norm(TorchFunctionMode):
    """Within the block, batch statistics are those of all ranks; all of them enter it in step."""

    def __init__(self, ranks: Ranks) -> None:
        super().__init__()
        self._ranks = ranks

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if func is F.batch_norm and self._ranks.are_several:
            return self._batch_norm(*args, **kwargs)
        return func(*args, **kwargs)

    def _batch_norm(
        self,
        input: Any,
        running_mean: Tensor | None,
        running_var: Tensor | None,
        weight: Any = None,
        bias: Any = None,
        training: bool = False,
        momentum: float = 0.1,
        eps: float = 1e-5,
    ) -> Any:
        if not training:
            return F.batch_norm(input, running_mean, running_var, weight, bias, False, momentum, eps)
        (x, dx), (gamma, dgamma), (beta, dbeta) = (parts_of_dual(value) for value in (input, weight, bias))
        mean_C, var_C, n_C = _statistics(x.detach(), self._ranks)
        if running_mean is not None and running_var is not None and momentum:
            with torch.no_grad():
                running_mean.lerp_(mean_C.to(running_mean), momentum)
                unbiased_C = var_C * (n_C / (n_C - 1).clamp_min(1))
                running_var.lerp_(unbiased_C.to(running_var), momentum)
        inverse_std_C = (var_C + eps).rsqrt()
        y: Tensor = _Shared.apply(x, gamma, beta, mean_C, var_C, n_C, eps, self._ranks)
        if dx is None and dgamma is None and dbeta is None:
            return y
        sums = None
        if dx is not None:
            dot_C, sum_C = batch_norm_sums(dx, x, gamma, mean_C, inverse_std_C, eps)
            self._ranks.sum_([dot_C, sum_C])
            sums = dot_C, sum_C
        tangent = batch_norm_tangent(x, dx, gamma, dgamma, dbeta, mean_C, inverse_std_C, sums, n_C)
        dual: Tensor = make_dual(y, tangent)
        return dual


def _statistics(x: Tensor, ranks: Ranks) -> tuple[Tensor, Tensor, Tensor]:
    """Mean and biased variance by channel over all ranks, and how many numbers they are of, (C,) each; by the
    formula of Chan et al. (1979), which subtracts no large numbers."""
    # Of the fused kernel, which is many times as fast as torch.var_mean over channels last.
    mean_C, var_C = torch.batch_norm_update_stats(x, None, None, 0.0)
    count_C = torch.full_like(mean_C, x.numel() // x.shape[1])
    count_RC, mean_RC, var_RC = ranks.gathered(
        torch.stack([count_C, mean_C, var_C])[None], ranks.size
    ).unbind(1)
    n_C = count_RC.sum(0)
    whole_mean_C = (count_RC * mean_RC).sum(0) / n_C
    squares_C = (count_RC * (var_RC + (mean_RC - whole_mean_C).square())).sum(0)
    return whole_mean_C, squares_C / n_C, n_C


class _Shared(torch.autograd.Function):
    """gamma x_hat + beta, and its derivatives with the statistics' dependence on all ranks' examples."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        gamma: Tensor | None,
        beta: Tensor | None,
        mean_C: Tensor,
        var_C: Tensor,
        n_C: Tensor,
        eps: float,
        ranks: Ranks,
    ) -> Tensor:
        ctx.save_for_backward(x, gamma, mean_C, (var_C + eps).rsqrt(), n_C)
        ctx.eps, ctx.ranks = eps, ranks
        # With these as running statistics.
        return torch.native_batch_norm(x, gamma, beta, mean_C, var_C, False, 0.0, eps)[0]

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, gamma, mean_C, inverse_std_C, n_C = ctx.saved_tensors
        dot_C, sum_C = batch_norm_sums(gradient, x, gamma, mean_C, inverse_std_C, ctx.eps)
        dgamma_C, dbeta_C = dot_C, sum_C
        if ctx.needs_input_grad[0]:
            dot_C, sum_C = dot_C.clone(), sum_C.clone()
            ctx.ranks.sum_([dot_C, sum_C])
            # The derivative of the normalisation is symmetric: a gradient goes back as a tangent goes forth.
            dx = batch_norm_tangent(
                x, gradient, gamma, None, None, mean_C, inverse_std_C, (dot_C, sum_C), n_C
            )
        else:
            dx = None
        return (
            dx,
            None if gamma is None else dgamma_C.to(gamma.dtype),
            dbeta_C.to(mean_C.dtype) if ctx.needs_input_grad[2] else None,
            *[None] * 5,
        )
