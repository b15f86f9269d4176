"""An MLP on the classifier's penultimate features."""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn

from molere_cli import ReweighterInput
from molere_reweighters.layers import join_label, zero_linear


class FeaturesReweighter(nn.Module):
    """Normalised features, with `label` joined by the one-hot label, through one hidden layer."""

    def __init__(self, feature_dim: int, num_classes: int, *, hidden: int = 128, label: bool = True) -> None:
        super().__init__()
        self.num_classes = num_classes if label else 0
        self.norm = nn.LayerNorm(feature_dim)
        self.hidden = nn.Linear(feature_dim + self.num_classes, hidden)
        self.head = zero_linear(hidden)

    def forward(self, batch: ReweighterInput) -> Tensor:
        assert batch.features is not None
        features_BD = self.norm(batch.features)
        if self.num_classes:
            features_BD = join_label(features_BD, batch.labels, num_classes=self.num_classes)
        return cast(Tensor, self.head(self.hidden(features_BD).relu())).squeeze(1)
