"""torchvision's datasets and networks, any folder of images, and any list of them."""

from __future__ import annotations

from collections.abc import Callable

from molere_cli import BackboneFamily, BackboneSpec, DatasetSpec, hookimpl
from molere_torchvision.catalogue import DATASETS


@hookimpl
def register_datasets(register: Callable[[DatasetSpec], None]) -> None:
    for spec in DATASETS:
        register(spec)


@hookimpl
def register_backbones(register: Callable[[BackboneSpec | BackboneFamily], None]) -> None:
    register(
        BackboneFamily(
            prefix="torchvision",
            description="Any classification network of torchvision, from random weights",
            list_names="molere_torchvision.torchvision_networks:list_names",
            build="molere_torchvision.torchvision_networks:build",
            plain_names=False,
        )
    )
