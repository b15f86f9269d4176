"""A dataset and networks so small that a run takes a second."""

from __future__ import annotations

import torch
from torch import nn

from molere_cli.registry.registry import Registry, load_plugins
from molere_cli.registry.specs import BackboneRequest, BackboneSpec, Dataset, DatasetSpec, Examples
from molere_cli.testing.contract import offer

NUM_CLASSES, IMAGE_SIZE = 4, 8


def tiny_dataset(_request: object = None) -> Dataset:
    """A pool of 64 images of 8 x 8 pixels in four classes told apart by brightness, in two groups; every
    tenth label is wrong."""
    return Dataset(
        pool=_examples(64, seed=0),
        tests={"test": _examples(32, seed=1)},
        class_names=("black", "dark", "grey", "bright"),
        group_names=("left", "right"),
        augment="crop-flip",
    )


def _examples(number: int, *, seed: int) -> Examples:
    generator = torch.Generator().manual_seed(seed)
    clean_N = torch.arange(number) % NUM_CLASSES
    noise = torch.randint(-40, 40, (number, 3, IMAGE_SIZE, IMAGE_SIZE), generator=generator)
    images = (clean_N[:, None, None, None] * 50 + 25 + noise).clamp(0, 255).to(torch.uint8)
    is_wrong_N = torch.arange(number) % 10 == 0
    labels_N = torch.where(is_wrong_N, (clean_N + 1) % NUM_CLASSES, clean_N)
    groups_N = (torch.rand(number, generator=generator) < 0.5).long()
    return Examples(images=images, labels=labels_N, groups=groups_N, clean_labels=clean_N)


def _net(request: BackboneRequest) -> nn.Module:
    # Batch norm and dropout: what a forward pass too many, or one with other masks, would show in.
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Dropout(0.2),
        nn.Linear(32, request.num_classes),
    )


def _plain_net(request: BackboneRequest) -> nn.Module:
    # Nothing that depends on how a batch is cut into chunks.
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.GroupNorm(2, 8),
        nn.Softplus(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(32, request.num_classes),
    )


TINY_DATASET = DatasetSpec(name="contract_tiny", description="64 synthetic images.", load=tiny_dataset)
TINY_NET = BackboneSpec(name="contract_net", description="With batch norm and dropout.", build=_net)
PLAIN_NET = BackboneSpec(name="contract_plain_net", description="With neither.", build=_plain_net)


def tiny_registry() -> Registry:
    """All installed plugins, with these data and networks."""
    registry = load_plugins()
    offer(registry, "register_datasets", TINY_DATASET, plugin="contract_data")
    offer(registry, "register_backbones", TINY_NET, plugin="contract_net")
    offer(registry, "register_backbones", PLAIN_NET, plugin="contract_plain_net")
    return registry
