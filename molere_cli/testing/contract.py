"""What all checks share: how a contract is broken, and whose turn it is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, TypeVar

import torch
from torch import Tensor

from molere_cli.registry.hookspecs import hookimpl
from molere_cli.registry.option_errors import validate_options
from molere_cli.registry.references import Spec
from molere_cli.registry.registry import Registry

UNDER_TEST = "under_test"
"""The plugin that what is checked is taken for, so that it is watched like any third party's."""

SpecT = TypeVar("SpecT", bound=Spec)


class BrokenContract(AssertionError):
    """What the core counts on does not hold for something that a plugin offers."""


def expect(holds: bool, spec: Spec, contract: str) -> None:
    """Raise BrokenContract unless it holds; `contract` is one sentence that says what must hold."""
    if not holds:
        raise BrokenContract(f"{spec.kind} {spec.name!r}: {contract}")


def under_test(spec: SpecT) -> SpecT:
    """The same record, watched as a third party's."""
    return spec.of(UNDER_TEST)


def offer(registry: Registry, hook: str, spec: Spec, *, plugin: str = UNDER_TEST) -> None:
    """Register a record as that of a plugin of its own; `PLUGIN:NAME` then asks for it."""
    registry.add(SimpleNamespace(**{hook: hookimpl(lambda register: register(spec))}), plugin)


def options_of(spec: Any, options: Mapping[str, Any] | None) -> Any:
    """Its options from names and values, as `KEY=VALUE` flags give them.

    Raises:
        ConfigError: an option is unknown or wrong.
    """
    return validate_options(spec.options, options or {}, owner=f"{spec.kind} {spec.name!r}")


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """The block under this global seed; the random state from before comes back after it."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def same_tensors(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    """Whether both have the same names, and under each the same values to the bit."""
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def copied(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in tensors.items()}
