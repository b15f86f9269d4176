"""Residual networks for 32-pixel images (He et al. 2015, arXiv 1512.03385, section 4.2)."""

from __future__ import annotations

from functools import partial
from typing import Any, cast

from torch import nn

from molere_cli import BackboneRequest
from molere_timm.quiet_timm import BasicBlock, ResNet

STEM_CHANNELS = 16


def cifar_resnet(depth: int = 20, num_classes: int = 10) -> nn.Module:
    """A ResNet of 16, 32 and 64 channels: float32 images (B, 3, H, W) to logits (B, num_classes).

    Where the shape changes, the shortcut is a 1x1 convolution with batch norm, not the paper's
    zero-padding: 2,752 parameters more.

    Raises:
        ValueError: `depth` is not 6 n + 2.
    """
    if depth < 8 or (depth - 2) % 6:
        raise ValueError(f"a CIFAR ResNet has 6 n + 2 layers (8, 14, 20, 26, 32, ...), not {depth}")
    network = ResNet(
        cast(Any, BasicBlock),
        layers=((depth - 2) // 6,) * 3,
        num_classes=num_classes,
        channels=(16, 32, 64),
        # Of timm's stems only the deep one lets the width be chosen; its convolutions are replaced below.
        stem_type="deep",
        stem_width=STEM_CHANNELS // 2,
    )
    network.add_module("conv1", nn.Conv2d(3, STEM_CHANNELS, 3, padding=1, bias=False))
    network.add_module("maxpool", nn.Identity())
    network.add_module("layer4", nn.Identity())  # timm's forward always calls four stages
    network.init_weights(zero_init_last=False)
    return network


def _build(depth: int, request: BackboneRequest) -> nn.Module:
    return cifar_resnet(depth, request.num_classes)


build_20, build_32 = partial(_build, 20), partial(_build, 32)
