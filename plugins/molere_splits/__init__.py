"""Split strategies: which share of every class becomes validation."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from molere_cli import SplitRequest, SplitSpec, hookimpl

if TYPE_CHECKING:
    from torch import Tensor


@hookimpl
def register_splits(register: Callable[[SplitSpec], None]) -> None:
    register(
        SplitSpec(
            name="easy",
            description="The easiest share of every class",
            choose=_choose_easy,
            needs_score=True,
        )
    )
    register(
        SplitSpec(
            name="random",
            description="A random share of every class",
            choose=_choose_random,
        )
    )
    register(
        SplitSpec(
            name="hard",
            description="The hardest share of every class",
            choose=_choose_hard,
            needs_score=True,
        )
    )
    register(
        SplitSpec(
            name="moderate",
            description="The share of every class next to the hardest one",
            choose=_choose_moderate,
            needs_score=True,
        )
    )
    register(
        SplitSpec(
            name="mixed",
            description="Half of the share is the hardest, half is random",
            choose=_choose_mixed,
            needs_score=True,
        )
    )
    register(
        SplitSpec(
            name="clean",
            description="A random share of every class of the examples whose label is known to be right",
            choose=_choose_clean,
        )
    )
    register(
        SplitSpec(
            name="ls",
            description="Learning to Split: a share of every class that a model of the rest does badly on",
            choose=_choose_by_learning,
            needs_training=True,
        )
    )
    register(
        SplitSpec(
            name="file",
            description="The examples whose index stands in a CSV file (file:FILE.csv)",
            choose=_choose_listed,
            needs_delta=False,
            argument="FILE.csv",
        )
    )
    register(
        SplitSpec(
            name="natural",
            description="The training images of another dataset of the same classes (natural:DATASET)",
            choose=_choose_none,
            needs_delta=False,
            argument="DATASET",
            argument_is_dataset=True,
        )
    )


def _choose_easy(request: SplitRequest) -> Tensor:
    from molere_splits.strategies import choose_easy

    return choose_easy(request)


def _choose_random(request: SplitRequest) -> Tensor:
    from molere_splits.strategies import choose_random

    return choose_random(request)


def _choose_hard(request: SplitRequest) -> Tensor:
    from molere_splits.strategies import choose_hard

    return choose_hard(request)


def _choose_moderate(request: SplitRequest) -> Tensor:
    from molere_splits.strategies import choose_moderate

    return choose_moderate(request)


def _choose_mixed(request: SplitRequest) -> Tensor:
    from molere_splits.strategies import choose_mixed

    return choose_mixed(request)


def _choose_clean(request: SplitRequest) -> Tensor:
    from molere_splits.strategies import choose_clean

    return choose_clean(request)


def _choose_listed(request: SplitRequest) -> Tensor:
    from molere_splits.listed import choose_listed

    return choose_listed(request)


def _choose_by_learning(request: SplitRequest) -> Tensor:
    from molere_splits.learning import choose_by_learning

    return choose_by_learning(request)


def _choose_none(request: SplitRequest) -> Tensor:
    from molere_splits.strategies import choose_none

    return choose_none(request)
