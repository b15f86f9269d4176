"""Reweighters: from a training example to its log-weight.

Registers `instance`, `image`, `features` and `loss`; all give log-weight 0 at the start.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from molere_cli import ReweighterRequest, ReweighterSpec, hookimpl
from molere_reweighters.options import FeaturesOptions, ImageOptions, LossOptions

if TYPE_CHECKING:
    from torch import nn


@hookimpl
def register_reweighters(register: Callable[[ReweighterSpec], None]) -> None:
    register(
        ReweighterSpec(
            name="instance",
            description="One free log-weight per training example",
            build=_build_instance,
            lr=_instance_lr,
        )
    )
    register(
        ReweighterSpec(
            name="image",
            description="A small CNN on the image, joined with the label",
            build=_build_image,
            lr=1e-3,
            options=ImageOptions,
        )
    )
    register(
        ReweighterSpec(
            name="features",
            description="An MLP on the classifier's penultimate features, joined with the label",
            build=_build_features,
            lr=1e-3,
            options=FeaturesOptions,
            needs_features=True,
        )
    )
    register(
        ReweighterSpec(
            name="loss",
            description="An MLP on the example's loss (Meta-Weight-Net, arXiv 1902.07379)",
            build=_build_loss,
            lr=1e-3,
            # Without a bound, high loss and high weight feed each other until the training loss is nan
            # (docs/results.md, ablations).
            weight_bound=10,
            options=LossOptions,
        )
    )


def _instance_lr(num_batches: int) -> float:
    """0.05, or less if a pass over the pool takes more than the 16 batches that it was tuned at.

    The rarer an example is met, the further Adam moves its weight each time, by about the root of the
    updates between: the second moment averages over a thousand updates, most of them without the example.
    With less, weights of a large pool move as far at a visit as those of a small one, where at 0.05 they
    scatter (docs/results.md, "Why natural images lose").
    """
    per_visit = math.sqrt(16 / min(max(num_batches, 16), 1000))
    return float(f"{0.05 * per_visit:.3g}")


def _build_instance(request: ReweighterRequest) -> nn.Module:
    from molere_reweighters.instance import InstanceReweighter

    return InstanceReweighter(request.num_examples)


def _build_image(request: ReweighterRequest) -> nn.Module:
    from molere_reweighters.image import ImageReweighter

    options: ImageOptions = request.options
    return ImageReweighter(request.num_classes, width=options.width, label=options.label)


def _build_features(request: ReweighterRequest) -> nn.Module:
    from molere_reweighters.features import FeaturesReweighter

    options: FeaturesOptions = request.options
    assert request.feature_dim is not None
    return FeaturesReweighter(
        request.feature_dim, request.num_classes, hidden=options.hidden, label=options.label
    )


def _build_loss(request: ReweighterRequest) -> nn.Module:
    from molere_reweighters.loss import LossReweighter

    options: LossOptions = request.options
    return LossReweighter(request.num_classes, hidden=options.hidden, label=options.label)
