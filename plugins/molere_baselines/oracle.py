"""What reweighting could do if it knew: weights by true group, by clean label, or by class.

Shapes: N examples of the pool, B of a batch.
"""

from __future__ import annotations

import torch
from torch import Tensor

from molere_baselines.options import OracleOptions
from molere_cli import ConfigError, Method, Step, TrainingContext, training_positions


def balancing_weights(kinds_N: Tensor, trains_N: Tensor) -> Tensor:
    """One over the number of examples of the same kind among those that train; 0 for the rest, float64 (N,).

    Args:
        kinds_N: int64, group or class. trains_N: bool.
    """
    counts = kinds_N[trains_N].bincount(minlength=int(kinds_N.max()) + 1)
    return (1 / counts.clamp_min(1).double())[kinds_N] * trains_N


class Oracle(Method):
    """Fixed weights from what a real method never knows; their mean over the training examples is 1."""

    def __init__(self, context: TrainingContext) -> None:
        options: OracleOptions = context.options
        self._positions = training_positions(context.config, context.labels, context.in_validation)
        self._in_validation = context.in_validation
        trains_N = torch.zeros(len(context.labels), dtype=torch.bool)
        trains_N[self._positions] = True
        weights_N = _weights(context, trains_N, by=options.by)
        weights_N = weights_N / weights_N[trains_N].mean()
        self._weights_N = weights_N.float().to(context.classifier.device)

    def before_epoch(self, epoch: int) -> Tensor:
        return self._positions

    def weights(self, step: Step) -> Tensor | None:
        return self._weights_N[step.batch.positions]

    def after_step(self, step: Step) -> None:
        pass

    def in_validation(self) -> Tensor | None:
        return self._in_validation


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
