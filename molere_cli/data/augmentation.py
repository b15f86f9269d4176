"""Augmentation of a whole batch on its device, each example with a draw of its own.

Shapes: N images in store, B of a batch, C channels, H x W pixels, p pixels of padding. The generator lives
on the CPU, so that a seed means the same crops on every device.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

Augment = Literal["none", "crop", "crop-flip"]
CropMode = Literal["squash", "center"]


def crop_padding(size: int) -> int:
    """Pixels of zero padding on each side before cropping: an eighth of the image, as CIFAR's 4 of 32."""
    return max(1, size // 8)


def sent(values: Tensor, device: torch.device) -> Tensor:
    """A tensor of the CPU on a device, without the host waiting for the device to get there."""
    if device.type == "cpu":
        return values
    # Only from page-locked memory does a copy go on by itself.
    return values.pin_memory().to(device, non_blocking=True)


class ImageStore:
    """Images in memory, channels last, with their padding around them, so that a crop is a plain copy."""

    def __init__(self, images: Tensor, augment: Augment) -> None:
        """images: (N, C, H, W) of any dtype; the store keeps a copy on their device."""
        _, self.channels, self.height, self.width = images.shape
        self.augment = augment
        cropped = augment != "none"
        self.pad_y = crop_padding(self.height) if cropped else 0
        self.pad_x = crop_padding(self.width) if cropped else 0
        padding = (0, 0, self.pad_x, self.pad_x, self.pad_y, self.pad_y)
        self._padded = F.pad(images.permute(0, 2, 3, 1), padding).contiguous()

    def plain(self, positions_B: Tensor) -> Tensor:
        """The images at these positions as they are, (B, C, H, W)."""
        rows = slice(self.pad_y, self.pad_y + self.height)
        columns = slice(self.pad_x, self.pad_x + self.width)
        return self._padded[:, rows, columns][positions_B].permute(0, 3, 1, 2)

    def augmented(self, positions_B: Tensor, *, generator: Generator, part: slice = slice(None)) -> Tensor:
        """Random crops and, under `crop-flip`, a horizontal flip with probability 1/2, (B, C, H, W).

        Args:
            part: of the batch, those that are wanted; each is as it is in the whole.
        """
        if self.augment == "none":
            return self.plain(positions_B[part])
        top_B, left_B, flips_B = (drawn[part] for drawn in self.draw(len(positions_B), generator=generator))
        positions_B = positions_B[part]
        num_images, device = len(positions_B), self._padded.device
        crops = self._windows()[positions_B, sent(top_B, device), sent(left_B, device)]
        crops = crops.view(num_images, self.height, self.width, self.channels)
        if self.augment == "crop-flip":
            # As places, not as a mask, of which the host would have to know how many are true.
            flipped = sent(flips_B.nonzero().squeeze(1), device)
            crops[flipped] = crops[flipped].flip(2)
        return crops.permute(0, 3, 1, 2)

    def draw(self, num_images: int, *, generator: Generator) -> tuple[Tensor, Tensor, Tensor]:
        """What `augmented` draws for so many images: top and left of each crop, int64 (B,), and whether it is
        flipped, bool (B,), or (0,) where none is."""
        top_B = torch.randint(0, 2 * self.pad_y + 1, (num_images,), generator=generator)
        left_B = torch.randint(0, 2 * self.pad_x + 1, (num_images,), generator=generator)
        num_flips = num_images if self.augment == "crop-flip" else 0
        return top_B, left_B, torch.rand(num_flips, generator=generator) < 0.5

    def _windows(self) -> Tensor:
        """Every crop of every image as a view: (N, 2p + 1, 2p + 1, H, W C)."""
        by_image, by_row, by_column, _ = self._padded.stride()
        shape = (2 * self.pad_y + 1, 2 * self.pad_x + 1, self.height, self.width * self.channels)
        return self._padded.as_strided((len(self._padded), *shape), (by_image, by_row, by_column, by_row, 1))
