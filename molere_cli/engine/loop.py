"""The algorithm box, one screen long (`TrainingLoop._epoch`). It yields records and writes nothing.

Equations (1) to (5) are those of docs/concepts/method.md. Shapes: N examples of the pool, B of a batch.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from molere_cli.config.sections import ClassifierSettings
from molere_cli.data.feed import Feed
from molere_cli.engine.average import WeightAverage
from molere_cli.engine.classifier import Classifier
from molere_cli.engine.finite import FiniteWatch
from molere_cli.engine.memory import PeakMemory
from molere_cli.engine.method import Method
from molere_cli.engine.optimizer import build_scheduler
from molere_cli.engine.passes import Passes
from molere_cli.engine.pool_record import EpochTotals, PoolRecord
from molere_cli.engine.random_state import RandomState, isolated_randomness
from molere_cli.engine.response import Clipping, kept_gradients
from molere_cli.engine.step import Step
from molere_cli.foundation.errors import TrainingError
from molere_cli.foundation.randomness import derived_seed

OnStep = Callable[[int, int, float], None]


class TrainingLoop:
    """Trains the classifier under a method, epoch by epoch."""

    def __init__(
        self,
        settings: ClassifierSettings,
        *,
        seed: int,
        classifier: Classifier,
        optimizer: torch.optim.Optimizer,
        feed: Feed,
        method: Method,
    ) -> None:
        self.settings = settings
        self.seed = seed
        self.classifier = classifier
        self.optimizer = optimizer
        self.scheduler = build_scheduler(settings, optimizer)
        self.average = None if settings.ema is None else WeightAverage(classifier.module, settings.ema)
        self.feed = feed
        self.method = method
        self.ranks = classifier.ranks
        self.passes = Passes(classifier, feed)
        self.finite = FiniteWatch(classifier.device, method)
        self.pool_record = PoolRecord(len(feed), classifier.device, num_epochs=settings.epochs)
        self.memory = PeakMemory(classifier.device)
        self.next_epoch = 0
        # Of the next epoch: what its steps so far add up to, and what it has to take up where it stopped
        # within.
        self.totals = EpochTotals()
        self._randomness: RandomState | None = None
        self._seconds = 0.0
        self._since = time.perf_counter()

    def epochs(self, on_step: OnStep | None = None) -> Generator[dict[str, float]]:
        """Train from the next epoch to the last, or on within it; one record of metrics after each.

        Args:
            on_step: told after each step its number in the epoch, from 1, how many there are, and the loss.
                At this point `state_dict` may be taken.

        Raises:
            TrainingError: the loss or its gradient is not finite (no epoch with such a step is ever yielded,
                and on a CPU parameters are as they were before it); or an operation has no deterministic
                kernel where one was asked for.
            PluginError: a third party's method fails, or gives what cannot be used.
        """
        while self.next_epoch < self.settings.epochs:
            epoch, self._since = self.next_epoch, time.perf_counter()
            self.memory.start()
            # Dropout draws from the global generator, which therefore starts each epoch at a state that
            # follows from (seed, epoch) alone: a resumed run goes on as the uninterrupted one.
            with isolated_randomness(self.classifier.device):
                # Each rank has dropout masks of its own.
                others = (self.ranks.rank,) if self.ranks.rank else ()
                torch.manual_seed(derived_seed(self.seed, "epoch", epoch, *others))
                with missing_kernels_named():
                    metrics = self._epoch(epoch, on_step)
            seconds = self._seconds_in_epoch()
            self.next_epoch, self.totals, self._seconds = epoch + 1, EpochTotals(), 0.0
            yield {"epoch": epoch, **metrics, "time/seconds": seconds, **self._peak_memory()}

    def _peak_memory(self) -> dict[str, float]:
        peak = self.memory.mebibytes()
        return {} if peak is None else {"memory/peak_mib": peak}

    def _epoch(self, epoch: int, on_step: OnStep | None) -> dict[str, float]:
        totals, start = self.totals, self.totals.num_steps
        self.scheduler.step(epoch)

        # STEP 1, splitter (outer level), every K epochs: Theta learns which examples the classifier fails
        # on, and they become the validation set (1). What is left, or the whole pool, trains.
        positions = self.method.resume_epoch(epoch) if start else self.method.before_epoch(epoch)

        seed = derived_seed(self.seed, "train", epoch)
        batches = self.method.batches(epoch, positions, batch_size=self.settings.batch_size, seed=seed)
        self.classifier.train()
        if self._randomness is not None:
            self._randomness.restore(self.classifier.device)
            self._randomness = None
        for in_epoch, batch in enumerate(self.feed.training(batches, seed=seed, start=start), start):
            step = self.passes.forward(self.method, epoch, in_epoch, self.method.select(batch))

            # STEP 2: phi gives every example of the batch its weight w_i (2). Every Q steps the parameters
            # are kept from here, because the hypergradient is taken where this step starts.
            weights_B = self.method.weights(step)

            # STEP 3, classifier (inner level): theta' = theta - u(g), g = (1/B) sum_i w_i grad l_i (3).
            loss = self._classifier_step(step, weights_B)

            # STEP 4, every Q steps: dL_val(theta') / dw_i = -(1/B) < grad l_i(theta), r > (4), through the
            # very step just taken. STEP 5, reweighter (middle level): phi goes down it (5). So new weights
            # act from the next step on.
            self.method.after_step(step)

            # The logits of the training pass cost nothing more, and say how hard each example is.
            weights_B = self._of_whole(weights_B, step)
            totals.add(step.whole, weights_B)
            self.pool_record.add(step.whole, weights_B)
            if on_step:
                on_step(in_epoch + 1, len(batches), loss)
        self.finite.look()
        metrics = totals.metrics()
        return {**self._split_metrics(), **metrics, **self.method.metrics(), "lr": self._lr()}

    def _of_whole(self, weights_B: Tensor | None, step: Step) -> Tensor | None:
        return None if weights_B is None else self.ranks.gathered(weights_B, step.batch.num_whole)

    def _classifier_step(self, step: Step, weights_B: Tensor | None) -> float:
        """One step of the optimizer on the weighted loss, of which the last known value is returned (3)."""
        self.optimizer.zero_grad(set_to_none=True)
        weighted_loss = self.passes.backward(self.method, step, weights_B)
        self._sum_over_ranks(weighted_loss)
        norm = self._gradient_norm()
        loss = self.finite.add(step, weights_B, weighted_loss, norm)
        if self.settings.clip_grad is not None:
            clip_grads_with_norm_(self.classifier.module.parameters(), self.settings.clip_grad, norm)
            step.clipping = Clipping(self.settings.clip_grad, norm, kept_gradients(self.optimizer))
        self.optimizer.step()
        if self.average is not None:
            self.average.update(self.classifier.module)
        return loss

    def _sum_over_ranks(self, weighted_loss: Tensor) -> None:
        """Loss and gradients of all ranks' parts, in one message."""
        if self.ranks.are_several:
            parameters = self.classifier.parameters.values()
            self.ranks.sum_([*self.ranks.gradients_of(parameters), weighted_loss])

    def _gradient_norm(self) -> Tensor:
        """The Euclidean norm of the whole gradient, 0-dim."""
        parameters = self.classifier.module.parameters()
        return get_total_norm([p.grad for p in parameters if p.grad is not None])

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
        return max(float(group["lr"]) for group in self.optimizer.param_groups)

    def _seconds_in_epoch(self) -> float:
        return self._seconds + time.perf_counter() - self._since

    def state_dict(self) -> dict[str, Any]:
        """All that a resume needs beside the classifier's own tensors: between epochs, or called by `on_step`
        under a method that says `resumes_within_epoch`.

        Raises:
            TrainingError, PluginError: a step has led to what is not finite.
        """
        self.finite.look()
        state = {
            "optimizer": self.optimizer.state_dict(),
            "method": self.method.state_dict(),
            "pool": self.pool_record.state_dict(),
            **({} if self.average is None else {"average": self.average.state_dict()}),
        }
        if not self.totals.num_steps:
            return {"next_epoch": self.next_epoch, **state}
        # Under other names: versions that know states between epochs alone must not take it for one.
        randomness = RandomState.capture(self.classifier.device)
        return {
            "epoch": self.next_epoch,
            "totals": self.totals.state_dict(),
            "random_state": {"cpu": randomness.cpu, "device": randomness.device},
            "seconds": self._seconds_in_epoch(),
            **state,
        }

    def load_state_dict(self, state: dict[str, Any], average: Mapping[str, Tensor] | None = None) -> None:
        """Go on from a `state_dict`, and the tensors of the average of weights where there is one."""
        if self.average is not None and average is not None:
            self.average.load(state["average"], average)
        self.optimizer.load_state_dict(state["optimizer"])
        self.method.load_state_dict(state["method"])
        self.pool_record.load_state_dict(state["pool"])
        if "epoch" not in state:
            self.next_epoch = state["next_epoch"]
            return
        self.next_epoch, self._seconds = state["epoch"], state["seconds"]
        self.totals.load_state_dict(state["totals"], self.classifier.device)
        self._randomness = RandomState(**state["random_state"])


@contextmanager
def missing_kernels_named() -> Iterator[None]:
    """Say in a sentence that torch has no deterministic kernel for what the block does."""
    try:
        yield
    except RuntimeError as error:
        operation, has_none, _ = str(error).partition(" does not have a deterministic implementation")
        if not has_none:
            raise
        raise TrainingError(
            f"--deterministic: {operation} has no deterministic kernel; leave it out, or use another network "
            "or reweighter"
        ) from error
