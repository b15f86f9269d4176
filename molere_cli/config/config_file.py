"""The configuration from a file and flags: defaults < file < flags."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from molere_cli.config.run_config import OWNERS, RunConfig, completed, renamed
from molere_cli.foundation.errors import ConfigError
from molere_cli.foundation.files import parse_json, read_text
from molere_cli.registry.option_errors import explain_validation, unknown_key

CONFIG_LIMIT = 1 << 20
"""Bytes of a configuration file that are read at most."""
YAML_SUFFIXES = {".yaml", ".yml"}


def overridden(values: Mapping[str, Any], flags: Mapping[str, Any]) -> dict[str, Any]:
    """A file's settings with the flags over them; options add up key by key."""
    result = dict(values)
    for name, value in flags.items():
        inherited = result.get(name)
        if isinstance(value, Mapping) and isinstance(inherited, Mapping):
            value = {**inherited, **value}
        result[name] = value
    return result


def read_config_file(path: Path) -> dict[str, Any]:
    """The keys of a TOML or JSON configuration file."""
    ending = path.suffix.lower()
    if ending in YAML_SUFFIXES:
        raise ConfigError(f"{path} is YAML; molere reads TOML or JSON")
    try:
        text = read_text(path, limit=CONFIG_LIMIT, by_mark=True)
        values = parse_json(text) if ending == ".json" else _parse_toml(text)
    except OSError as error:
        raise ConfigError(f"cannot read the configuration {path}: {error.strerror}") from error
    except ValueError as error:
        raise ConfigError(
            f"{path} is not valid {'JSON' if ending == '.json' else 'TOML'}: {error}"
        ) from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path} must hold a table of settings, not a {type(values).__name__}")
    return renamed(values)


def _parse_toml(text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def saved_config(settings: Mapping[str, Any], *, source: str) -> RunConfig:
    """The configuration of a saved run, with the settings at their defaults that came after it was written.

    Raises:
        ConfigError: a key or value is not valid; the sentence names it and `source`.
    """
    return validate_config(completed(settings, source=source), source=source)


def validate_config(values: Mapping[str, Any], *, source: str | None = None) -> RunConfig:
    """RunConfig from flat names and plain values; what is wrong becomes one sentence that names `source`."""
    values = renamed(values)
    if unknown := [name for name in values if name not in OWNERS]:
        where = f"{source}: " if source else ""
        raise ConfigError(where + unknown_key(unknown[0], known=OWNERS))
    try:
        return RunConfig.of(**values)
    except ValidationError as error:
        raise ConfigError(explain_validation(error, known=OWNERS, source=source)) from error
    except RecursionError as error:
        raise ConfigError(f"{f'{source}: ' if source else ''}a value is nested too deeply") from error
