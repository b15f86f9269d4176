"""What training says about each example, and about an epoch, as it goes."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from molere_cli.engine.prediction_metrics import error_norm, probabilistic_margin
from molere_cli.engine.step import Step


class PoolRecord:
    """What training says about each pool example as it goes; float32 (N,) each, nan where never trained on.

    - aum: probabilistic margin averaged over the training passes so far (Pleiss et al. 2020,
      arXiv 2001.10528, with probabilities for logits).
    - el2n: || p - onehot(y) ||_2 averaged over the passes of the first quarter of epochs, one at least (after
      Paul et al. 2021, arXiv 2107.07075, who average early networks of several runs instead).
    - early_aum: aum over the passes of those epochs alone. Below 0 the network prefers another class before
      it has had time to memorise: the errors of Just Train Twice (arXiv 2107.09044), averaged.
    - forgetting: how often it went from right to wrong between two passes (Toneva et al. 2019,
      arXiv 1812.05159). For one that was never right, the number of passes: more than any other can have.
    - weight: the last weight.
    - mean_weight: the geometric mean of the weights over the training passes so far.
    """

    def __init__(self, num_examples: int, device: torch.device, *, num_epochs: int) -> None:
        self.early_epochs = max(1, num_epochs // 4)
        self.margin_sum = torch.zeros(num_examples, device=device)
        self.num_seen = torch.zeros(num_examples, device=device)
        self.weight = torch.full((num_examples,), math.nan, device=device)
        self.log_weight_sum = torch.zeros(num_examples, device=device)
        self.error_sum = torch.zeros(num_examples, device=device)
        self.early_margin_sum = torch.zeros(num_examples, device=device)
        self.num_seen_early = torch.zeros(num_examples, device=device)
        self.num_forgotten = torch.zeros(num_examples, device=device)
        self.is_right = torch.zeros(num_examples, device=device)
        self.was_ever_right = torch.zeros(num_examples, device=device)

    def add(self, step: Step, weights_B: Tensor | None) -> None:
        """Take in one step."""
        positions_B, logits_BC = step.batch.positions, step.logits.detach().float()
        # Of the training pass, augmentation and dropout included: that is what AUM averages over epochs.
        margins_B = probabilistic_margin(logits_BC, step.batch.labels)
        # `index_add_`, because one example may be in a batch twice.
        self.margin_sum.index_add_(0, positions_B, margins_B)
        self.num_seen.index_add_(0, positions_B, torch.ones_like(margins_B))
        weights_B = torch.ones_like(margins_B) if weights_B is None else weights_B.float()
        self.weight[positions_B] = weights_B
        self.log_weight_sum.index_add_(0, positions_B, weights_B.log())
        if step.epoch < self.early_epochs:
            self.error_sum.index_add_(0, positions_B, error_norm(logits_BC, step.batch.labels))
            self.early_margin_sum.index_add_(0, positions_B, margins_B)
            self.num_seen_early.index_add_(0, positions_B, torch.ones_like(margins_B))
        self._compare(positions_B, (logits_BC.argmax(dim=1) == step.batch.labels).float())

    def _compare(self, positions_B: Tensor, right_B: Tensor) -> None:
        """Count what was right in the pass before and is wrong now.

        An example that is in the batch twice is right if both are: so all writes to one place agree, and the
        outcome does not hang on their order.
        """
        was_right_B = self.is_right[positions_B]
        self.is_right.scatter_reduce_(0, positions_B, right_B, "amin", include_self=False)
        right_B = self.is_right[positions_B]
        self.num_forgotten[positions_B] = self.num_forgotten[positions_B] + was_right_B * (1 - right_B)
        self.was_ever_right[positions_B] = torch.maximum(self.was_ever_right[positions_B], right_B)

    @property
    def aum(self) -> Tensor:
        return self.margin_sum / self.num_seen

    @property
    def mean_weight(self) -> Tensor:
        return (self.log_weight_sum / self.num_seen).exp()

    @property
    def el2n(self) -> Tensor:
        return self.error_sum / self.num_seen_early

    @property
    def early_aum(self) -> Tensor:
        return self.early_margin_sum / self.num_seen_early

    @property
    def forgetting(self) -> Tensor:
        counts_N = torch.where(self.was_ever_right == 0, self.num_seen, self.num_forgotten)
        return counts_N.masked_fill(self.num_seen == 0, math.nan)

    def state_dict(self) -> dict[str, Tensor]:
        return {name: value for name, value in vars(self).items() if isinstance(value, Tensor)}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Go on from a `state_dict`; what an older version did not record of a run stays nan to its end."""
        for name, value in self.state_dict().items():
            if name in state:
                value.copy_(state[name])
            else:
                value.fill_(math.nan)


class EpochTotals:
    """Sums over an epoch, kept on the device."""

    def __init__(self) -> None:
        self.losses: list[Tensor] = []
        self.num_correct: list[Tensor] = []
        self.weights: list[Tensor] = []

    @property
    def num_steps(self) -> int:
        """How many steps have been added."""
        return len(self.num_correct)

    def add(self, step: Step, weights_B: Tensor | None) -> None:
        self.losses.append(step.losses.detach())
        self.num_correct.append((step.logits.detach().argmax(dim=1) == step.batch.labels).sum())
        if weights_B is not None:
            self.weights.append(weights_B)

    def state_dict(self) -> dict[str, Any]:
        """What a resume within the epoch needs: losses and weights float (n,), num_correct int64 (steps,)."""
        return {
            "losses": torch.cat(self.losses),
            "num_correct": torch.stack(self.num_correct),
            "weights": torch.cat(self.weights) if self.weights else None,
        }

    def load_state_dict(self, state: dict[str, Any], device: torch.device) -> None:
        """Go on from a `state_dict`."""
        self.losses = [state["losses"].to(device)]
        self.num_correct = list(state["num_correct"].to(device))
        self.weights = [] if state["weights"] is None else [state["weights"].to(device)]

    def metrics(self) -> dict[str, float]:
        """Mean loss and accuracy; spread of the weights and effective sample size as a fraction, which is 0
        where all weights are."""
        losses = torch.cat(self.losses)
        metrics = {
            "train/loss": float(losses.mean()),
            "train/accuracy": float(torch.stack(self.num_correct).sum()) / len(losses),
        }
        if self.weights:
            weights = torch.cat(self.weights).double()
            squares = weights.square().sum()
            metrics |= {
                "weights/mean": float(weights.mean()),
                "weights/std": float(weights.std(correction=0)),
                "weights/min": float(weights.min()),
                "weights/max": float(weights.max()),
                "weights/ess": float(weights.sum() ** 2 / squares / len(weights)) if squares else 0.0,
            }
        return metrics
