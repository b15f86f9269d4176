"""Learned reweighting in two passes: the second starts from the mean weights of the first.

Registers the methods `lrw-twice` and `molere-twice`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from molere_cli import MethodSpec, hookimpl

if TYPE_CHECKING:
    from molere_cli import Method, TrainingContext


@hookimpl
def register_methods(register: Callable[[MethodSpec], None]) -> None:
    register(
        MethodSpec(
            name="lrw-twice",
            description="LRW, then LRW again from the start, from each example's mean weight.",
            build=_build_lrw_twice,
            label="LRW-{split} twice",
            split="required",
            takes_other_validation=True,
            uses=frozenset({"reweighter"}),
        )
    )
    register(
        MethodSpec(
            name="molere-twice",
            description="MOLERE, then MOLERE again from the start, from each example's mean weight.",
            build=_build_molere_twice,
            label="MOLERE twice",
            uses=frozenset({"reweighter", "splitter"}),
        )
    )


def _build_lrw_twice(context: TrainingContext) -> Method:
    from molere_cli import LRW
    from molere_twice.twice import Twice

    return Twice(context, method=LRW)


def _build_molere_twice(context: TrainingContext) -> Method:
    from molere_cli import MOLERE
    from molere_twice.twice import Twice

    return Twice(context, method=MOLERE)
