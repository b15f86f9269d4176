"""The algorithm box. It yields records and writes nothing.

Shapes: N examples of the pool, B of a batch.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils import clip_grad_norm_

from molere_cli.config import RunConfig
from molere_cli.data.feed import Batch, Feed
from molere_cli.engine.classifier import Classifier, RandomState, isolated_randomness
from molere_cli.engine.methods import Method
from molere_cli.engine.optimizer import Clipping, build_scheduler
from molere_cli.engine.step import Step
from molere_cli.errors import TrainingError
from molere_cli.metrics import error_norm, probabilistic_margin
from molere_cli.randomness import derived_seed

OnStep = Callable[[int, int, float], None]


class PoolRecord:
    """What training says about each pool example as it goes; float32 (N,) each, nan where never trained on.

    - aum: probabilistic margin averaged over the training passes so far (Pleiss et al. 2020,
      arXiv 2001.10528, with probabilities for logits).
    - el2n: || p - onehot(y) ||_2 averaged over the passes of the first quarter of epochs, one at least (after
      Paul et al. 2021, arXiv 2107.07075, who average early networks of several runs instead).
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
        self.num_seen_early = torch.zeros(num_examples, device=device)
        self.num_forgotten = torch.zeros(num_examples, device=device)
        self.is_right = torch.zeros(num_examples, device=device)
        self.was_ever_right = torch.zeros(num_examples, device=device)

    def add(self, step: Step, weights_B: Tensor | None) -> None:
        """Take in one step."""
        positions_B, logits_BC = step.batch.positions, step.logits.detach()
        margins_B = probabilistic_margin(logits_BC, step.batch.labels)
        self.margin_sum.index_add_(0, positions_B, margins_B)
        self.num_seen.index_add_(0, positions_B, torch.ones_like(margins_B))
        weights_B = torch.ones_like(margins_B) if weights_B is None else weights_B.float()
        self.weight[positions_B] = weights_B
        self.log_weight_sum.index_add_(0, positions_B, weights_B.log())
        if step.epoch < self.early_epochs:
            self.error_sum.index_add_(0, positions_B, error_norm(logits_BC, step.batch.labels))
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

    def add(self, step: Step, weights_B: Tensor | None) -> None:
        self.losses.append(step.losses.detach())
        self.num_correct.append((step.logits.detach().argmax(dim=1) == step.batch.labels).sum())
        if weights_B is not None:
            self.weights.append(weights_B)

    def metrics(self) -> dict[str, float]:
        """Mean loss and accuracy; spread of the weights and effective sample size as a fraction."""
        losses = torch.cat(self.losses)
        metrics = {
            "train/loss": float(losses.mean()),
            "train/accuracy": float(torch.stack(self.num_correct).sum()) / len(losses),
        }
        if self.weights:
            weights = torch.cat(self.weights).double()
            metrics |= {
                "weights/mean": float(weights.mean()),
                "weights/std": float(weights.std(correction=0)),
                "weights/min": float(weights.min()),
                "weights/max": float(weights.max()),
                "weights/ess": float(weights.sum() ** 2 / weights.square().sum() / len(weights)),
            }
        return metrics


class TrainingLoop:
    """Trains the classifier under a method, epoch by epoch."""

    def __init__(
        self,
        config: RunConfig,
        *,
        classifier: Classifier,
        optimizer: torch.optim.Optimizer,
        feed: Feed,
        method: Method,
    ) -> None:
        self.config = config
        self.classifier = classifier
        self.optimizer = optimizer
        self.scheduler = build_scheduler(config, optimizer)
        self.feed = feed
        self.method = method
        self.pool_record = PoolRecord(len(feed), classifier.device, num_epochs=config.epochs)
        self.next_epoch = 0

    def epochs(self, on_step: OnStep | None = None) -> Iterator[dict[str, float]]:
        """Train from the next epoch to the last; one record of metrics after each.

        Raises:
            TrainingError: the loss is not finite; parameters are as they were before that step.
        """
        while self.next_epoch < self.config.epochs:
            epoch, started = self.next_epoch, time.perf_counter()
            with isolated_randomness(self.classifier.device):
                torch.manual_seed(derived_seed(self.config.seed, "epoch", epoch))
                metrics = self._epoch(epoch, on_step)
            self.next_epoch += 1
            yield {"epoch": epoch, **metrics, "time/seconds": time.perf_counter() - started}

    def _epoch(self, epoch: int, on_step: OnStep | None) -> dict[str, float]:
        config, totals = self.config, EpochTotals()
        self.scheduler.step(epoch)
        positions = self.method.before_epoch(epoch)
        seed = derived_seed(config.seed, "train", epoch)
        batches = self.method.batches(epoch, positions, batch_size=config.batch_size, seed=seed)
        self.classifier.train()
        for in_epoch, batch in enumerate(self.feed.training(batches, seed=seed)):
            step = self._forward(epoch, in_epoch, self.method.select(batch))
            weights_B = self.method.weights(step)
            loss = self._classifier_step(step, weights_B)
            self.method.after_step(step)
            totals.add(step, weights_B)
            self.pool_record.add(step, weights_B)
            if on_step:
                on_step(in_epoch + 1, len(batches), loss)
        return {**self._split_metrics(), **totals.metrics(), **self.method.metrics(), "lr": self._lr()}

    def _forward(self, epoch: int, in_epoch: int, batch: Batch) -> Step:
        randomness = RandomState.capture(self.classifier.device)
        output = self.classifier.forward(batch.images, with_features=self.method.needs_features)
        losses_B = F.cross_entropy(output.logits, batch.labels, reduction="none")
        return Step(epoch, in_epoch, batch, output.logits, losses_B, output.features, randomness)

    def _classifier_step(self, step: Step, weights_B: Tensor | None) -> float:
        """theta <- theta - beta_3 (1/B) sum_j w_j grad loss_j (paper.md section 2); the weighted loss."""
        weighted_loss = self.method.loss(step, weights_B)
        loss = float(weighted_loss.detach())
        if not math.isfinite(loss):
            learns_weights = self.config.reweighter_lr is not None
            raise TrainingError(
                f"the training loss became {loss} in epoch {step.epoch + 1}, step {step.in_epoch + 1}; "
                "lower --lr or set --clip-grad 1" + (", or --weight-bound 10" if learns_weights else "")
            )
        self.optimizer.zero_grad(set_to_none=True)
        weighted_loss.backward()
        if self.config.clip_grad is not None:
            norm = clip_grad_norm_(self.classifier.module.parameters(), self.config.clip_grad)
            step.clipping = Clipping(self.config.clip_grad, norm)
        self.optimizer.step()
        return loss

    def _split_metrics(self) -> dict[str, float]:
        in_validation = self.method.in_validation()
        if in_validation is None:
            return {}
        return {
            "split/num_val": int(in_validation.sum()),
            "split/num_train": int((~in_validation).sum()),
            "split/delta": float(in_validation.double().mean()),
        }

    def _lr(self) -> float:
        return float(self.optimizer.param_groups[0]["lr"])

    def state_dict(self) -> dict[str, Any]:
        """All that a resume needs beside the classifier's own tensors, between epochs."""
        return {
            "next_epoch": self.next_epoch,
            "optimizer": self.optimizer.state_dict(),
            "method": self.method.state_dict(),
            "pool": self.pool_record.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a `state_dict`."""
        self.next_epoch = state["next_epoch"]
        self.optimizer.load_state_dict(state["optimizer"])
        self.method.load_state_dict(state["method"])
        self.pool_record.load_state_dict(state["pool"])
