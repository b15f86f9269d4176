"""Learned reweighting on a fixed split."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from molere_cli.engine.method import TrainingContext, validation_positions
from molere_cli.methods.reweighting import ReweightedMethod


class LRW(ReweightedMethod):
    """Learned reweighting on a fixed split, or against another dataset.

    Equations (2) to (5) of docs/concepts/method.md.
    """

    def __init__(self, context: TrainingContext) -> None:
        super().__init__(context)
        self._reweighting.set_validation(validation_positions(context), tag=0)

    def before_epoch(self, epoch: int) -> Tensor:
        self._reweighting.start_epoch(epoch, num_steps=self.context.num_steps(self.positions))
        return self.positions

    def resume_epoch(self, epoch: int) -> Tensor:
        self._reweighting.resume_epoch(epoch, num_steps=self.context.num_steps(self.positions))
        return self.positions

    def metrics(self) -> dict[str, float]:
        return self._reweighting.metrics()

    def state_dict(self) -> dict[str, Any]:
        return self._reweighting.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._reweighting.load_state_dict(state)
