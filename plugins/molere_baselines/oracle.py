"""What reweighting could do if it knew: weights by true group, by clean label, or by class.

Shapes: N examples of the pool, B of a batch.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from molere_cli import ConfigError, Method, Options, Step, TrainingContext


class OracleOptions(Options):
    """Options of `oracle`."""

    by: Literal["groups", "clean", "classes"] = Field(
        "groups", description="Balance the groups, leave out wrong labels, or balance the classes."
    )


def balancing_weights(kinds_N: Tensor, trains_N: Tensor) -> Tensor:
    """One over the number of examples of the same kind among those that train; 0 for the rest, float64 (N,).

    Args:
        kinds_N: int64, group or class. trains_N: bool.
    """
    counts = kinds_N[trains_N].bincount(minlength=int(kinds_N.max()) + 1)
    return (1 / counts.clamp_min(1).double())[kinds_N] * trains_N


class Oracle(Method):
    """Fixed weights from what a real method never knows; their mean over the training examples is 1."""

    resumes_within_epoch = True
    batch_parts = "chunks"
    weights_read = "nothing"

    options: OracleOptions

    def __init__(self, context: TrainingContext) -> None:
        super().__init__(context)
        trains_N = torch.zeros(len(context.labels), dtype=torch.bool)
        trains_N[self.positions] = True
        weights_N = _weights(context, trains_N, by=self.options.by)
        weights_N = weights_N / weights_N[trains_N].mean()
        self._weights_N = weights_N.float().to(context.classifier.device)

    def weights(self, step: Step) -> Tensor | None:
        return self._weights_N[step.batch.positions]


def _weights(context: TrainingContext, trains_N: Tensor, *, by: str) -> Tensor:
    if by == "groups":
        if context.groups is None:
            raise ConfigError(
                "oracle by=groups needs a dataset with groups; colour-digits has them; "
                "say --method-option by=classes or another dataset"
            )
        return balancing_weights(context.groups, trains_N)
    if by == "classes":
        return balancing_weights(context.labels, trains_N)
    if context.clean_labels is None:
        raise ConfigError(
            "oracle by=clean needs labels that are known to be wrong; add --label-noise uniform, say"
        )
    return (context.labels == context.clean_labels).double() * trains_N
