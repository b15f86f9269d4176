"""Membership by quota: the same share of every class goes to validation.

Shapes: N examples, C classes.
"""

from __future__ import annotations

from fractions import Fraction

import torch
from torch import Tensor

from molere_cli.foundation.errors import SplitError
from molere_cli.foundation.randomness import derived_generator

# Fine enough for any delta that is typed, and small enough that N times it fits into int64.
LARGEST_DENOMINATOR = 10**9


def exact_delta(delta: float) -> Fraction:
    """`delta` as the fraction that was meant (0.1 is 1/10), so that shares of it are exact."""
    return Fraction(delta).limit_denominator(LARGEST_DENOMINATOR)


def validation_size(num_examples: int, *, delta: float) -> int:
    """floor(delta * num_examples): the most examples that validation may have."""
    return int(exact_delta(delta) * num_examples)


def select_by_quota(labels_N: Tensor, priority_N: Tensor, *, delta: float) -> Tensor:
    """The examples of highest priority, the share `delta` of every class.

    Each class gives the floor of its share; the classes of largest remainder give one more until
    floor(delta * N) is reached, except that no class gives its last example. Ties go to the example that
    comes first, and to the lower label.

    Args:
        labels_N: int64, 0 or more.
        priority_N: any real dtype; no NaN.
        delta: between 0 and 1, exclusive.

    Returns:
        bool (N,) on the device of `labels_N`, True = validation.

    Raises:
        SplitError: delta is out of range or leaves validation empty, or a priority is NaN.
    """
    if not 0 < delta < 1:
        raise SplitError(f"delta must lie between 0 and 1, not {delta:g}")
    if num_nan := int(priority_N.isnan().sum()):
        raise SplitError(f"{num_nan} of {len(priority_N)} examples have no number to be ranked by, but NaN")
    quota_C = class_quotas(labels_N.bincount(), delta=delta)
    if not quota_C.any():
        raise SplitError(
            f"delta = {delta:g} of {len(labels_N)} examples leaves the validation set empty; "
            "raise delta, or give every class more than one example"
        )
    return rank_within_class(labels_N, priority_N.to(labels_N.device)) < quota_C[labels_N]


def class_quotas(counts_C: Tensor, *, delta: float) -> Tensor:
    """How many examples each class gives to validation, from how many it has; both int64 (C,)."""
    share = exact_delta(delta)
    exact_C = counts_C * share.numerator  # in units of 1 / denominator
    quota_C = torch.minimum(exact_C // share.denominator, (counts_C - 1).clamp_min(0))
    may_give_more_C = quota_C < counts_C - 1
    num_missing = validation_size(int(counts_C.sum()), delta=delta) - int(quota_C.sum())
    remainder_C = torch.where(may_give_more_C, exact_C % share.denominator, -1)
    first_C = remainder_C.argsort(descending=True, stable=True)[
        : min(num_missing, int(may_give_more_C.sum()))
    ]
    quota_C[first_C] += 1
    return quota_C


def rank_within_class(labels_N: Tensor, priority_N: Tensor) -> Tensor:
    """The place of each example in its class by falling priority, from 0; int64 (N,)."""
    by_priority_N = priority_N.argsort(descending=True, stable=True)
    order_N = by_priority_N[labels_N[by_priority_N].argsort(stable=True)]
    counts_C = labels_N.bincount()
    first_place_C = counts_C.cumsum(0) - counts_C
    rank_N = torch.empty_like(order_N)
    rank_N[order_N] = torch.arange(len(order_N), device=order_N.device) - first_place_C[labels_N[order_N]]
    return rank_N


def random_split(labels: Tensor, *, delta: float, seed: int) -> Tensor:
    """A class-stratified random validation set, bool (N,)."""
    priority = torch.rand(len(labels), generator=derived_generator(seed, "random split"))
    return select_by_quota(labels, priority, delta=delta)
