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
