"""One classifier step, as methods see it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self

from torch import Tensor

from molere_cli.data.feed import Batch
from molere_cli.engine.layer_rule import StepTrace
from molere_cli.engine.random_state import RandomState
from molere_cli.engine.response import Clipping


@dataclass(eq=False)
class Step:
    """A classifier step in the making.

    epoch, in_epoch: numbers from 0. logits: float32 (B, C) and losses: float32 (B,), with their graph
    until the step is taken. features: (B, D), detached, None unless the method asked for them.
    randomness: the global random state that the forward pass started from. clipping: set once gradients
    have been clipped. trace: what the layers have seen, where the method `follows` the step and the
    classifier can be followed.

    is_unseen: where a batch goes through the network in chunks, logits and losses have no graph; and if the
    method has no use for them (`Method.weights_read`), they are nan until the step is taken.

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
    is_unseen: bool = False

    @classmethod
    def unseen(cls, epoch: int, in_epoch: int, batch: Batch, randomness: RandomState) -> Self:
        """A step whose forward passes come chunk by chunk, once its weights are known."""
        unknown_B = batch.images.new_full((len(batch.labels),), math.nan)
        return cls(epoch, in_epoch, batch, unknown_B[:, None], unknown_B, None, randomness, is_unseen=True)

    def see(self, logits: Tensor, losses: Tensor) -> None:
        """What the passes of an `unseen` step have given, detached."""
        self.logits, self.losses, self.is_unseen = logits, losses, False

    @property
    def whole(self) -> Step:
        """The step of the whole batch, whoever shares it."""
        return self.of_whole or self
