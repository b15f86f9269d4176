"""Small pictures of images, for people to look at."""

from __future__ import annotations

import io

from PIL import Image, features
from torch import Tensor

from molere_cli.foundation.errors import ConfigError

MAX_SIDE = 128
"""Pixels of the longer side at most."""
MAX_BYTES = 6000
LOSSLESS_SIDE = 32
QUALITIES = (80, 60, 40, 20, 5)


def thumbnail(image: Tensor) -> bytes:
    """An image, uint8 (3, H, W), as WebP within `MAX_SIDE` and `MAX_BYTES`; a tiny one without loss.

    Raises:
        ConfigError: this Pillow cannot write WebP.
    """
    if not features.check("webp"):
        raise ConfigError("thumbnails need a Pillow that writes WebP; train with --no-thumbnails")
    picture = Image.fromarray(image.permute(1, 2, 0).contiguous().numpy())
    picture.thumbnail((MAX_SIDE, MAX_SIDE), Image.Resampling.LANCZOS)
    # Method 0 is ten times as fast as Pillow's own choice, for as many bytes at this size.
    if (
        max(picture.size) <= LOSSLESS_SIDE
        and len(found := _encoded(picture, lossless=True, method=0)) <= MAX_BYTES
    ):
        return found
    while True:
        for quality in QUALITIES:
            if len(found := _encoded(picture, quality=quality)) <= MAX_BYTES:
                return found
        # What is still too large is noise, and shows as much at half the size.
        picture = picture.reduce(2)


def _encoded(picture: Image.Image, **options: int) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "WEBP", **options)
    return buffer.getvalue()
