"""Classification layers that are solved to convergence, on the features of a frozen backbone.

Registers `logreg`, plain training there, and `logreg-robust`, `logreg-rare` and `logreg-balanced`, for wrong
labels, for rare examples, and for classes that count alike.
"""

from __future__ import annotations

from collections.abc import Callable

from molere_cli import MethodSpec, hookimpl


@hookimpl
def register_methods(register: Callable[[MethodSpec], None]) -> None:
    register(
        MethodSpec(
            name="logreg",
            description="Logistic regression on frozen features, L2 by out-of-fold loss",
            build="molere_heads.plain:PlainHead",
            label="LogReg",
            split="optional",
            options="molere_heads.solved_head:HeadOptions",
        )
    )
    register(
        MethodSpec(
            name="logreg-robust",
            description="The same, averaged with discriminants and a head without suspects: for wrong labels",
            build="molere_heads.robust:RobustHead",
            label="LogReg-Robust",
            split="optional",
            options="molere_heads.solved_head:HeadOptions",
        )
    )
    register(
        MethodSpec(
            name="logreg-rare",
            description="The same, with most weight on out-of-fold mistakes: for rare groups and shortcuts",
            build="molere_heads.rare:RareHead",
            label="LogReg-Rare",
            split="optional",
            options="molere_heads.rare:RareOptions",
        )
    )
    register(
        MethodSpec(
            name="logreg-balanced",
            description="The same, with its logits less the log of class frequencies (arXiv 2007.07314)",
            build="molere_heads.balanced:BalancedHead",
            label="LogReg-Balanced",
            split="optional",
            options="molere_heads.solved_head:HeadOptions",
        )
    )
    register(
        MethodSpec(
            name="dfr",
            description="Deep feature reweighting: knows the groups and balances them (arXiv 2204.02937)",
            build="molere_heads.dfr:BalancedGroupsHead",
            label="DFR",
            split="optional",
            options="molere_heads.solved_head:HeadOptions",
        )
    )
