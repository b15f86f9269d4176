"""One classifier step, as methods see it."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from molere_cli.data.feed import Batch
from molere_cli.engine.classifier import RandomState
from molere_cli.engine.layer_rule import StepTrace
from molere_cli.engine.response import Clipping


@dataclass(eq=False)
class Step:
    """A classifier step in the making.

    epoch, in_epoch: numbers from 0. logits: float32 (B, C) and losses: float32 (B,), with their graph
    until the step is taken. features: (B, D), detached, None unless the method asked for them.
    randomness: the global random state that the forward pass started from. clipping: set once gradients
    have been clipped. trace: what the layers have seen, where the method `follows` the step and the
    classifier can be followed.

    of_whole: where several ranks share the batch, the step of all of it: positions, labels, and gathered
    logits and losses without a graph; images are this rank's, and features are none.
    """

    epoch: int
    in_epoch: int
    batch: Batch
    logits: Tensor
    losses: Tensor
    features: Tensor | None
    randomness: RandomState
    clipping: Clipping | None = None
    trace: StepTrace | None = None
    of_whole: Step | None = None

    @property
    def whole(self) -> Step:
        """The step of the whole batch, whoever shares it."""
        return self.of_whole or self
