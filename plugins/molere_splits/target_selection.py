"""Strategies that choose what to ask: the early errors, the learnable, or what the pool has evidence for.

Shapes: N examples of the pool.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from molere_cli import SplitError, SplitRequest, TargetSet, select_by_quota
from molere_splits.evidence import Evidence, gather_evidence
from molere_splits.strategies import choose_random


def choose_errors(request: SplitRequest) -> TargetSet:
    """Those that ERM gets wrong before it has had time to memorise, the hardest first, at most delta of every
    class; the rest of the pool counts beside them.

    Raises:
        SplitError: there is none, or delta is too small.
    """
    errors_N = early_errors(request)
    if not errors_N.any():
        raise SplitError(
            "ERM gets nothing wrong early, so there are no errors to do better on; use --split hard"
        )
    return TargetSet(in_validation=errors_N, represented_fraction=_fraction(errors_N))


def choose_learnable(request: SplitRequest) -> TargetSet:
    """A random delta of every class, of those left when as many of the hardest as labels seem to be wrong
    (`wrong_label_share`) are skipped; the rest of the pool need not count.

    Raises:
        SplitError: delta is too small.
    """
    return _learnable(request, gather_evidence(request, early_errors(request)))


def choose_auto(request: SplitRequest) -> TargetSet:
    """What `gather_evidence` speaks for: `learnable` where labels are wrong, `errors` where all else is
    solved and they could be learned, and otherwise a random share, which asks for no weights but 1.

    Raises:
        SplitError: delta is too small.
    """
    errors_N = early_errors(request)
    evidence = gather_evidence(request, errors_N)
    if evidence.labels_are_wrong:
        return _learnable(request, evidence)
    held_out = (
        f"held out, {_percent(evidence.others_right)} of the pool are right but for {evidence.num_errors} "
        "early errors"
    )
    if evidence.errors_are_rare:
        finding = f"{held_out}, whose labels are rare rather than wrong: validation is these errors"
        return TargetSet(in_validation=errors_N, represented_fraction=_fraction(errors_N), finding=finding)
    finding = (
        f"{held_out}, and labels do not seem to be wrong: nothing speaks against ERM, so that validation is "
        "a random share, and weights that are limited to what it represents stay 1"
    )
    # The whole pool is what it represents: beside that no example needs more weight, and none is learned.
    return replace(choose_random(request), represented_fraction=1.0, finding=finding)


def early_errors(request: SplitRequest) -> Tensor:
    """Where early-aum is below 0, at most the hardest delta of every class, bool (N,)."""
    assert request.hardness is not None
    return select_by_quota(request.labels, request.hardness, delta=request.delta) & (request.hardness > 0)


def _learnable(request: SplitRequest, evidence: Evidence) -> TargetSet:
    assert request.hardness_by is not None
    labels_N, wrong = request.labels, min(evidence.wrong_labels, 1 - request.delta)
    learnable_N = torch.ones_like(labels_N, dtype=torch.bool)
    if wrong > 0:
        # Not by what is wrong early: the longer a network trains, the better it tells a wrong label from a
        # hard image, until it has memorised both.
        learnable_N = ~select_by_quota(labels_N, request.hardness_by("aum"), delta=wrong)
    priority_N = torch.rand(len(labels_N), generator=request.generator, dtype=torch.float64)
    chosen_N = select_by_quota(labels_N, priority_N + learnable_N, delta=request.delta)
    finding = (
        f"about {_percent(wrong)} of the labels seem to be wrong, which held out are no likelier than other "
        f"classes; validation is drawn from the {_percent(_fraction(learnable_N))} of every class that are "
        "easiest"
    )
    if wrong < 0.005:
        finding = (
            "hardly a label seems to be wrong, and the early errors are not of a kind that could be learned: "
            "validation is drawn from nearly the whole pool, and weights that are limited to what it stands "
            "for stay near 1"
        )
    return TargetSet(
        in_validation=chosen_N,
        represented_fraction=_fraction(learnable_N),
        keeps_base_weight=False,
        score="aum",
        finding=finding,
    )


def _fraction(mask_N: Tensor) -> float:
    return float(mask_N.double().mean())


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.0f}%"
