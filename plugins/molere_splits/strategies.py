"""The three strategies of the train-twice heuristic. Shapes: N examples of the pool."""

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
