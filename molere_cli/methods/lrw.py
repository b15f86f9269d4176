"""Learned reweighting on a fixed split."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from molere_cli.engine.method import Method, TrainingContext, validation_positions
from molere_cli.engine.step import Step
from molere_cli.methods.reweighting import make_reweighting, weights_read


class LRW(Method):
    """Learned reweighting on a fixed split, or against another dataset.

    Equations (2) to (5) of docs/concepts/method.md.
    """

    resumes_within_epoch = True
    batch_parts = "ranks"

    def __init__(self, context: TrainingContext) -> None:
        super().__init__(context)
        self._reweighting = make_reweighting(context)
        self._reweighting.set_validation(validation_positions(context), tag=0)
        assert context.reweighter is not None
        self.weights_read = weights_read(context.reweighter)

    def before_epoch(self, epoch: int) -> Tensor:
        self._reweighting.start_epoch(epoch, num_steps=self.context.num_steps(self.positions))
        return self.positions

    def resume_epoch(self, epoch: int) -> Tensor:
        self._reweighting.resume_epoch(epoch, num_steps=self.context.num_steps(self.positions))
        return self.positions

    def weights(self, step: Step) -> Tensor | None:
        return self._reweighting.weights(step)

    def follows(self, epoch: int, in_epoch: int) -> bool:
        return self._reweighting.follows(epoch, in_epoch)

    def after_step(self, step: Step) -> None:
        self._reweighting.after_step(step)

    def metrics(self) -> dict[str, float]:
        return self._reweighting.metrics()

    def state_dict(self) -> dict[str, Any]:
        return self._reweighting.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._reweighting.load_state_dict(state)
