"""Images as pretrained weights expect them: by timm's own transforms, pixel for pixel."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor

from molere_cli.data.augmentation import Augment
from molere_cli.registry.specs import PretrainedInput

Transform = Callable[[Tensor], Tensor]


def timm_transform(wanted: PretrainedInput, augment: Augment) -> Transform:
    """From uint8 (3, H, W) to uint8 of the wanted size, by Pillow's filters as timm uses them.

    Args:
        augment: none, as in testing; crop, a random crop of 8% to 100% of the image; crop-flip, and flipped
            half of the time.
    """
    from timm.data import create_transform
    from torchvision.transforms.v2 import functional as transforms

    size = (3, *wanted.image_size)
    if augment == "none":
        transform = create_transform(
            size,
            interpolation=wanted.interpolation,
            crop_pct=wanted.crop_share,
            crop_mode=wanted.crop_mode,
            mean=wanted.mean,
            normalize=False,
        )
    else:
        transform = create_transform(
            size,
            is_training=True,
            hflip=0.5 if augment == "crop-flip" else 0.0,
            color_jitter=cast(Any, None),
            interpolation=wanted.interpolation,
            normalize=False,
        )

    def applied(image: Tensor) -> Tensor:
        found: Tensor = transform(transforms.to_pil_image(image))
        return found

    return applied


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Chance in here follows the seed: torch's on the CPU, and Python's, which timm's transforms use."""
    state = random.getstate()
    with torch.random.fork_rng(devices=[]):
        # The CPU's alone: `torch.manual_seed` would seed a GPU too, which without worker processes is the
        # one that training draws its dropout from.
        torch.default_generator.manual_seed(seed)
        random.seed(seed)
        try:
            yield
        finally:
            random.setstate(state)
