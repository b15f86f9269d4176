"""How images become the network's input: as the dataset recommends, or as the weights of its start expect."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from molere_cli.config.plan import Plan
from molere_cli.data.feed import FeedSettings, resolve_image_size
from molere_cli.data.source import LoadedDataset
from molere_cli.foundation.errors import ConfigError, RunError
from molere_cli.foundation.files import JSON_LIMIT, parse_json, read_text
from molere_cli.registry.specs import PretrainedInput
from molere_cli.runs.run_directory import RunDir


def feed_settings(plan: Plan, data: LoadedDataset) -> FeedSettings:
    """How this run turns images into batches.

    Raises:
        ConfigError: images are streamed, and no size was asked for; or what the weights say of their input
            cannot be read.
    """
    config, dataset = plan.config, data.dataset
    augment = config.data.augment
    if augment == "auto":
        # Features of images as they are can be kept.
        keeps = config.classifier.freeze_backbone and config.classifier.cache_features
        augment = "none" if keeps else dataset.augment
    more: dict[str, Any] = {
        "rand_augment": config.data.rand_augment,
        "random_erasing": config.data.random_erasing,
    }
    if (found := input_of_weights(plan)) is not None:
        size = config.data.image_size
        own = found if size is None else _resized(found, (size, size))
        if config.data.crop_mode != "auto":
            own = _cropped(own, config.data.crop_mode)
        return replace(own, augment=augment, **more)
    return FeedSettings(
        mean=dataset.mean,
        std=dataset.std,
        augment=augment,
        image_size=resolve_image_size(dataset.pool, config.data.image_size),
        device=plan.device,
        workers=config.data.workers,
        crop_mode=dataset.crop_mode if config.data.crop_mode == "auto" else config.data.crop_mode,
        **more,
    )


def input_of_weights(plan: Plan) -> FeedSettings | None:
    """What the weights that the classifier starts from were trained on; None where they are random, or do not
    say.

    A file is asked where it lies: in a run of MOLERE, beside a `config.json` of timm's; else the tag in the
    backbone's name is.

    Raises:
        ConfigError: a file beside the weights cannot be read.
    """
    if plan.config.data.preprocessing == "dataset":
        return None
    path = plan.config.classifier.init_from
    if path is not None:
        run = RunDir(path.parent.parent)
        if path.parent == run.classifier_path.parent and (run.path / "environment.json").is_file():
            return _of_run(run, plan)
        if (config := path.parent / "config.json").is_file():
            return _of_timm_config(config, plan)
    found = plan.backbone.pretrained_input(plan.backbone_options, from_file=path is not None)
    return None if found is None else _as_settings(found, plan)


def recorded_settings(recorded: Mapping[str, Any], *, device: torch.device, workers: int) -> FeedSettings:
    """From what `environment.json` says of the input, see `results.describe_input`."""
    height, width = recorded["image_size"]
    mean, std = tuple(recorded["mean"]), tuple(recorded["std"])
    common: dict[str, Any] = {
        "mean": mean,
        "std": std,
        "image_size": (height, width),
        "augment": "none",
        "device": device,
        "workers": workers,
    }
    if recorded.get("interpolation") is None:
        return FeedSettings(**common, crop_mode=recorded["crop_mode"])
    pretrained = PretrainedInput(
        image_size=(height, width),
        mean=mean,
        std=std,
        interpolation=recorded["interpolation"],
        crop_share=recorded["crop_share"],
        crop_mode=recorded["crop_mode"],
    )
    return FeedSettings(**common, pretrained=pretrained)


def described(settings: FeedSettings) -> str:
    """In words, for a user."""
    height, width = settings.image_size
    text = f"{height} x {width} pixels"
    if (pretrained := settings.pretrained) is not None:
        kept = f"{pretrained.crop_mode}, {100 * pretrained.crop_share:g}% kept"
        text += f", {pretrained.interpolation}, {kept}"
    mean, std = (", ".join(f"{value:.3f}" for value in values) for values in (settings.mean, settings.std))
    return f"{text}, mean {mean}, std {std}"


def _of_run(run: RunDir, plan: Plan) -> FeedSettings | None:
    try:
        recorded = run.environment().get("input")
    except RunError as error:
        raise ConfigError(f"{error}; give --preprocessing dataset to do without") from error
    if recorded is None:
        return None
    return recorded_settings(recorded, device=plan.device, workers=plan.config.data.workers)


def _of_timm_config(path: Path, plan: Plan) -> FeedSettings | None:
    import timm

    try:
        config = parse_json(read_text(path, limit=JSON_LIMIT))
        found = config.get("pretrained_cfg") if isinstance(config, dict) else None
        if not isinstance(found, dict) or "input_size" not in found:
            return None
        data = timm.data.resolve_data_config(pretrained_cfg=found)  # type: ignore[no-untyped-call]
        _channels, height, width = (int(number) for number in data["input_size"])
        made = PretrainedInput(
            image_size=(height, width),
            mean=_three(data["mean"]),
            std=_three(data["std"]),
            interpolation=str(data["interpolation"]),
            crop_share=float(data["crop_pct"]),
            crop_mode=data["crop_mode"],
        )
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ConfigError(
            f"{path} does not say how images become the input of the weights beside it ({error}); give "
            "--preprocessing dataset to do without"
        ) from error
    return _as_settings(made, plan)


def _three(values: Any) -> tuple[float, float, float]:
    first, second, third = (float(value) for value in values)
    return first, second, third


def _as_settings(found: PretrainedInput, plan: Plan) -> FeedSettings:
    return FeedSettings(
        mean=found.mean,
        std=found.std,
        augment="none",
        image_size=found.image_size,
        device=plan.device,
        workers=plan.config.data.workers,
        pretrained=found,
    )


def _resized(settings: FeedSettings, size: tuple[int, int]) -> FeedSettings:
    pretrained = settings.pretrained
    changed = None if pretrained is None else replace(pretrained, image_size=size)
    return replace(settings, image_size=size, pretrained=changed)


def _cropped(settings: FeedSettings, crop_mode: Any) -> FeedSettings:
    pretrained = settings.pretrained
    if pretrained is None:
        return replace(settings, crop_mode=crop_mode)
    return replace(settings, pretrained=replace(pretrained, crop_mode=crop_mode))
