"""What the reweighters share: the label as an input, and an output that starts at zero.

Shapes: B examples, C classes, D features.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def join_label(features_BD: Tensor, labels_B: Tensor, *, num_classes: int) -> Tensor:
    """The features followed by the one-hot label: (B, D + C)."""
    one_hot_BC = F.one_hot(labels_B, num_classes).to(features_BD.dtype)
    return torch.cat([features_BD, one_hot_BC], dim=1)


def zero_linear(in_features: int) -> nn.Linear:
    """A linear layer to one output that is 0 for every input, and yet learns."""
    layer = nn.Linear(in_features, 1)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer
