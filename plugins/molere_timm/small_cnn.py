"""A small convolutional network without norms, for quick runs on small images."""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn

from molere_cli import BackboneRequest


class SmallCNN(nn.Module):
    """Float32 images (B, 3, H, W) of at least 2 x 2 pixels to logits (B, num_classes)."""

    def __init__(self, num_classes: int = 10) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 32, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(32, 64, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(64, 64, 3, padding=1),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(2),
            nn.Flatten(),
        )
        self.fc = nn.Linear(64 * 2 * 2, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        return cast(Tensor, self.fc(self.body(images)))


def build(request: BackboneRequest) -> nn.Module:
    """The network for the request's classes."""
    return SmallCNN(request.num_classes)
