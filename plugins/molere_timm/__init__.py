"""Backbones: every timm network, and the small ones that papers on 32-pixel images use.

Registers the family `timm` and the single names `small_cnn`, `wrn28_10`, `wrn16_4`, `wrn16_2`,
`resnet20` and `resnet32`. timm itself is imported when a backbone is listed or built.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from pydantic import Field

from molere_cli import BackboneFamily, BackboneRequest, BackboneSpec, Options, hookimpl
from molere_timm.options import TimmOptions

if TYPE_CHECKING:
    from torch import nn


class WideResNetOptions(Options):
    """Options of the wide ResNets."""

    dropout: float = Field(0.0, ge=0, lt=1, description="Dropout between a block's two convolutions.")


@hookimpl
def register_backbones(register: Callable[[BackboneSpec | BackboneFamily], None]) -> None:
    register(
        BackboneFamily(
            prefix="timm",
            description="Any timm network; options go to timm.create_model (pretrained=true, drop_rate=0.1)",
            list_names=_list_timm,
            build=_build_timm,
            options=TimmOptions,
        )
    )
    register(
        BackboneSpec(
            name="small_cnn",
            description="Three 3x3 convolutions without norms: 0.1 M parameters, for 8 to 32 pixels",
            build=_build_small_cnn,
        )
    )
    for depth, width in ((28, 10), (16, 4), (16, 2)):
        register(_wide_resnet_spec(depth, width))
    for depth in (20, 32):
        register(_cifar_resnet_spec(depth))


def _list_timm() -> Sequence[str]:
    from molere_timm.family import list_names

    return list_names()


def _build_timm(name: str, request: BackboneRequest) -> nn.Module:
    from molere_timm.family import build

    return build(name, request)


def _build_small_cnn(request: BackboneRequest) -> nn.Module:
    from molere_timm.small_cnn import SmallCNN

    return SmallCNN(num_classes=request.num_classes)


def _wide_resnet_spec(depth: int, width: int) -> BackboneSpec:
    def build(request: BackboneRequest) -> Any:
        from molere_timm.wide_resnet import wide_resnet

        return wide_resnet(depth, width, num_classes=request.num_classes, dropout=request.options.dropout)

    return BackboneSpec(
        name=f"wrn{depth}_{width}",
        description=f"Wide ResNet {depth}-{width} for 32 pixels (arXiv 1605.07146)",
        build=build,
        options=WideResNetOptions,
    )


def _cifar_resnet_spec(depth: int) -> BackboneSpec:
    def build(request: BackboneRequest) -> Any:
        from molere_timm.cifar_resnet import cifar_resnet

        return cifar_resnet(depth, num_classes=request.num_classes)

    return BackboneSpec(
        name=f"resnet{depth}",
        description=f"ResNet-{depth} for 32 pixels (arXiv 1512.03385, section 4.2)",
        build=build,
    )
