"""Split strategies: which share of every class becomes validation."""

from __future__ import annotations

from collections.abc import Callable

from molere_cli import SplitSpec, hookimpl


@hookimpl
def register_splits(register: Callable[[SplitSpec], None]) -> None:
    register(
        SplitSpec(
            name="easy",
            description="The easiest share of every class",
            choose="molere_splits.strategies:choose_easy",
            needs_score=True,
        )
    )
    register(
        SplitSpec(
            name="random",
            description="A random share of every class",
            choose="molere_splits.strategies:choose_random",
        )
    )
    register(
        SplitSpec(
            name="hard",
            description="The hardest share of every class",
            choose="molere_splits.strategies:choose_hard",
            needs_score=True,
        )
    )
    register(
        SplitSpec(
            name="moderate",
            description="The share of every class next to the hardest one",
            choose="molere_splits.strategies:choose_moderate",
            needs_score=True,
        )
    )
    register(
        SplitSpec(
            name="mixed",
            description="Half of the share is the hardest, half is random",
            choose="molere_splits.strategies:choose_mixed",
            needs_score=True,
        )
    )
    register(
        SplitSpec(
            name="errors",
            description="What ERM gets wrong early, at most the share of every class",
            choose="molere_splits.target_selection:choose_errors",
            needs_score=True,
            score="early-aum",
        )
    )
    register(
        SplitSpec(
            name="learnable",
            description="A random share of every class, of those whose label does not seem to be wrong",
            choose="molere_splits.target_selection:choose_learnable",
            needs_score=True,
            needs_training=True,
            score="early-aum",
        )
    )
    register(
        SplitSpec(
            name="auto",
            description="errors, learnable or random, whichever the pool has evidence for",
            choose="molere_splits.target_selection:choose_auto",
            needs_score=True,
            needs_training=True,
            score="early-aum",
        )
    )
    register(
        SplitSpec(
            name="clean",
            description="A random share of every class of the examples whose label is known to be right",
            choose="molere_splits.strategies:choose_clean",
        )
    )
    register(
        SplitSpec(
            name="ls",
            description="Learning to Split: a share of every class that a model of the rest does badly on",
            choose="molere_splits.learning:choose_by_learning",
            needs_training=True,
        )
    )
    register(
        SplitSpec(
            name="file",
            description="The examples whose index stands in a CSV file (file:FILE.csv)",
            choose="molere_splits.listed:choose_listed",
            needs_delta=False,
            argument="FILE.csv",
            argument_is_path=True,
        )
    )
    register(
        SplitSpec(
            name="natural",
            description="The training images of another dataset of the same classes (natural:DATASET)",
            choose="molere_splits.strategies:choose_none",
            needs_delta=False,
            argument="DATASET",
            argument_is_dataset=True,
        )
    )
