"""A network of its own on the image, as in the paper."""

from __future__ import annotations

from typing import cast

from pydantic import Field
from torch import Tensor, nn

from molere_cli import Options, ReweighterInput, ReweighterRequest
from molere_reweighters.label_input import join_label, zero_linear


class ImageOptions(Options):
    """Options of `image`."""

    width: int = Field(
        16, ge=1, le=4096, description="Channels of the first convolution; the others have twice that."
    )
    label: bool = Field(True, description="Join the one-hot label to the penultimate features.")


class ImageReweighter(nn.Module):
    """A small CNN on images of at least 2 x 2 pixels; with `label`, the one-hot label joins its features."""

    def __init__(self, request: ReweighterRequest) -> None:
        super().__init__()
        options: ImageOptions = request.options
        width = options.width
        self.num_classes = request.num_classes if options.label else 0
        self.body = nn.Sequential(
            nn.Conv2d(3, width, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(width, 2 * width, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(2 * width, 2 * width, 3, padding=1),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(2),
            nn.Flatten(),
        )
        self.head = zero_linear(2 * width * 2 * 2 + self.num_classes)

    def forward(self, batch: ReweighterInput) -> Tensor:
        assert batch.images is not None, "the spec needs them"
        features_BD = self.body(batch.images)
        if self.num_classes:
            features_BD = join_label(features_BD, batch.labels, num_classes=self.num_classes)
        return cast(Tensor, self.head(features_BD)).squeeze(1)
