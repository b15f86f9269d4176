"""The configurations of a command, from its file and its flags: one file serves several of them.

What the file says of things that a command or a method does not have is left out; as a flag it is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from molere_cli.config.config_file import overridden, read_config_file, validate_config
from molere_cli.config.plan import in_play
from molere_cli.config.recipes import Recipe, recipe_settings
from molere_cli.config.run_config import RunConfig, flag_name, renamed
from molere_cli.config.sections import InPlay
from molere_cli.foundation.errors import ConfigError
from molere_cli.registry.registry import Registry


def configured(
    path: Path | None, flags: Mapping[str, Any], registry: Registry, *, recipe: Recipe = "scratch"
) -> RunConfig:
    """The configuration from a file and flags; with `--method` one file serves several methods.

    What the file says of things that this method does not have (a reweighter, say) is left out then. Given as
    a flag, such a setting stays, and is refused by `make_plan`.

    Args:
        recipe: what holds below file and flags.

    Raises:
        ConfigError, UnknownNameError: a key, a value or the method is not known.
    """
    flags = renamed(flags)
    values = read_config_file(path) if path is not None else {}
    values = {**recipe_settings(recipe, overridden(values, flags)), **values}
    if path is None or "method" not in flags:
        return validate_config(overridden(values, flags), source=str(path) if path else None)
    method = registry.methods.get(str(flags["method"]))
    return _without_idle(values, path, flags, lambda config: in_play(config, method, registry))


def configured_split(path: Path | None, flags: Mapping[str, Any], registry: Registry) -> RunConfig:
    """The configuration that `molere split` makes the split `flags["split"]` by.

    Raises:
        ConfigError, UnknownNameError: a key, a value or the strategy is not known; a flag has no effect.
    """
    flags = renamed(flags)
    strategy, _argument = registry.split(flags["split"])
    parts = InPlay(split="required", split_needs=strategy.needs, makes_split=True)
    values = read_config_file(path) if path is not None else {}
    config = _without_idle(values, path, flags, lambda _config: parts)
    config.refuse_idle(parts, under=f"--strategy {strategy.name}")
    return config


def _without_idle(
    values: Mapping[str, Any],
    path: Path | None,
    flags: Mapping[str, Any],
    parts_of: Callable[[RunConfig], InPlay],
) -> RunConfig:
    """Flags over `values`, of the file at `path`, as far as these have an effect with what is in play."""
    source = str(path) if path is not None else None
    together = validate_config(overridden(values, flags), source=source)
    idle = together.without_effect(parts_of(together))
    kept = {name: value for name, value in values.items() if name not in idle}
    return validate_config(overridden(kept, flags), source=source)


def swept(
    path: Path | None,
    flags: Mapping[str, Any],
    registry: Registry,
    *,
    recipe: Recipe = "scratch",
    note: Callable[[str], None] = lambda _sentence: None,
) -> list[RunConfig]:
    """One configuration for each of the methods in `--method a,b,c`; each takes the flags that it has.

    Args:
        note: told in one sentence which flags were skipped for which of them.

    Raises:
        ConfigError: a method stands there twice, a flag has an effect in none of them, `--method-option` is
            among the flags, or as in `configured`.
        UnknownNameError: a method that no plugin offers.
    """
    flags = renamed(flags)
    names = [name.strip() for name in str(flags.get("method", "")).split(",")]
    if len(names) == 1:
        return [configured(path, flags, registry, recipe=recipe)]
    if len(set(names)) < len(names):
        raise ConfigError(f"--method {flags['method']} names a method twice")
    if "method_option" in flags:
        raise ConfigError(
            "--method-option goes with one method; leave it out, or train that method by itself"
        )
    configs, used, skipped = [], {"method"}, []
    for name in names:
        idle = _idle(configured(path, {**flags, "method": name}, registry, recipe=recipe), name, registry)
        kept = {flag: value for flag, value in flags.items() if flag not in idle}
        used |= kept.keys()
        if left_out := [flag_name(flag) for flag in sorted(flags.keys() - kept.keys())]:
            skipped.append(f"{', '.join(left_out)} by {name}")
        configs.append(configured(path, {**kept, "method": name}, registry, recipe=recipe))
    if idle := sorted(flags.keys() - used):
        raise ConfigError(f"{flag_name(idle[0])} has no effect with any of {', '.join(names)}; leave it out")
    if skipped:
        note(f"skipped where it has no effect: {'; '.join(skipped)}")
    return configs


def _idle(config: RunConfig, method: str, registry: Registry) -> Collection[str]:
    """The settings that change nothing under the method."""
    return config.without_effect(in_play(config, registry.methods.get(method), registry))
