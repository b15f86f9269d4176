"""Settings as the flags that give them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from molere_cli.commands import flag_name


def settings_as_flags(given: Mapping[str, Any]) -> list[str]:
    """All of them but those that are None."""
    flags: list[str] = []
    for name, value in given.items():
        flag = flag_name(name)
        if value is None:
            continue
        if isinstance(value, bool):
            flags.append(flag if value else f"--no-{flag.removeprefix('--')}")
        elif isinstance(value, dict):
            for key, entry in value.items():
                flags += [flag, f"{key}={entry}"]
        else:
            flags += [flag, str(value)]
    return flags
