"""A configuration as TOML that `--config` takes back."""

from __future__ import annotations

from collections.abc import Sequence

from molere_cli.config.plan import make_plan
from molere_cli.config.run_config import RunConfig
from molere_cli.foundation.errors import ConfigError
from molere_cli.registry.registry import Registry


def configs_as_toml(configs: Sequence[RunConfig], registry: Registry) -> str:
    """The settings in effect of one configuration, those that are None left out.

    Raises:
        ConfigError: there are several.
    """
    import tomli_w

    if len(configs) > 1:
        raise ConfigError("--print-config shows the settings of one method; give --method one")
    settings = make_plan(configs[0], registry).settings
    return tomli_w.dumps({name: value for name, value in settings.items() if value is not None}).rstrip("\n")
