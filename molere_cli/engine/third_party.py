"""What third parties' plugins give, with their mistakes turned into sentences.

Checks look at shapes and types, and at values only where they lie on the CPU.
Shapes: N examples of the pool, B of a batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from molere_cli.data.check import dtype_name
from molere_cli.data.feed import Batch
from molere_cli.engine.method import Method, TrainingContext
from molere_cli.engine.step import Step
from molere_cli.registry.references import Spec
from molere_cli.registry.specs import ReweighterInput, ReweighterSpec

CPU = torch.device("cpu")


def checked_tensor(
    spec: Spec,
    given: Any,
    noun: str,
    *,
    hook: str,
    shape: tuple[int, ...] | None,
    dtype: torch.dtype | None,
    device: torch.device = CPU,
) -> Tensor:
    """What a hook gave, if it is such a tensor.

    Args:
        noun: what it is, for the sentence. shape: None stands for any of one dimension. dtype: None stands
            for any floating one.

    Raises:
        PluginError: it is not, and a third party's.
    """
    found: Tensor = spec.expected(given, Tensor, hook=hook)
    if found.shape != shape and (shape is not None or found.ndim != 1):
        wanted = "(*,)" if shape is None else str(shape)
        raise spec.error(f"gave {noun} of shape {tuple(found.shape)}, not {wanted}")
    if found.dtype != dtype and (dtype is not None or not found.is_floating_point()):
        wanted = "a floating one" if dtype is None else dtype_name(dtype)
        raise spec.error(f"gave {noun} of dtype {dtype_name(found.dtype)}, not {wanted}")
    if found.device != device:
        raise spec.error(f"gave {noun} on {found.device}, not on {device}")
    return found


class CheckedMethod(Method):
    """A third party's method: an error names its plugin, and so does what the loop could not use."""

    def __init__(self, method: Method, spec: Spec, context: TrainingContext) -> None:
        super().__init__(context)
        self.third_party = spec
        self.needs_features, self.needs_losses = method.needs_features, method.needs_losses
        self.shares_batches, self.takes_chunks = method.shares_batches, method.takes_chunks
        self.resumes_within_epoch, self.remedy = method.resumes_within_epoch, method.remedy
        self._method, self._spec, self._num_examples = method, spec, len(context.labels)

    def before_epoch(self, epoch: int) -> Tensor:
        with self._spec.watched("before_epoch"):
            positions = self._method.before_epoch(epoch)
        return self._checked_positions(positions, hook="before_epoch")

    def resume_epoch(self, epoch: int) -> Tensor:
        with self._spec.watched("resume_epoch"):
            positions = self._method.resume_epoch(epoch)
        return self._checked_positions(positions, hook="resume_epoch")

    def batches(self, epoch: int, positions: Tensor, *, batch_size: int, seed: int) -> list[Tensor]:
        with self._spec.watched("batches"):
            batches = self._method.batches(epoch, positions, batch_size=batch_size, seed=seed)
        for batch in self._spec.expected(batches, list, hook="batches"):
            self._checked_positions(batch, hook="batches")
        if not batches:
            raise self._spec.error("gave no batch from batches")
        return batches

    def _checked_positions(self, given: Tensor, *, hook: str) -> Tensor:
        noun, spec = f"positions from {hook}", self._spec
        positions = checked_tensor(spec, given, noun, hook=hook, shape=None, dtype=torch.int64)
        if not len(positions):
            raise spec.error(f"gave no {noun}")
        low, high = (int(bound) for bound in positions.aminmax())
        if low < 0 or high >= self._num_examples:
            strange = low if low < 0 else high
            raise spec.error(f"gave {strange} among {noun}, but the pool has {self._num_examples} examples")
        return positions

    def select(self, batch: Batch) -> Batch:
        with self._spec.watched("select"):
            selected = self._method.select(batch)
        members = self._spec.expected(selected, Batch, hook="select")[:3]
        lengths = tuple(len(self._spec.expected(member, Tensor, hook="select")) for member in members)
        if len(set(lengths)) > 1 or 0 in lengths:
            raise self._spec.error("gave {} positions, {} images and {} labels from select".format(*lengths))
        return selected

    def weights(self, step: Step) -> Tensor | None:
        with self._spec.watched("weights"):
            weights_B = self._method.weights(step)
        if weights_B is None:
            return None
        shape, device = tuple(step.losses.shape), step.losses.device
        checked_tensor(
            self._spec, weights_B, "weights", hook="weights", shape=shape, dtype=None, device=device
        )
        if weights_B.requires_grad:
            raise self._spec.error("gave weights that carry a graph; detach them")
        return weights_B

    def loss(self, step: Step, weights: Tensor | None) -> Tensor:
        with self._spec.watched("loss"):
            loss = self._method.loss(step, weights)
        device = step.losses.device
        checked_tensor(self._spec, loss, "a loss", hook="loss", shape=(), dtype=None, device=device)
        if not loss.requires_grad:
            raise self._spec.error("gave a loss without a graph; make it of step.losses or step.logits")
        return loss

    def after_step(self, step: Step) -> None:
        with self._spec.watched("after_step"):
            self._method.after_step(step)

    def metrics(self) -> dict[str, float]:
        with self._spec.watched("metrics"):
            metrics = self._method.metrics()
        for name, value in self._spec.expected(metrics, dict, hook="metrics").items():
            if not isinstance(value, int | float):
                raise self._spec.error(f"gave {type(value).__name__} as metric {name!r}, not a number")
        return metrics

    def in_validation(self) -> Tensor | None:
        with self._spec.watched("in_validation"):
            mask_N = self._method.in_validation()
        if mask_N is None:
            return None
        return checked_tensor(
            self._spec, mask_N, "a mask", hook="in_validation", shape=(self._num_examples,), dtype=torch.bool
        )

    def state_dict(self) -> dict[str, Any]:
        with self._spec.watched("state_dict"):
            state = self._method.state_dict()
        for path, value in _leaves(self._spec.expected(state, dict, hook="state_dict")):
            if not (value is None or isinstance(value, Tensor | bool | int | float | str)):
                raise self._spec.error(
                    f"gave {type(value).__name__} as {path} from state_dict; a checkpoint holds tensors, "
                    "numbers and strings"
                )
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        with self._spec.watched("load_state_dict"):
            self._method.load_state_dict(state)


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        items = list(value.items())
    elif isinstance(value, list | tuple):
        items = list(enumerate(value))
    else:
        yield path, value
        return
    for key, item in items:
        yield from _leaves(item, f"{path}/{key}" if path else str(key))


def watch_forward(reweighter: nn.Module, spec: ReweighterSpec) -> nn.Module:
    """The reweighter itself, its forward pass watched and checked from now on if it is a third party's."""
    if spec.plugin is None:
        return reweighter
    forward = reweighter.forward

    def checked(batch: ReweighterInput) -> Tensor:
        with spec.watched("forward"):
            given = forward(batch)
        shape, device = tuple(batch.losses.shape), batch.losses.device
        log_weights_B = checked_tensor(
            spec, given, "log-weights", hook="forward", shape=shape, dtype=None, device=device
        )
        if torch.is_grad_enabled() and not log_weights_B.requires_grad:
            raise spec.error("gave log-weights without a graph to its parameters")
        return log_weights_B

    reweighter.forward = checked
    return reweighter
