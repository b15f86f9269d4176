"""Empirical risk minimisation."""

from __future__ import annotations

from torch import Tensor

from molere_cli.engine.method import Method, TrainingContext, training_positions
from molere_cli.engine.step import Step


class ERM(Method):
    """Empirical risk minimisation: every example counts the same."""

    def __init__(self, context: TrainingContext) -> None:
        self._positions = training_positions(context.config, context.labels, context.in_validation)
        self._in_validation = context.in_validation

    def before_epoch(self, epoch: int) -> Tensor:
        return self._positions

    def weights(self, step: Step) -> Tensor | None:
        return None

    def after_step(self, step: Step) -> None:
        pass

    def in_validation(self) -> Tensor | None:
        return self._in_validation
