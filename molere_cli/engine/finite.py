"""Whether losses, gradients and weights stay finite, without asking a GPU at every step.

A finite loss may have a gradient that is not (a root at 0, an overflow on the way back), and one step on it
makes every parameter nan for good.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from molere_cli.engine.method import Method
from molere_cli.engine.step import Step
from molere_cli.foundation.errors import TrainingError

STEPS_BETWEEN_LOOKS = 50


class FiniteWatch:
    """Takes down loss and gradient norm of every step, and looks at them: on a CPU at once, on a GPU at the
    first step, every `STEPS_BETWEEN_LOOKS` steps and at the end of an epoch, because each look makes the host
    wait for it."""

    def __init__(self, device: torch.device, method: Method) -> None:
        self.steps_between_looks = 1 if device.type == "cpu" else STEPS_BETWEEN_LOOKS
        self._method = method
        self._waiting: list[tuple[str, Tensor]] = []
        self._last_loss = math.nan

    def add(self, step: Step, weights_B: Tensor | None, loss: Tensor, norm: Tensor) -> float:
        """Take in a step before it is taken; the last loss that is known.

        Args:
            loss, norm: the weighted loss and the Euclidean norm of the whole gradient, 0-dim, detached.

        Raises:
            TrainingError, PluginError: as `look`.
        """
        weights_are_finite = loss.new_ones(()) if weights_B is None else weights_B.isfinite().all()
        numbers = torch.stack([loss.double(), norm.double(), weights_are_finite.double()])
        self._waiting.append((f"epoch {step.epoch + 1}, step {step.in_epoch + 1}", numbers))
        # The first step of all, too: what is reported until the next look is a loss, not "unknown".
        if len(self._waiting) >= self.steps_between_looks or math.isnan(self._last_loss):
            self.look()
        return self._last_loss

    def look(self) -> None:
        """Look at all steps since the last time.

        Raises:
            TrainingError: a loss or a gradient is not finite.
            PluginError: nor are the weights of a third party's method.
        """
        if not self._waiting:
            return
        found = torch.stack([numbers for _, numbers in self._waiting]).tolist()
        steps, self._waiting = [when for when, _ in self._waiting], []
        for when, (loss, norm, weights_are_finite) in zip(steps, found, strict=True):
            spec = self._method.spec
            if not weights_are_finite and spec is not None and spec.plugin is not None:
                raise spec.error(f"gave weights that are not finite in {when}")
            for name, value in (("training loss", loss), ("gradient's norm", norm)):
                if not math.isfinite(value):
                    hint = f"lower --lr or set --clip-grad 1{spec.hint if spec else ''}"
                    raise TrainingError(f"the {name} became {value} in {when}; {hint}")
        self._last_loss = found[-1][0]
