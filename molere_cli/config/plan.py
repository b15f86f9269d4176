"""From a configuration to a plan: names looked up, automatic settings filled in, contradictions refused."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import torch
from pydantic import BaseModel

from molere_cli.config.device import Precision, resolve_device, resolve_precision
from molere_cli.config.run_config import RunConfig
from molere_cli.config.run_names import run_name
from molere_cli.config.sections import InPlay, SplitSettings
from molere_cli.foundation.errors import ConfigError
from molere_cli.registry.option_errors import validate_options
from molere_cli.registry.registry import Registry
from molere_cli.registry.specs import BackboneSpec, MethodSpec, ReweighterSpec


@dataclass(frozen=True, eq=False)
class Plan:
    """A run that is ready to be built.

    config: with every automatic number filled in, but for what depends on the pool (`for_pool`). settings:
    those in effect, as saved in `config.json`.
    """

    config: RunConfig
    settings: dict[str, Any]
    registry: Registry
    method: MethodSpec
    method_options: BaseModel
    backbone: BackboneSpec
    backbone_options: BaseModel
    reweighter: ReweighterSpec | None
    reweighter_options: BaseModel | None
    device: torch.device
    precision: Precision

    @property
    def needs_split(self) -> bool:
        """Whether a split must be made or read before training."""
        return self.config.split.is_needed(InPlay(split=self.method.split))

    def for_pool(self, num_examples: int) -> Plan:
        """The plan with the reweighter's learning rate filled in, where it depends on the pool's size."""
        lr = self.reweighter.lr if self.reweighter is not None else None
        if self.config.reweighting.reweighter_lr is not None or not callable(lr):
            return self
        found = {"reweighter_lr": lr(math.ceil(num_examples / self.config.classifier.batch_size))}
        return replace(self, config=self.config.updated(**found), settings=self.settings | found)

    @property
    def run_name(self) -> str:
        """The default name of the run's directory."""
        config = self.config
        return run_name(dataset=config.data.dataset, method=config.method.method, seed=config.machine.seed)

    def label(self, strategy: str | None) -> str:
        """How tables call the run, given its split's strategy."""
        return self.method.label.format(split=(strategy or "").capitalize())


def make_plan(config: RunConfig, registry: Registry, *, precision: Precision | None = None) -> Plan:
    """The plan for a configuration.

    Args:
        precision: overrides what `--precision auto` would choose on this machine.

    Raises:
        UnknownNameError: a method, backbone, reweighter, dataset or strategy that no plugin offers.
        ConfigError: a setting has no effect under the method, or an option is wrong.
    """
    registry.datasets.get(config.data.dataset_name)
    method, backbone = (
        registry.methods.get(config.method.method),
        registry.backbone(config.classifier.backbone),
    )
    parts = in_play(config, method, registry)
    config.refuse_idle(parts, under=f"method {config.method.method!r}")
    reweighter = None
    if "reweighter" in method.uses:
        reweighter = registry.reweighters.get(config.reweighting.reweighter)
        has_split = config.split.is_needed(parts)
        config = config.updated(**automatic_reweighting(config, reweighter, has_split=has_split))
    device = resolve_device(config.machine.device)
    return Plan(
        config=config,
        settings=config.effective(parts),
        registry=registry,
        method=method,
        method_options=validate_options(
            method.options, config.method.method_option, owner=f"method {config.method.method!r}"
        ),
        backbone=backbone,
        backbone_options=validate_options(
            backbone.options,
            config.classifier.backbone_option,
            owner=f"backbone {config.classifier.backbone!r}",
        ),
        reweighter=reweighter,
        reweighter_options=None
        if reweighter is None
        else validate_options(
            reweighter.options,
            config.reweighting.reweighter_option,
            owner=f"reweighter {config.reweighting.reweighter!r}",
        ),
        device=device,
        precision=precision or resolve_precision(config.machine.precision, device),
    )


def in_play(config: RunConfig, method: MethodSpec, registry: Registry) -> InPlay:
    """What decides which settings have an effect: the method, and the split strategy where it needs one.

    Raises:
        UnknownNameError: a split strategy that no plugin offers.
        ConfigError: the strategy validates on another dataset, which the method or `--train-on` excludes.
    """
    parts = InPlay(split=method.split, uses=method.uses)
    if not config.split.is_needed(parts) or config.split.split_is_file:
        return parts
    strategy, argument = registry.split(config.split.split)
    if argument is not None and strategy.argument_is_dataset:
        _check_other_validation(config.split, method, argument, registry)
    return replace(parts, split_needs=strategy.needs)


def _check_other_validation(
    settings: SplitSettings, method: MethodSpec, dataset: str, registry: Registry
) -> None:
    check_takes_other_validation(method, dataset)
    registry.datasets.get(dataset.partition(":")[0])
    if settings.train_on == "train":
        raise ConfigError(
            f"--train-on train has no effect with --split {settings.split}: all of the pool trains"
        )


def check_takes_other_validation(method: MethodSpec, dataset: str) -> None:
    """Raise ConfigError unless the method can validate on a dataset other than the pool's."""
    if not method.takes_other_validation:
        raise ConfigError(
            f"the split's validation examples are those of another dataset ({dataset}), which method "
            f"{method.name!r} cannot use; use --method lrw"
        )


def automatic_reweighting(
    config: RunConfig, reweighter: ReweighterSpec, *, has_split: bool
) -> dict[str, Any]:
    """The settings of reweighting that were left to MOLERE.

    Warm-up takes a twentieth of the epochs, one at least where there are several: the signal in the
    hypergradient is strongest early and gone once the training set is fitted. None at all where split and
    reweighter know from before which examples are hard.
    """
    knows = has_split and not reweighter.needs_warmup
    epochs = config.classifier.epochs
    automatic = {
        "warmup_epochs": 0 if knows else min(max(1, round(epochs / 20)), epochs - 1),
        "reweighter_lr": None if callable(reweighter.lr) else reweighter.lr,
        "weight_bound": reweighter.weight_bound,
        "meta_batch_size": config.classifier.batch_size,
    }
    return {name: value for name, value in automatic.items() if getattr(config.reweighting, name) is None}
