"""Recipes: settings that go together, below what a file and flags say."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from importlib.resources import files
from typing import Any, Literal

from molere_cli.config.sections import ClassifierSettings

Recipe = Literal["auto", "scratch", "finetune", "probe"]

LR_KEY, LR_BATCH_SIZE = "lr_at_batch_size_64", 64
TRUE = {"true", "1", "yes"}


def recipe_settings(recipe: Recipe, given: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a recipe that `given`, what a file and flags say, leaves open.

    auto is finetune where the classifier starts from pretrained weights, else scratch. The learning rate goes
    with the batch size.
    """
    name = _chosen(given) if recipe == "auto" else recipe
    settings = tomllib.loads(recipe_text(name))
    if (rate := settings.pop(LR_KEY, None)) is not None:
        batch_size = given.get("batch_size", ClassifierSettings.model_fields["batch_size"].default)
        settings["lr"] = rate * float(batch_size) / LR_BATCH_SIZE
    return {key: value for key, value in settings.items() if key not in given}


def recipe_text(name: str) -> str:
    """The TOML of a recipe, with its comments."""
    return (files("molere_cli.config") / "recipes" / f"{name}.toml").read_text(encoding="utf-8")


def _chosen(given: Mapping[str, Any]) -> str:
    option = given.get("backbone_option", {})
    pretrained = str(option.get("pretrained", "")).lower() in TRUE if isinstance(option, Mapping) else False
    if given.get("init_from") is None and not pretrained:
        return "scratch"
    return "probe" if str(given.get("freeze_backbone", "")).lower() in TRUE else "finetune"
