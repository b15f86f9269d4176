"""From a configuration to a plan: names looked up, automatic settings filled in, contradictions refused."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any

import torch
from pydantic import BaseModel

from molere_cli.config.device import Precision, resolve_device, resolve_precision
from molere_cli.config.explain import validate_options
from molere_cli.config.run_config import DEFAULT_SPLIT_NEEDS, RunConfig
from molere_cli.errors import ConfigError
from molere_cli.registry.registry import Registry
from molere_cli.registry.specs import BackboneSpec, MethodSpec, ReweighterSpec
from molere_cli.run_dir import run_name


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
        split = self.method.split
        return split == "required" or (split == "optional" and self.config.train_on == "train")

    def for_pool(self, num_examples: int) -> Plan:
        """The plan with the reweighter's learning rate filled in, where it depends on the pool's size."""
        lr = self.reweighter.lr if self.reweighter is not None else None
        if self.config.reweighter_lr is not None or not callable(lr):
            return self
        found = {"reweighter_lr": lr(math.ceil(num_examples / self.config.batch_size))}
        return replace(self, config=self.config.updated(**found), settings=self.settings | found)

    @property
    def run_name(self) -> str:
        """The default name of the run's directory."""
        config = self.config
        return run_name(dataset=config.dataset, method=config.method, seed=config.seed)

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
    registry.datasets.get(config.dataset_name)
    method = registry.methods.get(config.method)
    backbone = registry.backbone(config.backbone)
    split_needs = _split_needs(config, method, registry)
    _check_other_validation(config, method, registry)
    config.effective(split=method.split, uses=method.uses, split_needs=split_needs)
    reweighter = registry.reweighters.get(config.reweighter) if "reweighter" in method.uses else None
    if reweighter is not None:
        config = config.updated(**automatic_reweighting(config, reweighter))
    settings = config.effective(split=method.split, uses=method.uses, split_needs=split_needs)
    device = resolve_device(config.device)
    return Plan(
        config=config,
        settings=settings,
        registry=registry,
        method=method,
        method_options=validate_options(
            method.options, config.method_option, owner=f"method {config.method!r}"
        ),
        backbone=backbone,
        backbone_options=validate_options(
            backbone.options, config.backbone_option, owner=f"backbone {config.backbone!r}"
        ),
        reweighter=reweighter,
        reweighter_options=None
        if reweighter is None
        else validate_options(
            reweighter.options, config.reweighter_option, owner=f"reweighter {config.reweighter!r}"
        ),
        device=device,
        precision=precision or resolve_precision(config.precision, device),
    )


def _check_other_validation(config: RunConfig, method: MethodSpec, registry: Registry) -> None:
    if "split" not in config.groups_in_play(split=method.split, uses=method.uses) or config.split_is_file:
        return
    strategy, argument = registry.split(config.split)
    if argument is None or not strategy.argument_is_dataset:
        return
    check_takes_other_validation(method, argument)
    registry.datasets.get(argument.partition(":")[0])
    if config.train_on == "train":
        raise ConfigError(
            f"--train-on train has no effect with --split {config.split}: all of the pool trains"
        )


def check_takes_other_validation(method: MethodSpec, dataset: str) -> None:
    """Raise ConfigError unless the method can validate on a dataset other than the pool's."""
    if not method.takes_other_validation:
        raise ConfigError(
            f"the split's validation examples are those of another dataset ({dataset}), which method "
            f"{method.name!r} cannot use; use --method lrw"
        )


def _groups_in_play(config: RunConfig, method: MethodSpec, registry: Registry) -> set[str]:
    split_needs = _split_needs(config, method, registry)
    return config.groups_in_play(split=method.split, uses=method.uses, split_needs=split_needs)


def _split_needs(config: RunConfig, method: MethodSpec, registry: Registry) -> Collection[str]:
    if "split" not in config.groups_in_play(split=method.split, uses=method.uses) or config.split_is_file:
        return DEFAULT_SPLIT_NEEDS
    strategy, _argument = registry.split(config.split)
    return strategy.needs


def automatic_reweighting(config: RunConfig, reweighter: ReweighterSpec) -> dict[str, Any]:
    """The settings of reweighting that were left to MOLERE.

    Warm-up takes a twentieth of the epochs, one at least: the signal in the hypergradient is strongest
    early and gone once the training set is fitted.
    """
    automatic = {
        "warmup_epochs": max(1, round(config.epochs / 20)),
        "reweighter_lr": None if callable(reweighter.lr) else reweighter.lr,
        "weight_bound": reweighter.weight_bound,
        "meta_batch_size": config.batch_size,
    }
    return {name: value for name, value in automatic.items() if getattr(config, name) is None}
