"""What MWN and GDW share: Meta-Weight-Net's network (Shu et al., NeurIPS 2019, arXiv 1902.07379) and order of
passes: a virtual step, what it did to the validation loss, and only then the real step.

Shapes: B examples of a training batch.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from pydantic import Field
from torch import Tensor, nn

from molere_baselines.meta_batch import MetaBatchMethod, MetaBatchOptions
from molere_cli import Step, TrainingContext, derived_seed, isolated_randomness


class WeightNetOptions(MetaBatchOptions):
    """What the methods with a weight network on the loss share."""

    hidden: int = Field(100, ge=1, le=65536, description="Width of the weight network's hidden layer.")
    lr: float = Field(1e-3, gt=0, description="Adam learning rate of the weight network.")
    weight_decay: float = Field(1e-4, ge=0, description="Weight decay of the weight network.")


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


class WeightNetMethod(MetaBatchMethod):
    """A method with a weight network that learns from a virtual step of the classifier."""

    options: WeightNetOptions

    def __init__(self, context: TrainingContext) -> None:
        super().__init__(context)
        self._training = WeightNetTraining(context)

    def response(self, step: Step, loss: Tensor) -> dict[str, Tensor]:
        """lr times the gradient of the validation loss behind a virtual step, theta - lr grad loss, of plain
        gradient descent, without momentum and weight decay; by parameter name.

        Args:
            loss: 0-dim, on the graph of the step's forward pass, which stays there.
        """
        parameters = self.context.classifier.parameters
        lr = self.context.optimizer.param_groups[0]["lr"]
        gradients = torch.autograd.grad(
            loss, list(parameters.values()), retain_graph=True, materialize_grads=True
        )
        ahead = {
            name: parameter.detach() - lr * gradient
            for (name, parameter), gradient in zip(parameters.items(), gradients, strict=True)
        }
        return {name: lr * gradient for name, gradient in self.validation_gradient(at=ahead).items()}

    def metrics(self) -> dict[str, float]:
        """Mean `val/loss` behind the virtual steps, and the meta-updates so far."""
        return {**super().metrics(), "weight_net/updates": self._training.num_updates}

    def state_dict(self) -> dict[str, Any]:
        return {"training": self._training.state_dict(), "validation": super().state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._training.load_state_dict(state["training"])
        super().load_state_dict(state["validation"])
