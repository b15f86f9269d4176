"""What lives in the core, registered like anybody's: three methods, and data from memory."""

from __future__ import annotations

from collections.abc import Callable

from molere_cli.registry.hookspecs import hookimpl
from molere_cli.registry.specs import DatasetSpec, MethodSpec


@hookimpl
def register_datasets(register: Callable[[DatasetSpec], None]) -> None:
    register(
        DatasetSpec(
            name="arrays",
            description="What a Python process has given to `molere_cli.dataset`.",
            load="molere_cli.data.in_memory:load_held",
            argument="NAME",
        )
    )


@hookimpl
def register_methods(register: Callable[[MethodSpec], None]) -> None:
    register(
        MethodSpec(
            name="erm",
            description="Empirical risk minimisation: every example counts the same.",
            build="molere_cli.methods.erm:ERM",
            label="ERM",
            split="optional",
        )
    )
    register(
        MethodSpec(
            name="lrw",
            description="Learned reweighting of the training examples against a fixed split.",
            build="molere_cli.methods.lrw:LRW",
            label="LRW-{split}",
            split="required",
            takes_other_validation=True,
            uses=frozenset({"reweighter"}),
            hint=", or --weight-bound 10",
        )
    )
    register(
        MethodSpec(
            name="molere",
            description="Learned reweighting against a split that a splitter learns with it.",
            build="molere_cli.methods.molere:MOLERE",
            label="MOLERE (LRW-Opt)",
            split="start",
            uses=frozenset({"reweighter", "splitter"}),
            hint=", or --weight-bound 10",
        )
    )
