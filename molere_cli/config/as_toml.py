"""A configuration as TOML that `--config` takes back."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any


def settings_as_toml(settings: Mapping[str, Any], *, without: Collection[str] = ()) -> str:
    """Settings in effect, those that are None left out.

    Args:
        without: names of settings that flags are to give.
    """
    import tomli_w

    kept = {name: value for name, value in settings.items() if value is not None and name not in {*without}}
    return tomli_w.dumps(kept).rstrip("\n")
