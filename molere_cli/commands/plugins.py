"""`molere plugins`: what is registered, by whom, and what failed to load."""

from __future__ import annotations

import warnings
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Annotated

import typer

from molere_cli.commands.output import say, show, show_table
from molere_cli.commands.plugin_commands import plugin_commands

if TYPE_CHECKING:
    from molere_cli.registry.registry import Registry

KINDS = ("backbones", "datasets", "transforms", "splits", "reweighters", "methods", "trackers", "commands")


def plugins(
    kind: Annotated[
        str | None, typer.Argument(help=f"One of {', '.join(KINDS)}; default: all.", show_default=False)
    ] = None,
    pattern: Annotated[
        str, typer.Option("--filter", help="Names to list, as in 'vit*'; families are searched.")
    ] = "*",
    check: Annotated[
        bool, typer.Option("--check", help="Import all that is offered; exit 1 if a plugin has a problem.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List what plugins offer."""
    from molere_cli.foundation.errors import ConfigError
    from molere_cli.foundation.files import json_text
    from molere_cli.registry.entries import PluginWarning
    from molere_cli.registry.registry import load_plugins

    if kind is not None and kind not in KINDS:
        raise ConfigError(f"no kind {kind!r} of plugin; there are: {', '.join(KINDS)}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PluginWarning)  # problems are listed below
        registry = load_plugins()
        if check:
            registry.check()
        rows = plugin_rows(registry, kind=kind, pattern=pattern)
    headings = ("kind", "name", "plugin", "description")
    if as_json:
        show(json_text([dict(zip(headings, row, strict=True)) for row in rows], indent=2))
    else:
        show_table("", headings, rows, num_texts=4)
    for sentence in registry.collisions():
        say(sentence, err=True)
    for problem in registry.problems:
        say(f"plugin {problem.plugin} {problem.message}", err=True)
    if check and registry.problems:
        raise typer.Exit(1)


def plugin_rows(registry: Registry, *, kind: str | None, pattern: str) -> list[tuple[str, str, str, str]]:
    """(kind, name, plugin, description) of every offer; a family counts as one name until it is filtered."""
    rows = []
    for one in KINDS if kind is None else (kind,):
        rows += [row for row in _rows_of(registry, one) if fnmatchcase(row[1], pattern)]
        if one == "backbones":
            rows += _family_rows(registry, pattern)
    return rows


def _rows_of(registry: Registry, kind: str) -> list[tuple[str, str, str, str]]:
    if kind == "commands":
        added = plugin_commands(registry)
        return [(kind, name, each.plugin, each.description) for name, each in added.items()]
    entries = getattr(registry, kind).entries
    return [(kind, entry.spec.name, entry.plugin, entry.spec.description) for entry in entries]


def _family_rows(registry: Registry, pattern: str) -> list[tuple[str, str, str, str]]:
    rows = []
    for entry in registry.families.entries:
        prefix = entry.spec.prefix
        if pattern == "*":
            rows.append(("backbones", f"{prefix}:*", entry.plugin, entry.spec.description))
        else:
            names = [name for name in entry.spec.members() if fnmatchcase(name, pattern)]
            rows += [("backbones", f"{prefix}:{name}", entry.plugin, "") for name in names]
    return rows
