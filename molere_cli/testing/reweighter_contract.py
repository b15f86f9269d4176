"""The contract of a reweighter: log-weights, zero at the start, that can be learned and kept.

Shapes: B examples of a batch, D features.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from molere_cli.engine.third_party import watch_forward
from molere_cli.registry.registry import load_plugins
from molere_cli.registry.specs import ReweighterInput, ReweighterRequest, ReweighterSpec
from molere_cli.testing.contract import (
    UNDER_TEST,
    expect,
    offer,
    options_of,
    same_tensors,
    seeded,
    under_test,
)
from molere_cli.testing.method_contract import tiny_run
from molere_cli.testing.reproducible_runs import check_runs
from molere_cli.testing.tiny_data import IMAGE_SIZE, NUM_CLASSES, tiny_registry

NUM_EXAMPLES, BATCH_SIZE, FEATURE_DIM = 64, 12, 32
RATE = 0.05


def check_reweighter(reweighter: ReweighterSpec | str, *, options: Mapping[str, Any] | None = None) -> None:
    """Check that LRW can learn weights by a reweighter, from ERM on, and that a run of it can be resumed.

    Args:
        reweighter: its record, or the name of an installed one.

    Raises:
        BrokenContract, PluginError, TrainingError: it breaks the contract, in one sentence that says how.
    """
    found = load_plugins().reweighters.get(reweighter) if isinstance(reweighter, str) else reweighter
    spec = under_test(found)
    batch = _batch(spec)
    network = _built(spec, options)
    _check_start(spec, network, batch, _built(spec, options))
    _check_learning(spec, network, batch)
    _check_state(spec, network, batch, _built(spec, options))
    registry = tiny_registry()
    offer(registry, "register_reweighters", found)
    config = tiny_run(
        method="lrw",
        split="random",
        reweighter=f"{UNDER_TEST}:{spec.name}",
        reweighter_option={name: str(value) for name, value in (options or {}).items()},
        reweighter_interval=1,
        warmup_epochs=0,
    )
    check_runs(spec, config, registry)


def _built(spec: ReweighterSpec, options: Mapping[str, Any] | None) -> nn.Module:
    hardness_N = torch.linspace(1, -1, NUM_EXAMPLES, dtype=torch.float64)
    request = ReweighterRequest(
        num_examples=NUM_EXAMPLES,
        num_classes=NUM_CLASSES,
        feature_dim=FEATURE_DIM if spec.needs_features else None,
        options=options_of(spec, options),
        hardness=hardness_N if spec.needs_hardness else None,
        hardness_is_margin=spec.needs_hardness,
    )
    with seeded(0):
        return watch_forward(spec.expected(spec.build(request), nn.Module, hook="build"), spec)


def _batch(spec: ReweighterSpec) -> ReweighterInput:
    """Examples from all over the pool; what the reweighter has not asked for is missing, or nan."""
    generator = torch.Generator().manual_seed(1)
    losses_B = torch.rand(BATCH_SIZE, generator=generator)
    rank_B = torch.linspace(0.02, 0.98, BATCH_SIZE)
    features = torch.randn(BATCH_SIZE, FEATURE_DIM, generator=generator)
    return ReweighterInput(
        positions=torch.randperm(NUM_EXAMPLES, generator=generator)[:BATCH_SIZE],
        images=torch.randn(BATCH_SIZE, 3, IMAGE_SIZE, IMAGE_SIZE, generator=generator),
        labels=torch.arange(BATCH_SIZE) % NUM_CLASSES,
        features=features if spec.needs_features else None,
        losses=losses_B if spec.needs_losses else torch.full_like(losses_B, torch.nan),
        hardness_rank=rank_B if spec.needs_hardness else None,
        hardness_margin=2 * rank_B - 1 if spec.needs_hardness else None,
    )


def _check_start(spec: ReweighterSpec, network: nn.Module, batch: ReweighterInput, again: nn.Module) -> None:
    log_weights_B = network(batch)
    expect(
        bool(log_weights_B.isfinite().all()),
        spec,
        "log-weights must be finite, and go by what the record says it needs: other losses are nan",
    )
    expect(
        not log_weights_B.any(), spec, "log-weights must be exactly 0 at the start, where training is ERM's"
    )
    expect(
        same_tensors(network.state_dict(), again.state_dict()),
        spec,
        "two reweighters built under one seed of torch must start from the same tensors",
    )
    lr = spec.lr(4) if callable(spec.lr) else spec.lr
    expect(lr > 0, spec, f"lr must be a positive learning rate, not {lr}")


def _check_learning(spec: ReweighterSpec, network: nn.Module, batch: ReweighterInput) -> None:
    """Some steps that ask for more weight, and for the more the earlier in the batch."""
    # Sums to nothing neither in the batch nor in a class, for reweighters that tell no more apart.
    wanted_B = torch.linspace(1, -0.2, BATCH_SIZE)
    optimizer = torch.optim.Adam(network.parameters(), lr=RATE)
    for _ in range(20):
        optimizer.zero_grad()
        (-(network(batch) * wanted_B).sum()).backward()
        optimizer.step()
    log_weights_B: Tensor = network(batch).detach()
    expect(bool(log_weights_B.isfinite().all()), spec, "log-weights must stay finite")
    expect(
        bool(log_weights_B.any()),
        spec,
        "log-weights must move once their parameters do, though they start at 0: start the last layer alone "
        "at 0, since a gradient does not get through two",
    )
    expect(
        torch.equal(log_weights_B, network(batch).detach()),
        spec,
        "log-weights of one batch must be the same each time: a pass must not change the reweighter",
    )


def _check_state(spec: ReweighterSpec, network: nn.Module, batch: ReweighterInput, other: nn.Module) -> None:
    other.load_state_dict(network.state_dict())
    expect(
        torch.equal(network(batch), other(batch)),
        spec,
        "all that log-weights depend on must be in its state_dict, which is what a checkpoint keeps",
    )
