"""Backbones: every timm network, and the small ones that papers on 32-pixel images use.

Registers the family `timm` and the single names `small_cnn`, `wrn28_10`, `wrn16_4`, `wrn16_2`,
`resnet20` and `resnet32`. timm itself is imported when a backbone is listed or built.
"""

from __future__ import annotations

from collections.abc import Callable

from molere_cli import BackboneFamily, BackboneSpec, hookimpl


@hookimpl
def register_backbones(register: Callable[[BackboneSpec | BackboneFamily], None]) -> None:
    register(
        BackboneFamily(
            prefix="timm",
            description="Any timm network; options go to timm.create_model (pretrained=true, drop_rate=0.1)",
            list_names="molere_timm.timm_networks:list_names",
            build="molere_timm.timm_networks:build",
            has_also="molere_timm.timm_networks:has_weights",
            options="molere_timm.timm_networks:TimmOptions",
            pretrained_input="molere_timm.timm_networks:pretrained_input",
        )
    )
    register(
        BackboneSpec(
            name="small_cnn",
            description="Three 3x3 convolutions without norms: 0.1 M parameters, for 8 to 32 pixels",
            build="molere_timm.small_cnn:build",
        )
    )
    for size in ("28_10", "16_4", "16_2"):
        register(
            BackboneSpec(
                name=f"wrn{size}",
                description=f"Wide ResNet {size.replace('_', '-')} for 32 pixels (arXiv 1605.07146)",
                build=f"molere_timm.wide_resnet:build_{size}",
                options="molere_timm.wide_resnet:WideResNetOptions",
            )
        )
    for depth in (20, 32):
        register(
            BackboneSpec(
                name=f"resnet{depth}",
                description=f"ResNet-{depth} for 32 pixels (arXiv 1512.03385, section 4.2)",
                build=f"molere_timm.cifar_resnet:build_{depth}",
            )
        )
