"""The exponential moving average of a classifier's weights, beside the weights that train."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from timm.utils import ModelEmaV3
from torch import Tensor, nn

from molere_cli.engine.checkpoint import classifier_tensors

AVERAGE_SUFFIX = "+ema"
"""Behind the name of a test set: what the average says of it."""


class WeightAverage:
    """By timm: after step t the average keeps min(decay, 1 - t^(-2/3)) of itself, buffers included, so that
    the random weights of the beginning are soon forgotten."""

    def __init__(self, module: nn.Module, decay: float) -> None:
        self._average = ModelEmaV3(module, decay=decay, use_warmup=True)
        self._num_steps = 0

    def update(self, module: nn.Module) -> None:
        """Take up the weights after a step."""
        self._num_steps += 1
        self._average.update(module, step=self._num_steps)

    def tensors(self) -> dict[str, Tensor]:
        """Parameters and buffers, as a classifier's."""
        return classifier_tensors(self._average.module)

    @contextmanager
    def replaced_by(self, tensors: Mapping[str, Tensor] | None) -> Iterator[None]:
        """With other tensors for an average, those of an earlier epoch; as it is where there are none."""
        own = self.tensors()
        self._average.module.load_state_dict(own if tensors is None else tensors)
        try:
            yield
        finally:
            self._average.module.load_state_dict(own)

    @contextmanager
    def in_place(self, module: nn.Module) -> Iterator[None]:
        """With the average in the module."""
        trained = classifier_tensors(module)
        module.load_state_dict(self._average.module.state_dict())
        try:
            yield
        finally:
            module.load_state_dict(trained)

    def state_dict(self) -> dict[str, Any]:
        """What a resume needs beside `tensors`."""
        return {"num_steps": self._num_steps}

    def load(self, state: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
        """Go on from a checkpoint's."""
        self._num_steps = state["num_steps"]
        self._average.module.load_state_dict(tensors)
