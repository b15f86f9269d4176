"""The options of timm networks, as they come from `--backbone-option KEY=VALUE`."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, ConfigDict, Field

from molere_cli import Options


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
