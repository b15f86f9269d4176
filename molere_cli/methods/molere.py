"""Learned reweighting on a split that is learned with it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from molere_cli.engine.method import Method, TrainingContext, num_steps, positions_of, training_positions
from molere_cli.engine.step import Step
from molere_cli.methods.reweighting import make_reweighting
from molere_cli.methods.splitter import SplitterTraining
from molere_cli.randomness import derived_generator
from molere_cli.splits.quota import select_by_quota


class MOLERE(Method):
    """Learned reweighting on a split that is learned with it (LRW-Opt in the paper).

    Warm-up runs on a random split of size delta; from then on the splitter redraws it every
    `splitter_interval` epochs.
    """

    remedy = ", or --weight-bound 10"

    def __init__(self, context: TrainingContext) -> None:
        super().__init__(context)
        config = context.config
        self._in_validation = random_split(context.labels, delta=config.split.delta, seed=config.machine.seed)
        self._reweighting = make_reweighting(context)
        self._reweighting.set_validation(positions_of(self._in_validation), tag=0)
        self._splitting = SplitterTraining(
            config.splitter,
            delta=config.split.delta,
            batch_size=config.classifier.batch_size,
            seed=config.machine.seed,
            classifier=context.classifier,
            feed=context.feed,
            splitter=context.make_splitter(),
            num_classes=context.num_classes,
        )
        self._split_metrics: dict[str, float] = {}
        self.needs_features = context.reweighter_needs_features

    def before_epoch(self, epoch: int) -> Tensor:
        self._split_metrics = {}
        # An untrained classifier is wrong everywhere, which says nothing about which examples are hard.
        since_warmup = epoch - self._reweighting.warmup_epochs
        if since_warmup >= 0 and since_warmup % self.context.config.splitter.splitter_interval == 0:
            self._in_validation, self._split_metrics = self._splitting.update(
                self._in_validation, epoch=epoch
            )
            # A tag of its own: another set in the old order would start where the old one was left.
            self._reweighting.set_validation(positions_of(self._in_validation), tag=epoch)
        # The split has moved, and with `--train-on train` what trains moves with it.
        config = self.context.config
        self.positions = training_positions(config, self.context.labels, self._in_validation)
        self._reweighting.start_epoch(epoch, num_steps=num_steps(self.positions, config))
        return self.positions

    def weights(self, step: Step) -> Tensor | None:
        return self._reweighting.weights(step)

    def after_step(self, step: Step) -> None:
        self._reweighting.after_step(step)

    def metrics(self) -> dict[str, float]:
        return {**self._split_metrics, **self._reweighting.metrics()}

    def in_validation(self) -> Tensor | None:
        return self._in_validation

    def state_dict(self) -> dict[str, Any]:
        return {
            "reweighting": self._reweighting.state_dict(),
            "splitting": self._splitting.state_dict(),
            "in_validation": self._in_validation,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._reweighting.load_state_dict(state["reweighting"])
        self._splitting.load_state_dict(state["splitting"])
        self._in_validation = state["in_validation"].cpu()


def random_split(labels: Tensor, *, delta: float, seed: int) -> Tensor:
    """A class-stratified random validation set, bool (N,)."""
    priority = torch.rand(len(labels), generator=derived_generator(seed, "random split"))
    return select_by_quota(labels, priority, delta=delta)
