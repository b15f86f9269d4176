"""Write the generated pages of docs/, or check that they are up to date (`--check`)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from molere_cli.commands.plugins import plugin_rows
from molere_cli.registry import load_plugins

DOCS = Path(__file__).parent


def cli_reference() -> str:
    """Typer's own rendering of every command's help."""
    command = [sys.executable, "-m", "typer", "molere_cli.__main__", "utils", "docs", "--name", "molere"]
    page = subprocess.run(command, capture_output=True, text=True, check=True, cwd=DOCS.parent).stdout
    return page.rstrip() + "\n"


def plugin_list() -> str:
    """What the plugins of this distribution register."""
    lines = [
        "# What is registered",
        "",
        "Written by `make docs` from `molere plugins`; third-party plugins add to it.",
        "",
        "| kind | name | plugin | description |",
        "|---|---|---|---|",
    ]
    lines += [
        "| " + " | ".join((kind, f"`{name}`", f"`{plugin}`", text)) + " |"
        for kind, name, plugin, text in plugin_rows(load_plugins(), kind=None, pattern="*")
        if plugin in FIRST_PARTY
    ]
    return "\n".join(lines) + "\n"


FIRST_PARTY = {"molere_cli", *(path.name for path in (DOCS.parent / "plugins").glob("molere_*"))}
PAGES = {"cli.md": cli_reference, "registry.md": plugin_list}


def main() -> int:
    check = "--check" in sys.argv[1:]
    stale = []
    for name, render in PAGES.items():
        path, page = DOCS / name, render()
        if check and (not path.exists() or path.read_text(encoding="utf-8") != page):
            stale.append(name)
        elif not check:
            path.write_text(page, encoding="utf-8")
    if stale:
        print(f"docs/{', docs/'.join(stale)} out of date; run `make docs`", file=sys.stderr)
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
