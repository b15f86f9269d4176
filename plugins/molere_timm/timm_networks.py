"""Any network of timm, by its name in timm."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from functools import cache
from typing import Annotated, Any

from huggingface_hub import constants, get_session
from pydantic import BeforeValidator, ConfigDict, Field
from torch import nn

from molere_cli import BackboneRequest, DataError, MolereError, Options, PretrainedInput
from molere_timm.quiet_timm import timm

HUB_SECONDS = 3.0
# What would change the shapes that the engine relies on, or read a file that may hold a pickle.
REFUSED = {
    "checkpoint_path": "it may hold a pickle, which is never read; use pretrained=true",
    "features_only": "a classifier is needed",
    "in_chans": "images always have 3 channels",
    "num_classes": "it follows from the dataset",
    "pretrained_cfg_overlay": "choose weights with pretrained_cfg=TAG",
}


def parse_value(value: Any) -> Any:
    """`true` and `false` (any case) as bool, then int, then float, else the text as it is."""
    if not isinstance(value, str):
        return value
    if value.lower() in {"true", "false"}:
        return value.lower() == "true"
    for number in (int, float):
        try:
            return number(value)
        except ValueError:
            continue
    return value


class TimmOptions(Options):
    """`pretrained`, and whatever else the network's constructor takes."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Annotated[bool | int | float | str, BeforeValidator(parse_value)]]

    pretrained: bool = Field(False, description="Start from timm's weights, downloaded on first use.")


@cache
def list_names() -> tuple[str, ...]:
    """The architectures that timm knows, without the tags of their weights."""
    return tuple(timm.list_models())


def has_weights(name: str) -> bool:
    """Whether it is an architecture with the tag of weights that timm has for it: `resnet18.a1_in1k`."""
    return "." in name and timm.models.is_model_pretrained(name)


def build(name: str, request: BackboneRequest) -> nn.Module:
    """`timm.create_model` with the request's classes, image size (where the network fixes one) and options.

    Raises:
        MolereError: the network does not take an option, or cannot be built as asked.
        DataError: the pretrained weights cannot be had.
    """
    options = request.options
    assert isinstance(options, TimmOptions)
    extras = dict(options.__pydantic_extra__)
    for key in sorted(REFUSED.keys() & extras.keys()):
        raise MolereError(f"backbone 'timm:{name}' does not take {key}: {REFUSED[key]}")
    arguments = {"num_classes": request.num_classes, **image_size(name, request.image_size, extras), **extras}
    if options.pretrained:
        _create(name, arguments, asked=extras)  # so that what fails below can only be the weights
        return _create_pretrained(name, arguments)
    return _create(name, arguments, asked=extras)


def image_size(name: str, size: tuple[int, int], extras: Mapping[str, Any]) -> dict[str, tuple[int, int]]:
    """`img_size` for a network that is built for one image size (most transformers), else nothing."""
    default = timm.get_pretrained_cfg(name)
    if default is None or not default.fixed_input_size or "img_size" in extras:
        return {}
    return {} if default.input_size[1:] == size else {"img_size": size}


def pretrained_input(name: str, options: TimmOptions, *, from_file: bool) -> PretrainedInput | None:
    """As timm's data configuration of the weights has it: of those that are asked for, or of a file those
    that the name's tag is of."""
    tag = options.__pydantic_extra__.get("pretrained_cfg")
    full_name = name if tag is None else f"{name.partition('.')[0]}.{tag}"
    wanted = "." in full_name if from_file else options.pretrained
    if not wanted or (found := timm.get_pretrained_cfg(full_name)) is None:
        return None
    config = timm.data.resolve_data_config(pretrained_cfg=asdict(found))  # type: ignore[no-untyped-call]
    _channels, height, width = config["input_size"]
    return PretrainedInput(
        image_size=(height, width),
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
        interpolation=config["interpolation"],
        crop_share=config["crop_pct"],
        crop_mode=config["crop_mode"],
    )


def _create(name: str, arguments: Mapping[str, Any], *, asked: Mapping[str, Any]) -> nn.Module:
    try:
        return timm.create_model(name, **arguments)
    except Exception as error:  # timm reports a wrong value by whatever its network stumbles over
        if "unexpected keyword argument" in str(error):
            unknown = [key for key in asked if repr(key) in str(error)]
            keys = ", ".join(unknown or asked)
            raise MolereError(f"backbone 'timm:{name}' has no option {keys}; leave it out") from error
        given = ", ".join(f"{key}={value}" for key, value in arguments.items())
        raise MolereError(
            f"backbone 'timm:{name}' cannot be built with {given}: {_one_line(error)}"
        ) from error


def _create_pretrained(name: str, arguments: Mapping[str, Any]) -> nn.Module:
    reached = _hub_is_reached()
    try:
        with nullcontext() if reached else _from_cache_alone():
            return timm.create_model(name, pretrained=True, **arguments)
    except Exception as error:  # the hub client, its transport and timm each have errors of their own
        missing = not reached and isinstance(error, OSError)
        reason = f"{constants.ENDPOINT} is out of reach" if missing else _one_line(error)
        raise DataError(
            f"the pretrained weights of 'timm:{name}' cannot be loaded ({reason}); connect to the network "
            "once, start from a file with --init-from, or leave out pretrained=true"
        ) from error


def _hub_is_reached() -> bool:
    try:
        get_session().head(constants.ENDPOINT, timeout=HUB_SECONDS)
    except Exception:  # whatever the transport of the installed hub client raises
        return False
    return True


@contextmanager
def _from_cache_alone() -> Iterator[None]:
    # Left to itself the hub's client tries again for a minute.
    before, constants.HF_HUB_OFFLINE = constants.HF_HUB_OFFLINE, True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
