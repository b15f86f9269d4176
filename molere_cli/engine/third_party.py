"""What third parties' plugins give, with their mistakes turned into sentences.

Checks look at shapes and types, and at values only where they lie on the CPU.
Shapes: N examples of the pool, B of a batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
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
        noun: what it is, for the sentence. shape: None represents any of one dimension. dtype: None stands
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


def checked_method(method: Method, spec: Spec, context: TrainingContext) -> Method:
    """A third party's method, its public calls watched and checked from now on: an error names its plugin,
    and so does what the loop could not use.

    Every call of `Method` is wrapped in place, with a check where `CHECKS` has one, so that none can be left
    out and the method's own declarations stay what they are.
    """
    pool = _Pool(spec, len(context.labels))
    for hook in HOOKS:
        setattr(method, hook, _watched(getattr(method, hook), hook, pool))
    return method


def _watched(own: Callable[..., Any], hook: str, pool: _Pool) -> Callable[..., Any]:
    check = CHECKS.get(hook)

    def call(*arguments: Any, **options: Any) -> Any:
        with pool.spec.watched(hook):
            given = own(*arguments, **options)
        return given if check is None else check(pool, given, hook, *arguments)

    return call


@dataclass(frozen=True)
class _Pool:
    """Whose method it is, and how many examples the pool has."""

    spec: Spec
    num_examples: int


def _positions(pool: _Pool, given: Any, hook: str, *_rest: Any) -> Tensor:
    spec, noun = pool.spec, f"positions from {hook}"
    positions = checked_tensor(spec, given, noun, hook=hook, shape=None, dtype=torch.int64)
    if not len(positions):
        raise spec.error(f"gave no {noun}")
    low, high = (int(bound) for bound in positions.aminmax())
    if low < 0 or high >= pool.num_examples:
        strange = low if low < 0 else high
        raise spec.error(f"gave {strange} among {noun}, but the pool has {pool.num_examples} examples")
    return positions


def _batches(pool: _Pool, given: Any, hook: str, *_rest: Any) -> list[Tensor]:
    batches: list[Tensor] = pool.spec.expected(given, list, hook=hook)
    for batch in batches:
        _positions(pool, batch, hook)
    if not batches:
        raise pool.spec.error("gave no batch from batches")
    return batches


def _selected(pool: _Pool, given: Any, hook: str, *_rest: Any) -> Batch:
    selected: Batch = pool.spec.expected(given, Batch, hook=hook)
    lengths = tuple(len(pool.spec.expected(member, Tensor, hook=hook)) for member in selected[:3])
    if len(set(lengths)) > 1 or 0 in lengths:
        raise pool.spec.error("gave {} positions, {} images and {} labels from select".format(*lengths))
    return selected


def _weights(pool: _Pool, given: Any, hook: str, step: Step) -> Tensor | None:
    if given is None:
        return None
    shape, device = tuple(step.losses.shape), step.losses.device
    weights_B = checked_tensor(pool.spec, given, "weights", hook=hook, shape=shape, dtype=None, device=device)
    if weights_B.requires_grad:
        raise pool.spec.error("gave weights that carry a graph; detach them")
    return weights_B


def _loss(pool: _Pool, given: Any, hook: str, step: Step, *_rest: Any) -> Tensor:
    device = step.losses.device
    loss = checked_tensor(pool.spec, given, "a loss", hook=hook, shape=(), dtype=None, device=device)
    if not loss.requires_grad:
        raise pool.spec.error("gave a loss without a graph; make it of step.losses or step.logits")
    return loss


def _metrics(pool: _Pool, given: Any, hook: str) -> dict[str, float]:
    metrics: dict[str, float] = pool.spec.expected(given, dict, hook=hook)
    for name, value in metrics.items():
        if not isinstance(value, int | float):
            raise pool.spec.error(f"gave {type(value).__name__} as metric {name!r}, not a number")
    return metrics


def _mask(pool: _Pool, given: Any, hook: str) -> Tensor | None:
    if given is None:
        return None
    shape = (pool.num_examples,)
    return checked_tensor(pool.spec, given, "a mask", hook=hook, shape=shape, dtype=torch.bool)


def _state(pool: _Pool, given: Any, hook: str) -> dict[str, Any]:
    state: dict[str, Any] = pool.spec.expected(given, dict, hook=hook)
    for path, value in _leaves(state):
        if not (value is None or isinstance(value, Tensor | bool | int | float | str)):
            raise pool.spec.error(
                f"gave {type(value).__name__} as {path} from state_dict; a checkpoint holds tensors, "
                "numbers and strings"
            )
    return state


HOOKS = tuple(name for name, value in vars(Method).items() if callable(value) and not name.startswith("_"))
"""The calls of a method, all of them."""
CHECKS: dict[str, Callable[..., Any]] = {
    "before_epoch": _positions,
    "resume_epoch": _positions,
    "batches": _batches,
    "select": _selected,
    "weights": _weights,
    "loss": _loss,
    "metrics": _metrics,
    "in_validation": _mask,
    "state_dict": _state,
}
"""What is made of the answer to a call: the same, once it is what the loop can use."""


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
