"""A configuration as the flags that give it."""

from __future__ import annotations

from typing import get_origin

from molere_cli.config.run_config import RunConfig, field_of, flag_name


def config_as_flags(config: RunConfig) -> list[str]:
    """All settings that were given, by a file, a recipe or flags; those that are None left out."""
    flags: list[str] = []
    for name, value in config.given.items():
        flag = flag_name(name)
        if value is None:
            continue
        if isinstance(value, bool):
            flags.append(flag if value else f"--no-{flag.removeprefix('--')}")
        elif get_origin(field_of(name).annotation) is dict:
            for key, entry in value.items():
                flags += [flag, f"{key}={entry}"]
        else:
            flags += [flag, str(value)]
    return flags
