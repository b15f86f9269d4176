"""A shortcut on any dataset: a patch whose colour tells the label in most of the pool, and not in tests.

Shapes: N examples, C classes, as many colours.
"""

from __future__ import annotations

import colorsys
from collections.abc import Iterator, Mapping
from dataclasses import replace

import torch
from torch import Tensor

from molere_cli import (
    ConfigError,
    Dataset,
    Examples,
    ImageReader,
    TransformRequest,
    WrappedReader,
    derived_generator,
)

GROUP_NAMES = ("colour disagrees", "colour agrees")
# The patch is a square of this part of an image's shorter side, in a corner: more than a crop takes away.
PART = 4


def with_colour_patch(dataset: Dataset, *, rho: float, seed: int, name: str) -> Dataset:
    """The dataset with a patch in the upper left corner of every image.

    Each class owns a hue. In the pool `rho` of every class (rounded to whole examples) has its own, the
    rest one of the others; in tuning and test sets hues are drawn independently of the label, and are the
    same for every rho. Groups: 1 where colour and label agree, else 0.

    Raises:
        ConfigError: there is one class alone, or the dataset has groups already.
    """
    num_classes = len(dataset.class_names)
    if num_classes < 2:
        raise ConfigError(f"--colour-patch needs two classes or more; there is {num_classes}")
    if dataset.group_names or dataset.pool.groups is not None:
        raise ConfigError(f"--colour-patch would replace the groups of dataset {name!r}; leave it out")
    owned_C = torch.randperm(num_classes, generator=derived_generator(seed, "colour-patch", "owners"))

    def patched(examples: Examples, colours_N: Tensor) -> Examples:
        return replace(
            examples,
            images=_with_patches(examples.images, colours_N, num_classes),
            groups=(colours_N == owned_C[examples.labels]).long(),
        )

    def independent(part: str, examples: Examples) -> Examples:
        generator = derived_generator(seed, "colour-patch", part)
        return patched(examples, torch.randint(num_classes, (len(examples),), generator=generator))

    biased_N = biased_colours(
        dataset.pool.labels, owned_C, rho=rho, generator=derived_generator(seed, "colour-patch", "pool")
    )
    tests: Mapping[str, Examples] = {part: independent(part, test) for part, test in dataset.tests.items()}
    return replace(
        dataset,
        pool=patched(dataset.pool, biased_N),
        tuning=None if dataset.tuning is None else independent("tuning", dataset.tuning),
        tests=tests,
        group_names=GROUP_NAMES,
    )


def apply(dataset: Dataset, request: TransformRequest) -> Dataset:
    """The transform `colour-patch`; its value is rho."""
    return with_colour_patch(dataset, rho=request.value, seed=request.seed, name=request.dataset)


def biased_colours(labels_N: Tensor, owned_C: Tensor, *, rho: float, generator: torch.Generator) -> Tensor:
    """The number of each example's colour, int64 (N,): its class's own for `rho` of every class."""
    colours_N = owned_C[labels_N].clone()
    for label in range(len(owned_C)):
        members = (labels_N == label).nonzero().squeeze(1)
        members = members[torch.randperm(len(members), generator=generator)]
        odd_ones = members[round(rho * len(members)) :]
        shifts = torch.randint(1, len(owned_C), (len(odd_ones),), generator=generator)
        colours_N[odd_ones] = (colours_N[odd_ones] + shifts) % len(owned_C)
    return colours_N


def _with_patches(images: Tensor | ImageReader, colours_N: Tensor, num_colours: int) -> Tensor | ImageReader:
    hues = [colorsys.hsv_to_rgb(number / num_colours, 1, 1) for number in range(num_colours)]
    pixels_N3 = (255 * torch.tensor(hues)).round().to(torch.uint8)[colours_N]
    if not isinstance(images, Tensor):
        return PatchedReader(images, pixels_N3)
    images = images.clone()
    side = max(1, min(images.shape[-2:]) // PART)
    images[:, :, :side, :side] = pixels_N3[:, :, None, None]
    return images


class PatchedReader(WrappedReader):
    """A reader's images, each with a patch."""

    def __init__(self, reader: ImageReader, pixels_N3: Tensor) -> None:
        super().__init__(reader)
        self.pixels_N3 = pixels_N3

    def read(self, position: int) -> Tensor:
        """uint8 (3, H, W)."""
        image = self.reader.read(position).clone()
        side = max(1, min(image.shape[-2:]) // PART)
        image[:, :side, :side] = self.pixels_N3[position, :, None, None]
        return image

    def identities(self) -> Iterator[bytes]:
        """The images' own, each followed by its colour."""
        for identity, pixels in zip(self.reader.identities(), self.pixels_N3, strict=True):
            yield identity + bytes(pixels.tolist())
