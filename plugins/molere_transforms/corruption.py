"""Corrupted test images, made as they are asked for: part of the ImageNet-C family.

Kinds and severities after Hendrycks & Dietterich 2019 (arXiv 1903.12261) and their public code: the CIFAR-C
constants for images of up to 64 pixels, the ImageNet-C ones beyond. These are not the published files: noise
is drawn anew (the same for the same seed), and blur is torchvision's.

Shapes: B images.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from PIL import Image
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

SMALL = 64
SEVERITIES = (1, 2, 3, 4, 5)
# By kind: what severities 1 to 5 are for small images, and for large ones.
LEVELS: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "gaussian_noise": ((0.04, 0.06, 0.08, 0.09, 0.10), (0.08, 0.12, 0.18, 0.26, 0.38)),
    "gaussian_blur": ((0.4, 0.6, 0.7, 0.8, 1.0), (1.0, 2.0, 3.0, 4.0, 6.0)),
    "contrast": ((0.75, 0.5, 0.4, 0.3, 0.15), (0.4, 0.3, 0.2, 0.1, 0.05)),
    "brightness": ((0.05, 0.1, 0.15, 0.2, 0.3), (0.1, 0.2, 0.3, 0.4, 0.5)),
    "jpeg": ((80, 65, 58, 50, 40), (25, 18, 15, 10, 7)),
    "pixelate": ((0.95, 0.9, 0.85, 0.75, 0.65), (0.6, 0.5, 0.4, 0.3, 0.25)),
}
KINDS = tuple(LEVELS)


def corrupted_examples(examples: Examples, *, kind: str, severity: int, seed: int) -> Examples:
    """The same examples with corrupted images; in memory if they were, else corrupted as they are read.

    Raises:
        ConfigError: an unknown kind or severity.
    """
    if kind not in LEVELS:
        raise ConfigError(f"unknown corruption {kind!r}; there are: {', '.join(KINDS)}")
    if severity not in SEVERITIES:
        raise ConfigError(f"severity {severity} of {kind} is not one of 1 to 5")
    if isinstance(examples.images, Tensor):
        parts = [
            corrupt(part, kind=kind, severity=severity, generator=derived_generator(seed, kind, number))
            for number, part in enumerate(examples.images.split(1024))
        ]
        return replace(examples, images=torch.cat(parts))
    return replace(examples, images=CorruptedReader(examples.images, kind, severity, seed))


def apply(dataset: Dataset, request: TransformRequest) -> Dataset:
    """The transform `corrupted`: every test set, by the argument `KIND:SEVERITY`."""
    kind, _, severity = (request.argument or "").partition(":")
    if not severity.isdecimal():
        raise ConfigError(f"a corrupted test set is corrupted:KIND:SEVERITY, not {request.argument!r}")
    tests = {
        name: corrupted_examples(test, kind=kind, severity=int(severity), seed=request.seed)
        for name, test in dataset.tests.items()
    }
    return replace(dataset, tests=tests)


def corrupt(images: Tensor, *, kind: str, severity: int, generator: torch.Generator) -> Tensor:
    """Corrupted images, uint8 (B, 3, H, W) like the images."""
    small, large = LEVELS[kind]
    level = (small if max(images.shape[-2:]) <= SMALL else large)[severity - 1]
    if kind in _PILLOW:
        return torch.stack([_through_pillow(image, _PILLOW[kind], level) for image in images.cpu()])
    pixels = images.float() / 255
    changed = _noise(pixels, level, generator) if kind == "gaussian_noise" else _CHANGES[kind](pixels, level)
    return (changed.clamp(0, 1) * 255).round().to(torch.uint8)


def _noise(pixels: Tensor, level: float, generator: torch.Generator) -> Tensor:
    return pixels + level * torch.randn(pixels.shape, generator=generator)


def _blur(pixels: Tensor, level: float) -> Tensor:
    from torchvision.transforms.v2 import functional as transforms

    # Four standard deviations on either side, as scipy's filter has it, and no more than the image.
    radius = min(max(1, round(4 * level)), min(pixels.shape[-2:]) - 1)
    blurred: Tensor = transforms.gaussian_blur(pixels, [2 * radius + 1] * 2, [level, level])
    return blurred


def _contrast(pixels: Tensor, level: float) -> Tensor:
    mean = pixels.mean(dim=(-2, -1), keepdim=True)
    return (pixels - mean) * level + mean


def _brightness(pixels: Tensor, level: float) -> Tensor:
    """Raise the value of HSV; hue and saturation stay, so that the channels grow in proportion."""
    value = pixels.amax(dim=1, keepdim=True)
    raised = (value + level).clamp(max=1)
    return torch.where(value > 0, pixels * raised / value.clamp_min(1e-6), raised)


_CHANGES: dict[str, Callable[[Tensor, float], Tensor]] = {
    "gaussian_blur": _blur,
    "contrast": _contrast,
    "brightness": _brightness,
}


def _jpeg(image: Image.Image, level: float) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=int(level))
    return Image.open(file)


def _pixelate(image: Image.Image, level: float) -> Image.Image:
    smaller = max(1, int(level * image.width)), max(1, int(level * image.height))
    return image.resize(smaller, Image.Resampling.BOX).resize(image.size, Image.Resampling.BOX)


_PILLOW: dict[str, Callable[[Image.Image, float], Image.Image]] = {"jpeg": _jpeg, "pixelate": _pixelate}


def _through_pillow(
    image: Tensor, change: Callable[[Image.Image, float], Image.Image], level: float
) -> Tensor:
    changed = change(Image.fromarray(image.permute(1, 2, 0).contiguous().numpy()), level)
    return torch.from_numpy(np.array(changed.convert("RGB"))).permute(2, 0, 1)


class CorruptedReader(WrappedReader):
    """A reader whose images are corrupted, each with a generator of its own."""

    def __init__(self, reader: ImageReader, kind: str, severity: int, seed: int) -> None:
        super().__init__(reader)
        self.kind, self.severity, self.seed = kind, severity, seed

    def read(self, position: int) -> Tensor:
        """uint8 (3, H, W)."""
        generator = derived_generator(self.seed, self.kind, position)
        image = self.reader.read(position)[None]
        return corrupt(image, kind=self.kind, severity=self.severity, generator=generator)[0]
