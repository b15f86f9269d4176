"""The strategies of the train-twice heuristic, and two that temper it. Shapes: N examples of the pool."""

from __future__ import annotations

import torch
from torch import Tensor

from molere_cli import SplitError, SplitRequest, TargetSet, select_by_quota


def choose_easy(request: SplitRequest) -> TargetSet:
    """The lowest hardness of every class; raises SplitError if delta is too small."""
    assert request.hardness is not None
    easiest_N = select_by_quota(request.labels, -request.hardness, delta=request.delta)
    return TargetSet(in_validation=easiest_N, keeps_base_weight=False)


def choose_random(request: SplitRequest) -> TargetSet:
    """A random draw from every class; SplitError if delta is too small."""
    priority_N = torch.rand(len(request.labels), generator=request.generator, dtype=torch.float64)
    chosen_N = select_by_quota(request.labels, priority_N, delta=request.delta)
    return TargetSet(in_validation=chosen_N)


def choose_hard(request: SplitRequest) -> TargetSet:
    """The highest hardness of every class; raises SplitError if delta is too small."""
    return TargetSet(in_validation=_hardest(request))


def _hardest(request: SplitRequest) -> Tensor:
    assert request.hardness is not None
    return select_by_quota(request.labels, request.hardness, delta=request.delta)


def choose_moderate(request: SplitRequest) -> TargetSet:
    """The next hardest after those that `hard` chooses; raises SplitError if delta is too small.

    The hardest of all are left out because label errors and ambiguous images gather there.
    """
    assert request.hardness is not None
    others_N = request.hardness.masked_fill(_hardest(request), -torch.inf)
    return TargetSet(in_validation=select_by_quota(request.labels, others_N, delta=request.delta))


def choose_mixed(request: SplitRequest) -> TargetSet:
    """Half hard, half drawn at random from the others; raises SplitError if delta is too small."""
    assert request.hardness is not None
    hardest_N = select_by_quota(request.labels, request.hardness, delta=request.delta / 2)
    priority_N = torch.rand(len(request.labels), generator=request.generator, dtype=torch.float64)
    priority_N = priority_N.masked_fill(hardest_N, torch.inf)
    return TargetSet(in_validation=select_by_quota(request.labels, priority_N, delta=request.delta))


def choose_clean(request: SplitRequest) -> TargetSet:
    """A random draw from every class among the examples whose label is right, for all of which it stands.

    It is the clean set that methods against label noise are published with, and needs to know what they
    do not.

    Raises:
        SplitError: nobody put label noise on the pool, or a class has too few right labels for its share.
    """
    if request.clean_labels is None:
        raise SplitError(
            "split strategy 'clean' needs to know which labels are wrong, as with --label-noise; "
            "for labels checked by hand use file:FILE.csv"
        )
    is_clean_N = request.labels == request.clean_labels
    chosen_N = select_by_quota(
        request.labels,
        torch.rand(len(is_clean_N), generator=request.generator, dtype=torch.float64) + is_clean_N,
        delta=request.delta,
    )
    if (chosen_N & ~is_clean_N).any():
        label = int(request.labels[chosen_N & ~is_clean_N][0])
        raise SplitError(
            f"class {label} has fewer right labels than its share of delta = {request.delta:g}; lower --delta"
        )
    return TargetSet(
        in_validation=chosen_N,
        represented_fraction=float(is_clean_N.double().mean()),
        keeps_base_weight=False,
    )


def choose_none(request: SplitRequest) -> Tensor:
    """Nothing of the pool, for a validation set from elsewhere: bool (N,)."""
    return torch.zeros(len(request.labels), dtype=torch.bool)
