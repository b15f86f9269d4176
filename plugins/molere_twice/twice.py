"""Two passes of learned reweighting.

Online, the weights come late and jump: they follow the hypergradient of the classifier as it is at that step,
so that early epochs train at equal weights and later ones at weights that differ from visit to visit. Their
geometric mean over the visits keeps what is constant in them, and a second training has it from its first
step on: the lower level of the problem, theta*(phi), for one fixed phi. Training twice is the idea of Just
Train Twice (Liu et al., ICML 2021, arXiv 2107.09044), which upsamples the errors of the first training.

Shapes: N examples of the pool.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from molere_cli import Method, Step, TrainingContext, auxiliary_loop, training_positions


class Twice(Method):
    """Trains by a method that learns weights, and from the start again with each example's mean weight.

    The second pass is a run of ERM with fixed weights, with the initial parameters, the order of data and the
    schedule of the first. Under `molere-twice` the split is the one that the first pass ended on.
    """

    def __init__(self, context: TrainingContext, *, first_pass: Callable[[TrainingContext], Method]) -> None:
        self._context = context
        self._first_pass = first_pass
        self._in_validation = context.in_validation
        self._weights_N: Tensor | None = None

    def before_epoch(self, epoch: int) -> Tensor:
        if self._weights_N is None:
            self._learn_weights()
        return self._positions()

    def _positions(self) -> Tensor:
        return training_positions(self._context.config, self._context.labels, self._in_validation)

    def _learn_weights(self) -> None:
        context = self._context
        context.note(f"first pass: {context.config.epochs} epochs to learn the weights")
        loop = auxiliary_loop(context, self._first_pass)
        for _ in loop.epochs():
            pass
        self._in_validation = loop.method.in_validation()
        # What the first pass never trained on has no weight of its own.
        weights_N = loop.pool_record.mean_weight.nan_to_num(nan=1.0)
        self._weights_N = weights_N / weights_N[self._positions()].mean()
        context.note("second pass: from the start, with each example's mean weight")

    def weights(self, step: Step) -> Tensor | None:
        assert self._weights_N is not None
        return self._weights_N[step.batch.positions]

    def after_step(self, step: Step) -> None:
        pass

    def in_validation(self) -> Tensor | None:
        return self._in_validation

    def state_dict(self) -> dict[str, Any]:
        return {"weights": self._weights_N, "in_validation": self._in_validation}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._weights_N = state["weights"].to(self._context.classifier.device)
        in_validation = state["in_validation"]
        self._in_validation = None if in_validation is None else in_validation.cpu()
