"""Meta-Weight-Net's network: an MLP on the example's loss (Shu et al. 2019, arXiv 1902.07379).

Its sigmoid is not here: the engine makes weights of log-weights (`--weight-normalization`).
"""

from __future__ import annotations

from typing import cast

from pydantic import Field
from torch import Tensor, nn

from molere_cli import Options, ReweighterInput, ReweighterRequest
from molere_reweighters.label_input import join_label, zero_linear


class LossOptions(Options):
    """Options of `loss`."""

    hidden: int = Field(100, ge=1, le=65536, description="Width of the hidden layer.")
    label: bool = Field(False, description="Join the one-hot label to the loss.")


class LossReweighter(nn.Module):
    """1-`hidden`-1; with `label`, the one-hot label joins the loss."""

    def __init__(self, request: ReweighterRequest) -> None:
        super().__init__()
        options: LossOptions = request.options
        self.num_classes = request.num_classes if options.label else 0
        self.hidden = nn.Linear(1 + self.num_classes, options.hidden)
        self.head = zero_linear(options.hidden)

    def forward(self, batch: ReweighterInput) -> Tensor:
        inputs_BD = batch.losses.unsqueeze(1)
        if self.num_classes:
            inputs_BD = join_label(inputs_BD, batch.labels, num_classes=self.num_classes)
        return cast(Tensor, self.head(self.hidden(inputs_BD).relu())).squeeze(1)
