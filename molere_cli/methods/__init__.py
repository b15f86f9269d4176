"""The methods that live in the core, registered like anybody's."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from molere_cli.registry.hookspecs import hookimpl
from molere_cli.registry.specs import MethodSpec

if TYPE_CHECKING:
    from molere_cli.engine.method import Method, TrainingContext


def _build_erm(context: TrainingContext) -> Method:
    from molere_cli.methods.erm import ERM

    return ERM(context)


def _build_lrw(context: TrainingContext) -> Method:
    from molere_cli.methods.lrw import LRW

    return LRW(context)


def _build_molere(context: TrainingContext) -> Method:
    from molere_cli.methods.molere import MOLERE

    return MOLERE(context)


@hookimpl
def register_methods(register: Callable[[MethodSpec], None]) -> None:
    register(
        MethodSpec(
            name="erm",
            description="Empirical risk minimisation: every example counts the same.",
            build=_build_erm,
            label="ERM",
            split="optional",
        )
    )
    register(
        MethodSpec(
            name="lrw",
            description="Learned reweighting of the training examples against a fixed split.",
            build=_build_lrw,
            label="LRW-{split}",
            split="required",
            takes_other_validation=True,
            uses=frozenset({"reweighter"}),
        )
    )
    register(
        MethodSpec(
            name="molere",
            description="Learned reweighting against a split that a splitter learns with it.",
            build=_build_molere,
            label="MOLERE (LRW-Opt)",
            uses=frozenset({"reweighter", "splitter"}),
        )
    )
