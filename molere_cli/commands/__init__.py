"""The command line, a file a command, and what a plugin's command needs: options, output, whole files."""

from __future__ import annotations

from typing import TYPE_CHECKING

from molere_cli.foundation.lazy_names import lazy_names

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
    from molere_cli.registry.entries import unknown
    from molere_cli.registry.registry import Registry, load_plugins

__getattr__ = lazy_names(
    __name__,
    {
        "api.run_schedule": "Schedule parse_seeds",
        "commands.completion": "run_directories",
        "commands.console": "Notes stderr",
        "commands.flags": "Average Quiet RunsDir key_values",
        "commands.help": "ShortHelp examples",
        "commands.output": "say show show_table stdout_encoding stdout_width",
        "commands.run_flags": "RunFlags with_run_flags",
        "config.run_config": "flag_name",
        "engine.average": "AVERAGE_SUFFIX",
        "foundation.allocator": "keep_freed_memory",
        "foundation.files": "claim_name json_text make_folder new_folder replacing write_text writing",
        "foundation.plain_text": "harmless",
        "registry.entries": "unknown",
        "registry.registry": "Registry load_plugins",
    },
)

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
