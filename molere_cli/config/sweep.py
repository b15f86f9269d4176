"""One configuration for each of several methods."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from molere_cli.config.files import load_config, overridden, read_config_file, validate_config
from molere_cli.config.plan import _groups_in_play
from molere_cli.config.run_config import RunConfig, flag_name, needs
from molere_cli.errors import ConfigError
from molere_cli.registry.registry import Registry


def configured(path: Path | None, flags: Mapping[str, Any], registry: Registry) -> RunConfig:
    """The configuration from a file and flags; with `--method` one file serves several methods.

    What the file says of things that this method does not have (a reweighter, say) is left out then. Given as
    a flag, such a setting stays, and is refused by `make_plan`.

    Raises:
        ConfigError, UnknownNameError: a key, a value or the method is not known.
    """
    if path is None or "method" not in flags:
        return load_config(path, flags)
    values = read_config_file(path)
    together = validate_config(overridden(values, flags), source=str(path))
    method = registry.methods.get(together.method)
    groups = {None, *_groups_in_play(together, method, registry)}
    kept = {name: value for name, value in values.items() if needs(RunConfig.model_fields[name]) in groups}
    return validate_config(overridden(kept, flags), source=str(path))


def swept(path: Path | None, flags: Mapping[str, Any], registry: Registry) -> list[RunConfig]:
    """One configuration for each of the methods in `--method a,b,c`; each takes the flags that it has.

    Raises:
        ConfigError: a method stands there twice, a flag has an effect in none of them, `--method-option` is
            among the flags, or as in `configured`.
        UnknownNameError: a method that no plugin offers.
    """
    names = [name.strip() for name in str(flags.get("method", "")).split(",")]
    if len(names) == 1:
        return [configured(path, flags, registry)]
    if len(set(names)) < len(names):
        raise ConfigError(f"--method {flags['method']} names a method twice")
    if "method_option" in flags:
        raise ConfigError(
            "--method-option goes with one method; leave it out, or train that method by itself"
        )
    configs, used = [], {"method"}
    for name in names:
        method, together = registry.methods.get(name), configured(path, {**flags, "method": name}, registry)
        groups = {None, *_groups_in_play(together, method, registry)}
        kept = {flag: value for flag, value in flags.items() if needs(RunConfig.model_fields[flag]) in groups}
        used |= kept.keys()
        configs.append(configured(path, {**kept, "method": name}, registry))
    if idle := sorted(flags.keys() - used):
        raise ConfigError(f"{flag_name(idle[0])} has no effect with any of {', '.join(names)}; leave it out")
    return configs
