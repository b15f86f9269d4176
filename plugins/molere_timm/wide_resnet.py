"""Wide residual networks for 32-pixel images (Zagoruyko and Komodakis 2016, arXiv 1605.07146)."""

from __future__ import annotations

from collections import OrderedDict
from functools import partial

from pydantic import Field
from torch import nn

from molere_cli import BackboneRequest, Options
from molere_timm.quiet_timm import BatchNormAct2d, ClassifierHead, PreActBasic, ResNetV2, create_conv2d

STEM_CHANNELS = 16


class WideResNetOptions(Options):
    """Options of the wide ResNets."""

    dropout: float = Field(0.0, ge=0, lt=1, description="Dropout between a block's two convolutions.")


def wide_resnet(depth: int = 16, width: int = 2, num_classes: int = 10, dropout: float = 0.0) -> nn.Module:
    """A WRN-`depth`-`width`: float32 images (B, 3, H, W) to logits (B, num_classes).

    A checkpoint of `wrn28_10` loads into `wide_resnet(28, 10, num_classes=...)`; `dropout`, between the
    two convolutions of every block, changes no parameter name.

    Raises:
        ValueError: `depth` is not 6 n + 4.
    """
    if depth < 10 or (depth - 4) % 6:
        raise ValueError(f"a wide ResNet has 6 n + 4 layers (10, 16, 22, 28, ...), not {depth}")
    network = ResNetV2(
        layers=[(depth - 4) // 6] * 3,
        channels=(16 * width, 32 * width, 64 * width),
        num_classes=num_classes,
        stem_chs=STEM_CHANNELS,
        basic=True,
        bottle_ratio=1,
        norm_layer=BatchNormAct2d,
        conv_layer=create_conv2d,
    )
    # timm's stem is made for 224 pixels, and its head is a convolution.
    conv = nn.Conv2d(3, STEM_CHANNELS, 3, padding=1, bias=False)
    network.stem = nn.Sequential(OrderedDict[str, nn.Module](conv=conv))
    network.head = ClassifierHead(network.num_features, num_classes)
    network.init_weights(zero_init_last=False)
    if dropout > 0:
        for block in network.modules():
            if isinstance(block, PreActBasic):
                # It sits before the ReLU, with which a mask of non-negative factors commutes.
                block.norm2.drop = nn.Dropout(dropout)
    return network


def _build(depth: int, width: int, request: BackboneRequest) -> nn.Module:
    options: WideResNetOptions = request.options
    return wide_resnet(depth, width, request.num_classes, options.dropout)


build_28_10, build_16_4, build_16_2 = partial(_build, 28, 10), partial(_build, 16, 4), partial(_build, 16, 2)
