"""An MLP on the classifier's penultimate features."""

from __future__ import annotations

from typing import cast

from pydantic import Field
from torch import Tensor, nn

from molere_cli import Options, ReweighterInput, ReweighterRequest
from molere_reweighters.label_input import join_label, zero_linear


class FeaturesOptions(Options):
    """Options of `features`."""

    hidden: int = Field(128, ge=1, le=65536, description="Width of the hidden layer.")
    label: bool = Field(True, description="Join the one-hot label to the features.")


class FeaturesReweighter(nn.Module):
    """Normalised features, with `label` joined by the one-hot label, through one hidden layer."""

    def __init__(self, request: ReweighterRequest) -> None:
        super().__init__()
        options: FeaturesOptions = request.options
        assert request.feature_dim is not None
        self.num_classes = request.num_classes if options.label else 0
        self.norm = nn.LayerNorm(request.feature_dim)
        self.hidden = nn.Linear(request.feature_dim + self.num_classes, options.hidden)
        self.head = zero_linear(options.hidden)

    def forward(self, batch: ReweighterInput) -> Tensor:
        assert batch.features is not None
        features_BD = self.norm(batch.features)
        if self.num_classes:
            features_BD = join_label(features_BD, batch.labels, num_classes=self.num_classes)
        return cast(Tensor, self.head(self.hidden(features_BD).relu())).squeeze(1)
