"""The contract of a method: weights that can be used, runs that can be repeated, promises that are kept."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from molere_cli.config.run_config import RunConfig
from molere_cli.engine.step import Step
from molere_cli.registry.registry import Registry, load_plugins
from molere_cli.registry.specs import MethodSpec
from molere_cli.testing.contract import UNDER_TEST, copied, expect, offer, same_tensors
from molere_cli.testing.reproducible_runs import NUM_EPOCHS, check_runs, tiny_engine
from molere_cli.testing.tiny_data import PLAIN_NET, TINY_DATASET, TINY_NET, tiny_registry

BATCH_SIZE = 16
CHUNK_TOLERANCE = 1e-2
"""Of a loss that is added up in another order, relative; a rank of hardness may turn on the last bit."""


def check_method(
    method: MethodSpec | str,
    *,
    options: Mapping[str, Any] | None = None,
    settings: Mapping[str, Any] | None = None,
) -> None:
    """Train with a method, on 64 images with wrong labels and groups, whole and stopped.

    Args:
        method: its record, or the name of an installed one.
        options: its own.
        settings: of the run beside those (`{"split": "random"}`), as `molere.train` takes them.

    Raises:
        BrokenContract, PluginError, TrainingError: it breaks the contract, in one sentence that says how.
    """
    spec = load_plugins().methods.get(method) if isinstance(method, str) else method
    registry = tiny_registry()
    offer(registry, "register_methods", spec)
    given = {"method": f"{UNDER_TEST}:{spec.name}", "method_option": _as_text(options), **(settings or {})}
    config = tiny_run(**given)
    _check_steps(spec, config, registry)
    check_runs(spec, config, registry)
    if tiny_engine(config, registry).loop.method.batch_parts != "whole":
        _check_chunks(spec, tiny_run(**{**given, "backbone": PLAIN_NET.name}), registry)


def tiny_run(**settings: Any) -> RunConfig:
    """The configuration of a run on tiny data."""
    common = {
        "dataset": TINY_DATASET.name,
        "backbone": TINY_NET.name,
        "epochs": NUM_EPOCHS,
        "batch_size": BATCH_SIZE,
        "precision": "fp32",
        "device": "cpu",
    }
    return RunConfig.of(**{**common, **settings})


def _as_text(options: Mapping[str, Any] | None) -> dict[str, str]:
    return {name: str(value) for name, value in (options or {}).items()}


def _check_steps(spec: MethodSpec, config: RunConfig, registry: Registry) -> None:
    """A run in which every call of `weights` is looked at."""
    engine = tiny_engine(config, registry)
    own, method, module = engine.loop.method.weights, engine.loop.method, engine.classifier.module

    def weights(step: Step) -> Tensor | None:
        before = copied(module.state_dict())
        given = own(step)
        expect(
            same_tensors(before, module.state_dict()),
            spec,
            "weights must leave the classifier's parameters and buffers as they are",
        )
        return given

    vars(method)["weights"] = weights
    deque(engine.loop.epochs(), maxlen=0)


def _check_chunks(spec: MethodSpec, config: RunConfig, registry: Registry) -> None:
    """The same run with every batch in two chunks, on a network that is none the wiser."""
    whole, in_two = (
        [record["train/loss"] for record in tiny_engine(each, registry).loop.epochs()]
        for each in (config, config.updated(accumulate=2))
    )
    expect(
        all(abs(a - b) <= CHUNK_TOLERANCE * abs(a) for a, b in zip(whole, in_two, strict=True)),
        spec,
        'with batch_parts = "chunks" a run whose batches come in two chunks must be the one whose batches '
        "come whole, but for rounding: weights go by the whole batch, and loss is a mean over examples",
    )
