"""Augmentation of a whole batch on its device, each example with a draw of its own.

Shapes: B examples, H x W pixels. The generator lives on the CPU, so that a seed means the same crops on
every device.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

Augment = Literal["none", "crop", "crop-flip"]


def crop_padding(size: int) -> int:
    """Pixels of zero padding on each side before cropping: an eighth of the image, as CIFAR's 4 of 32."""
    return max(1, size // 8)


def augment_batch(images: Tensor, augment: Augment, *, generator: Generator) -> Tensor:
    """Random crop with zero padding and, under `crop-flip`, a horizontal flip with probability 1/2.

    Args:
        images: (B, C, H, W) of any dtype.

    Returns:
        A tensor of the same shape, dtype and device.
    """
    if augment == "none":
        return images
    num_images, _, height, width = images.shape
    pad_y, pad_x = crop_padding(height), crop_padding(width)
    top_B = torch.randint(0, 2 * pad_y + 1, (num_images,), generator=generator)
    left_B = torch.randint(0, 2 * pad_x + 1, (num_images,), generator=generator)
    rows_BH = top_B[:, None] + torch.arange(height)
    columns_BW = left_B[:, None] + torch.arange(width)
    if augment == "crop-flip":
        flipped_B = torch.rand(num_images, generator=generator) < 0.5
        columns_BW = torch.where(flipped_B[:, None], columns_BW.flip(1), columns_BW)
    padded = F.pad(images, (pad_x, pad_x, pad_y, pad_y))
    device = images.device
    batch_B11 = torch.arange(num_images, device=device)[:, None, None]
    rows_BH1, columns_B1W = rows_BH.to(device)[:, :, None], columns_BW.to(device)[:, None, :]
    # With the channels last, one index picks all channels of a pixel at once.
    return padded.permute(0, 2, 3, 1)[batch_B11, rows_BH1, columns_B1W].permute(0, 3, 1, 2)
