"""A pydantic report as one sentence: where, what, what instead."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from difflib import get_close_matches
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from molere_cli.foundation.errors import ConfigError, shown

OptionsT = TypeVar("OptionsT", bound=BaseModel)


def validate_options(options: type[OptionsT], values: Mapping[str, str], *, owner: str) -> OptionsT:
    """A plugin's options from `KEY=VALUE` pairs; `owner` says whose they are ("dataset 'digits'")."""
    try:
        return options.model_validate(values)
    except ValidationError as error:
        raise ConfigError(explain_validation(error, known=options.model_fields, source=owner)) from error


def _sentence(message: str) -> str:
    message = message.removeprefix("Value error, ")
    return message[0].lower() + message[1:]


def explain_validation(error: ValidationError, *, known: Collection[str], source: str | None) -> str:
    """The first problem of a pydantic report, as one sentence: where, what, what instead."""
    problem = error.errors()[0]
    key = ".".join(str(part) for part in problem["loc"])
    where = f"{source}: " if source else ""
    if problem["type"] != "extra_forbidden":
        return f"{where}{key} = {shown(problem['input'])}: {_sentence(problem['msg'])}"
    return f"{where}{unknown_key(key, known=known)}"


def unknown_key(key: str, *, known: Collection[str]) -> str:
    """What to say of a key that is none of those known; as a flag it has hyphens."""
    as_key = key.strip("-").replace("-", "_").lower()
    if close := get_close_matches(as_key, known, n=1):
        return f"unknown key {shown(key)}; did you mean {close[0]!r}?"
    return f"unknown key {shown(key)}; known keys: {', '.join(sorted(known)) or 'none'}"
