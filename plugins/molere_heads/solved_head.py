"""What all methods here share: the head is solved before the first epoch, and steps leave it as it is.

Shapes: N examples that train, D features, C classes.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from molere_cli import ConfigError, Method, Options, Step, TrainingContext, derived_seed
from molere_heads.linear_head import Axes, Floats, Head, Ints, folds_of


class HeadOptions(Options):
    """Options of `logreg`, `logreg-robust`, `logreg-balanced` and `dfr`."""

    l2: float | None = Field(
        None, gt=0, description="L2 of the head at a mean squared norm of 100 (default: by out-of-fold loss)."
    )


class Solution:
    """A head on features, the weight of every example that trains, and what to log of it."""

    def __init__(self, head: Head, weights_N: Floats | None = None, **metrics: float) -> None:
        self.head, self.weights_N, self.metrics = head, weights_N, metrics


class SolvedHead(Method):
    """Solves for the classification layer on the features of a frozen backbone; every epoch is one pass that
    changes nothing, for the records of the pool."""

    weights_read = "nothing"

    def __init__(self, context: TrainingContext) -> None:
        super().__init__(context)
        name = context.config.method.method
        if context.classifier.feature_dim is None:
            raise ConfigError(
                f"--method {name} works on the features of a frozen backbone; add --recipe probe, with "
                "--init-from or a pretrained backbone, and leave --no-cache-features and --augment out"
            )
        layer = context.classifier.head
        if not isinstance(layer, nn.Linear) or layer.bias is None:
            raise ConfigError(
                f"--method {name} needs a classification layer that is an nn.Linear with a bias; "
                f"{context.config.classifier.backbone} has none"
            )
        self._layer = layer
        self._solved: tuple[Tensor, Tensor] | None = None
        self._weights = torch.ones(len(context.labels))
        self._metrics: dict[str, float] = {}

    @abstractmethod
    def solve(self, x_NA: Floats, labels_N: Ints, folds_N: Ints) -> Solution:
        """The head in the coordinates of `Axes`, on the examples that train."""

    def before_epoch(self, epoch: int) -> Tensor:
        if epoch == 0:
            self._solve()
        self._solved = self._layer.weight.detach().clone(), self._layer.bias.detach().clone()
        return self.positions

    @torch.no_grad()
    def _solve(self) -> None:
        features, labels = [], []
        for batch in self.context.feed.evaluation(list(self.positions.split(4096))):
            features.append(batch.images.cpu())
            labels.append(batch.labels.cpu())
        features_ND, labels_N = torch.cat(features).numpy(), torch.cat(labels).numpy()
        axes = Axes.of(features_ND)
        seed = derived_seed(self.context.config.machine.seed, "folds of the head")
        found = self.solve(axes(features_ND), labels_N, folds_of(labels_N, seed=seed))
        head = found.head.on_features(axes)
        self._layer.weight.copy_(torch.from_numpy(head.weight_AC.T.copy()))
        self._layer.bias.copy_(torch.from_numpy(head.bias_C))
        if found.weights_N is not None:
            weights_N = found.weights_N / found.weights_N.mean()
            self._weights[self.positions] = torch.from_numpy(weights_N.astype(np.float32))
        self._metrics = found.metrics

    def batches(self, epoch: int, positions: Tensor, *, batch_size: int, seed: int) -> list[Tensor]:
        return [positions]

    def weights(self, step: Step) -> Tensor | None:
        return self._weights.to(step.batch.positions.device)[step.batch.positions]

    def loss(self, step: Step, weights: Tensor | None) -> Tensor:
        return 0 * step.losses.mean()

    @torch.no_grad()
    def after_step(self, step: Step) -> None:
        # The optimizer's weight decay or momentum may have moved it.
        assert self._solved is not None
        self._layer.weight.copy_(self._solved[0])
        self._layer.bias.copy_(self._solved[1])

    def metrics(self) -> dict[str, float]:
        return {f"head/{name}": value for name, value in self._metrics.items()}

    def state_dict(self) -> dict[str, Any]:
        return {"weights": self._weights, "metrics": self._metrics}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._weights, self._metrics = state["weights"], dict(state["metrics"])
