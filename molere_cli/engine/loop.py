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

from molere_cli.config.run_config import RunConfig
from molere_cli.data.feed import Batch, Feed
from molere_cli.engine.classifier import Classifier, RandomState, isolated_randomness
from molere_cli.engine.method import Method
from molere_cli.engine.optimizer import build_scheduler
from molere_cli.engine.pool_record import EpochTotals, PoolRecord
from molere_cli.engine.response import Clipping
from molere_cli.engine.step import Step
from molere_cli.errors import TrainingError
from molere_cli.randomness import derived_seed

OnStep = Callable[[int, int, float], None]


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
            PluginError: a third party's method fails, or gives what cannot be used.
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
        metrics = totals.metrics()
        self._check_weights(math.isfinite(metrics.get("weights/mean", 1.0)), f"epoch {epoch + 1}")
        return {**self._split_metrics(), **metrics, **self.method.metrics(), "lr": self._lr()}

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
            are_finite = weights_B is None or bool(weights_B.isfinite().all())
            self._check_weights(are_finite, f"epoch {step.epoch + 1}, step {step.in_epoch + 1}")
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

    def _check_weights(self, are_finite: bool, when: str) -> None:
        """Raise PluginError for a third party's weights that are not; asked where the host waits anyway."""
        if not are_finite and self.method.third_party is not None:
            raise self.method.third_party.error(f"gave weights that are not finite in {when}")

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
