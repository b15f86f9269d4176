"""The options of the reweighters, as they come from `--reweighter-option KEY=VALUE`."""

from __future__ import annotations

from pydantic import Field

from molere_cli import Options


class ImageOptions(Options):
    """Options of `image`."""

    width: int = Field(16, ge=1, description="Channels of the first convolution; the others have twice that.")
    label: bool = Field(True, description="Join the one-hot label to the penultimate features.")


class FeaturesOptions(Options):
    """Options of `features`."""

    hidden: int = Field(128, ge=1, description="Width of the hidden layer.")
    label: bool = Field(True, description="Join the one-hot label to the features.")


class LossOptions(Options):
    """Options of `loss`."""

    hidden: int = Field(100, ge=1, description="Width of the hidden layer.")
    label: bool = Field(False, description="Join the one-hot label to the loss.")
