"""The command line, a file a command, and what a plugin's command needs: options, output, whole files."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from molere_cli.api.run_schedule import Schedule, parse_seeds
    from molere_cli.commands.completion import run_directories
    from molere_cli.commands.console import Notes, stderr
    from molere_cli.commands.flags import Average, Quiet, RunsDir, key_values
    from molere_cli.commands.help import ShortHelp, examples
    from molere_cli.commands.output import say, show, show_table, stdout_encoding, stdout_width
    from molere_cli.commands.run_flags import RunFlags, with_run_flags
    from molere_cli.config.run_config import flag_name
    from molere_cli.engine.average import AVERAGE_SUFFIX
    from molere_cli.foundation.allocator import keep_freed_memory
    from molere_cli.foundation.files import (
        claim_name,
        json_text,
        make_folder,
        new_folder,
        replacing,
        write_text,
        writing,
    )
    from molere_cli.foundation.plain_text import harmless
    from molere_cli.registry.offers import unknown
    from molere_cli.registry.registry import Registry, load_plugins

_LAZY = {
    "AVERAGE_SUFFIX": "molere_cli.engine.average",
    "Average": "molere_cli.commands.flags",
    "Notes": "molere_cli.commands.console",
    "Quiet": "molere_cli.commands.flags",
    "Registry": "molere_cli.registry.registry",
    "RunFlags": "molere_cli.commands.run_flags",
    "RunsDir": "molere_cli.commands.flags",
    "Schedule": "molere_cli.api.run_schedule",
    "ShortHelp": "molere_cli.commands.help",
    "claim_name": "molere_cli.foundation.files",
    "examples": "molere_cli.commands.help",
    "flag_name": "molere_cli.config.run_config",
    "harmless": "molere_cli.foundation.plain_text",
    "json_text": "molere_cli.foundation.files",
    "keep_freed_memory": "molere_cli.foundation.allocator",
    "key_values": "molere_cli.commands.flags",
    "load_plugins": "molere_cli.registry.registry",
    "make_folder": "molere_cli.foundation.files",
    "new_folder": "molere_cli.foundation.files",
    "parse_seeds": "molere_cli.api.run_schedule",
    "replacing": "molere_cli.foundation.files",
    "run_directories": "molere_cli.commands.completion",
    "say": "molere_cli.commands.output",
    "show": "molere_cli.commands.output",
    "show_table": "molere_cli.commands.output",
    "stderr": "molere_cli.commands.console",
    "stdout_encoding": "molere_cli.commands.output",
    "stdout_width": "molere_cli.commands.output",
    "unknown": "molere_cli.registry.offers",
    "with_run_flags": "molere_cli.commands.run_flags",
    "write_text": "molere_cli.foundation.files",
    "writing": "molere_cli.foundation.files",
}

__all__ = [
    "AVERAGE_SUFFIX",
    "Average",
    "Notes",
    "Quiet",
    "Registry",
    "RunFlags",
    "RunsDir",
    "Schedule",
    "ShortHelp",
    "claim_name",
    "examples",
    "flag_name",
    "harmless",
    "json_text",
    "keep_freed_memory",
    "key_values",
    "load_plugins",
    "make_folder",
    "new_folder",
    "parse_seeds",
    "replacing",
    "run_directories",
    "say",
    "show",
    "show_table",
    "stderr",
    "stdout_encoding",
    "stdout_width",
    "unknown",
    "with_run_flags",
    "write_text",
    "writing",
]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = importlib.import_module(_LAZY[name])
    return module if _LAZY[name].endswith(f".{name}") else getattr(module, name)
