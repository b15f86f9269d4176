"""The strategies of the train-twice heuristic, and two that temper it. Shapes: N examples of the pool."""

from __future__ import annotations

import torch
from torch import Tensor

from molere_cli import SplitRequest, select_by_quota


def choose_easy(request: SplitRequest) -> Tensor:
    """The lowest hardness of every class: bool (N,); raises SplitError if delta is too small."""
    assert request.hardness is not None
    return select_by_quota(request.labels, -request.hardness, delta=request.delta)


def choose_random(request: SplitRequest) -> Tensor:
    """A random draw from every class: bool (N,); raises SplitError if delta is too small."""
    priority_N = torch.rand(len(request.labels), generator=request.generator, dtype=torch.float64)
    return select_by_quota(request.labels, priority_N, delta=request.delta)


def choose_hard(request: SplitRequest) -> Tensor:
    """The highest hardness of every class: bool (N,); raises SplitError if delta is too small."""
    assert request.hardness is not None
    return select_by_quota(request.labels, request.hardness, delta=request.delta)


def choose_moderate(request: SplitRequest) -> Tensor:
    """The next hardest after those that `hard` chooses: bool (N,); raises SplitError if delta is too small.

    The hardest of all are left out because label errors and ambiguous images gather there.
    """
    assert request.hardness is not None
    hardest_N = choose_hard(request)
    return select_by_quota(
        request.labels, request.hardness.masked_fill(hardest_N, -torch.inf), delta=request.delta
    )


def choose_mixed(request: SplitRequest) -> Tensor:
    """Half hard, half drawn at random from the others: bool (N,); raises SplitError if delta is too small."""
    assert request.hardness is not None
    hardest_N = select_by_quota(request.labels, request.hardness, delta=request.delta / 2)
    priority_N = torch.rand(len(request.labels), generator=request.generator, dtype=torch.float64)
    return select_by_quota(request.labels, priority_N.masked_fill(hardest_N, torch.inf), delta=request.delta)


def choose_none(request: SplitRequest) -> Tensor:
    """Nothing of the pool, for a validation set from elsewhere: bool (N,)."""
    return torch.zeros(len(request.labels), dtype=torch.bool)
