"""Reweighters: from a training example to its log-weight.

Registers `instance`, `hardness`, `image`, `features` and `loss`; all give log-weight 0 at the start.
"""

from __future__ import annotations

from collections.abc import Callable

from molere_cli import ReweighterSpec, hookimpl


@hookimpl
def register_reweighters(register: Callable[[ReweighterSpec], None]) -> None:
    register(
        ReweighterSpec(
            name="instance",
            description="One free log-weight per training example",
            build="molere_reweighters.instance:InstanceReweighter",
            lr="molere_reweighters.instance:learning_rate",
            needs_losses=False,
        )
    )
    register(
        ReweighterSpec(
            name="hardness",
            description="A curve of the example's hardness: six numbers for all examples, or for each class",
            build="molere_reweighters.hardness:HardnessReweighter",
            lr=0.2,
            options="molere_reweighters.hardness:HardnessOptions",
            needs_hardness=True,
            needs_losses=False,
            limits_weights=True,
            # Which examples are hard is known from before training.
            needs_warmup=False,
        )
    )
    register(
        ReweighterSpec(
            name="image",
            description="A small CNN on the image, joined with the label",
            build="molere_reweighters.image:ImageReweighter",
            lr=1e-3,
            options="molere_reweighters.image:ImageOptions",
            needs_images=True,
            needs_losses=False,
        )
    )
    register(
        ReweighterSpec(
            name="features",
            description="An MLP on the classifier's penultimate features, joined with the label",
            build="molere_reweighters.features:FeaturesReweighter",
            lr=1e-3,
            options="molere_reweighters.features:FeaturesOptions",
            needs_features=True,
            needs_losses=False,
        )
    )
    register(
        ReweighterSpec(
            name="loss",
            description="An MLP on the example's loss (Meta-Weight-Net, arXiv 1902.07379)",
            build="molere_reweighters.loss:LossReweighter",
            lr=1e-3,
            # Without a bound, high loss and high weight feed each other until the training loss is nan
            # (docs/dev/results-history.md, ablations).
            weight_bound=10,
            options="molere_reweighters.loss:LossOptions",
        )
    )
