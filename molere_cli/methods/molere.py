"""Learned reweighting on a split that is learned with it."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from molere_cli.engine.method import TrainingContext, positions_of, training_positions
from molere_cli.methods.reweighting import ReweightedMethod
from molere_cli.methods.splitter import SplitterTraining
from molere_cli.splits.quota import random_split


class MOLERE(ReweightedMethod):
    """Learned reweighting on a split that is learned with it (LRW-Opt in the paper).

    Warm-up runs on a random split of size delta, or on the split that it was told to start from; from then on
    the splitter redraws it every `splitter_interval` epochs. A start says what to ask, too: validation keeps
    to the share that it represents, and where the rest of the pool is suspect, the splitter looks for the
    learnable examples instead of the hard ones.
    """

    def __init__(self, context: TrainingContext) -> None:
        super().__init__(context)
        config = context.config
        delta, start = config.split.delta, context.split
        if start is None:
            self._in_validation = random_split(context.labels, delta=delta, seed=config.machine.seed)
        else:
            self._in_validation = start.in_validation
            delta = min(delta, start.info.represented_fraction or delta)
        self._reweighting.set_validation(positions_of(self._in_validation), tag=0)
        self._splitting = SplitterTraining(
            config.splitter,
            delta=delta,
            seeks="hard" if start is None or start.info.keeps_base_weight else "learnable",
            batch_size=config.classifier.batch_size,
            seed=config.machine.seed,
            classifier=context.classifier,
            feed=context.feed,
            splitter=context.make_splitter(),
            num_classes=context.num_classes,
        )
        self._split_metrics: dict[str, float] = {}

    def before_epoch(self, epoch: int) -> Tensor:
        self._split_metrics = {}
        # An untrained classifier is wrong everywhere, which says nothing about which examples are hard.
        # Weights may be learned from a start at once, the splitter not.
        first_update = self._reweighting.warmup_epochs or (0 if self.context.split is None else 1)
        since_warmup = epoch - first_update
        learns = not self._reweighting.limits.leave_nothing
        if (
            learns
            and since_warmup >= 0
            and since_warmup % self.context.config.splitter.splitter_interval == 0
        ):
            self._in_validation, self._split_metrics = self._splitting.update(
                self._in_validation, epoch=epoch
            )
            # A tag of its own: another set in the old order would start where the old one was left.
            self._reweighting.set_validation(positions_of(self._in_validation), tag=epoch)
        self._move_positions()
        self._reweighting.start_epoch(epoch, num_steps=self.context.num_steps(self.positions))
        return self.positions

    def resume_epoch(self, epoch: int) -> Tensor:
        self._move_positions()
        self._reweighting.resume_epoch(epoch, num_steps=self.context.num_steps(self.positions))
        return self.positions

    def _move_positions(self) -> None:
        """The split has moved, and with `--train-on train` what trains moves with it."""
        context = self.context
        self.positions = training_positions(context.config, context.labels, self._in_validation)

    def metrics(self) -> dict[str, float]:
        return {**self._split_metrics, **self._reweighting.metrics()}

    def in_validation(self) -> Tensor | None:
        return self._in_validation

    def state_dict(self) -> dict[str, Any]:
        return {
            "reweighting": self._reweighting.state_dict(),
            "splitting": self._splitting.state_dict(),
            "in_validation": self._in_validation,
            "split_metrics": self._split_metrics,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._reweighting.load_state_dict(state["reweighting"])
        self._splitting.load_state_dict(state["splitting"])
        self._in_validation = state["in_validation"].cpu()
        self._split_metrics = state.get("split_metrics", {})
