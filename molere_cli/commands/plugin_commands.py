"""The commands that plugins add to `molere`."""

from __future__ import annotations

from typing import Any, NamedTuple

import typer
from typer.main import get_group

from molere_cli.registry.registry import Registry

CORE_COMMANDS = ("train", "split", "eval", "compare", "predict", "plugins", "cache")


class PluginCommand(NamedTuple):
    """A command as Typer has built it, and the plugin it is of."""

    command: Any
    plugin: str

    @property
    def description(self) -> str:
        return str(self.command.get_short_help_str(limit=120))


def plugin_commands(registry: Registry) -> dict[str, PluginCommand]:
    """The commands that plugins add, by name, those of our own distribution first.

    What is wrong with one becomes a problem of its plugin: a name that the core or a plugin before it has
    already, or a signature that Typer cannot make a command of. The others count.
    """
    found: dict[str, PluginCommand] = {}
    for plugin in registry.plugins():
        # An app of its own: what it does to that one touches no command of others.
        app = typer.Typer()
        registry.call(plugin, "register_commands", app=app)
        try:
            commands = get_group(app).commands
        except Exception as error:
            registry.problem(plugin, f"has a command that cannot be built: {error}")
            continue
        for name, command in commands.items():
            owner = found[name].plugin if name in found else "molere_cli" if name in CORE_COMMANDS else None
            if owner is not None:
                registry.problem(plugin, f"registers the command {name!r} of {owner}, which counts")
            else:
                found[name] = PluginCommand(command, plugin)
    return found
