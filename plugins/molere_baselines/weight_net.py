"""Meta-Weight-Net's network and its optimizer (Shu et al., NeurIPS 2019, arXiv 1902.07379).

Shapes: B examples of a training batch.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn

from molere_baselines.options import WeightNetOptions
from molere_cli import TrainingContext, derived_seed, isolated_randomness


class WeightNet(nn.Module):
    """From a loss to a weight in (0, 1): 1-hidden-1 with ReLU and a sigmoid."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(1, hidden)
        self.head = nn.Linear(hidden, 1)

    def forward(self, losses_B: Tensor) -> Tensor:
        hidden_BD = self.hidden(losses_B.unsqueeze(1)).relu()
        return cast(Tensor, self.head(hidden_BD)).squeeze(1).sigmoid()


class WeightNetTraining:
    """The network, from torch's own initialisation, and Adam."""

    def __init__(self, context: TrainingContext) -> None:
        options: WeightNetOptions = context.options
        device = context.classifier.device
        with isolated_randomness(device):
            torch.manual_seed(derived_seed(context.config.machine.seed, "weight net"))
            self.net = WeightNet(options.hidden).to(device)
        self.optimizer = torch.optim.Adam(
            self.net.parameters(), lr=options.lr, weight_decay=options.weight_decay
        )
        self.num_updates = 0

    def step(self, weights: Tensor, gradient: Tensor) -> None:
        """Go down a loss whose derivative by `weights`, made by the network, is `gradient`."""
        self.optimizer.zero_grad(set_to_none=True)
        weights.backward(gradient)
        self.optimizer.step()
        self.num_updates += 1

    def state_dict(self) -> dict[str, Any]:
        """What a resume needs, between epochs."""
        return {
            "net": self.net.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "num_updates": self.num_updates,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a `state_dict`."""
        self.net.load_state_dict(state["net"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.num_updates = state["num_updates"]
