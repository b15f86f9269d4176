"""Two passes of learned reweighting.

Weights that are learned online come late, since the first epochs train at equal weights, and jump from visit
to visit. Their geometric mean over the visits keeps what is constant in them, and a second training starts
from there: log w_i = log W_i + r(x_i), with W the mean of the first pass and r a fresh reweighter. Training
twice is the idea of Just Train Twice (Liu et al., ICML 2021, arXiv 2107.09044), which upsamples the errors of
the first training.

Shapes: N examples of the pool, B of a batch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

from torch import Tensor, nn

from molere_cli import (
    ConfigError,
    Method,
    ReweighterInput,
    Step,
    TrainingContext,
    auxiliary_loop,
)


class WithOffset(nn.Module):
    """A reweighter whose log-weights are added to given ones of each example."""

    offset_N: Tensor

    def __init__(self, reweighter: nn.Module, offset_N: Tensor) -> None:
        super().__init__()
        self.reweighter = reweighter
        self.register_buffer("offset_N", offset_N)

    def forward(self, batch: ReweighterInput) -> Tensor:
        """(B,) log-weights."""
        return cast(Tensor, self.reweighter(batch)) + self.offset_N[batch.positions]


class Twice(Method):
    """Trains by a method that learns weights, and by the same from the start again, with the log of each
    example's mean weight as an offset and without warm-up.

    The second pass has the initial parameters, the order of data and the schedule of the first.
    """

    def __init__(self, context: TrainingContext, *, method: Callable[[TrainingContext], Method]) -> None:
        if context.config.weight_normalization != "mean":
            raise ConfigError(
                f"{context.config.method} starts from mean log-weights, which sigmoid weights have none of; "
                "leave out --weight-normalization none"
            )
        self._context = context
        self._build = method
        self._offset_N: Tensor | None = None
        self._second: Method | None = None
        self.needs_features = context.reweighter_needs_features

    def before_epoch(self, epoch: int) -> Tensor:
        if self._second is None:
            self._start_second(self._learn_offset())
        return self._pass.before_epoch(epoch)

    @property
    def _pass(self) -> Method:
        assert self._second is not None
        return self._second

    def _learn_offset(self) -> Tensor:
        context = self._context
        context.note(f"first pass: {context.config.epochs} epochs to learn the weights")
        loop = auxiliary_loop(context, self._build)
        for _ in loop.epochs():
            pass
        context.note("second pass: from the start, with each example's mean weight")
        # What the first pass never trained on has no weight of its own.
        return loop.pool_record.mean_weight.log().nan_to_num(nan=0.0)

    def _start_second(self, offset_N: Tensor) -> None:
        context = self._context
        self._offset_N = offset_N
        self._second = self._build(
            replace(
                context,
                config=context.config.updated(warmup_epochs=0),
                make_reweighter=lambda: WithOffset(context.make_reweighter(), offset_N),
            )
        )

    def weights(self, step: Step) -> Tensor | None:
        return self._pass.weights(step)

    def after_step(self, step: Step) -> None:
        self._pass.after_step(step)

    def metrics(self) -> dict[str, float]:
        return self._pass.metrics()

    def in_validation(self) -> Tensor | None:
        return self._context.in_validation if self._second is None else self._second.in_validation()

    def state_dict(self) -> dict[str, Any]:
        return {"offset": self._offset_N, "second": self._pass.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._start_second(state["offset"].to(self._context.classifier.device))
        self._pass.load_state_dict(state["second"])
