"""The classifier's optimizer and schedule (timm), and the optimizers of reweighter and splitter."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from torch import nn
from torch.optim import SGD, Adam, AdamW, Optimizer

from molere_cli.config.sections import ClassifierSettings, SideOptimizer
from molere_cli.foundation.errors import ConfigError


def build_optimizer(
    settings: ClassifierSettings, module: nn.Module, *, scales: Mapping[nn.Parameter, float] | None = None
) -> Optimizer:
    """The optimizer that the settings name, by timm.

    Args:
        scales: parameters that adamw steps by this times the learning rate, and pulls to 0 as fast as the
            others: as if what they are multiplied with were so many times as large. Its steps go by no
            gradient's size, so that this is exact. Other optimizers take no account of it.

    Raises:
        ConfigError: timm knows no such optimizer.
    """
    from timm.optim import create_optimizer_v2, list_optimizers

    if settings.optimizer not in list_optimizers():
        raise ConfigError(f"timm has no optimizer {settings.optimizer!r}; say momentum, sgd, adamw...")
    scaled = scales is not None and settings.optimizer == "adamw" and settings.layer_decay is None
    optimizer = create_optimizer_v2(
        _scaled_groups(settings, module, scales or {}) if scaled else module,
        opt=settings.optimizer,
        lr=settings.lr,
        weight_decay=settings.weight_decay,
        momentum=settings.momentum,
        filter_bias_and_bn=settings.weight_decay_filter,
        layer_decay=settings.layer_decay,
    )
    assert isinstance(optimizer, Optimizer)
    return optimizer


def _scaled_groups(
    settings: ClassifierSettings, module: nn.Module, scales: Mapping[nn.Parameter, float]
) -> list[dict[str, Any]]:
    groups = []
    for parameter in module.parameters():
        if parameter.requires_grad:
            scale = scales.get(parameter, 1.0)
            decays = not settings.weight_decay_filter or parameter.dim() > 1
            # The step's decay is the product of both.
            decay = settings.weight_decay / scale if decays else 0.0
            groups.append({"params": [parameter], "lr_scale": scale, "weight_decay": decay})
    return groups


def build_side_optimizer(
    kind: SideOptimizer,
    parameters: Iterable[nn.Parameter],
    *,
    lr: float,
    momentum: float = 0.0,
    weight_decay: float = 0.0,
) -> Optimizer:
    """The optimizer of a network beside the classifier: the reweighter, the splitter.

    Args:
        momentum: of sgd, which is without Nesterov.
        weight_decay: decoupled under adamw, else an L2 penalty.
    """
    if kind == "sgd":
        return SGD(parameters, lr=lr, momentum=momentum, weight_decay=weight_decay, foreach=True)
    adam = AdamW if kind == "adamw" else Adam
    return adam(parameters, lr=lr, weight_decay=weight_decay, foreach=True)


def build_scheduler(settings: ClassifierSettings, optimizer: Optimizer) -> Any:
    """timm's scheduler; `step(epoch)` sets the learning rate of that epoch, whatever came before."""
    from timm.scheduler import create_scheduler_v2

    # timm has no constant schedule; a step that never comes is one.
    if settings.schedule == "constant":
        kind: dict[str, Any] = {"sched": "step", "decay_epochs": settings.epochs + 1}
    elif settings.schedule == "step":
        kind = {"sched": "step", "decay_epochs": settings.lr_decay_epochs}
    else:
        kind = {"sched": "cosine"}
    scheduler, _ = create_scheduler_v2(
        optimizer,
        num_epochs=settings.epochs,
        decay_rate=0.1,
        min_lr=0.0,
        warmup_lr=settings.lr / 100,
        warmup_epochs=settings.lr_warmup_epochs,
        warmup_prefix=False,
        **kind,
    )
    return scheduler
