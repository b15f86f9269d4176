"""Write the generated pages of docs/, or check that they are up to date (`--check`)."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

from molere_cli.commands.plugins import plugin_rows
from molere_cli.registry.registry import load_plugins

DOCS = Path(__file__).parent
ROOT = DOCS.parent
sys.path.insert(0, str(ROOT))  # the tests are no part of what is installed

from molere_cli_tests.layout import floors, room_imports  # noqa: E402


def cli_reference() -> str:
    """Typer's own rendering of every command's help."""
    command = [sys.executable, "-m", "typer", "molere_cli.commands.app", "utils", "docs", "--name", "molere"]
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


INTRODUCTION = """
# Datasets

Written by `make docs` from what plugins register. `DATA_DIR` is what `--data-dir` says; without `--download`
nothing is fetched. Images of your own come by `folder:DIR`, `csv:FILE`, `parquet:DIR` or `hf:ORG/NAME`
([what is registered](registry.md)). Any pool takes `--class-skew`, `--limit-train`, `--colour-patch` and
`--label-noise`, which act in this order. Sizes are those published. Licences are their makers', as far as we
know them: check before you publish.
"""


def dataset_pages() -> str:
    """Every dataset of this distribution that has a card."""
    lines = [INTRODUCTION.strip(), ""]
    headings = ("name", "task", "examples", "how to get it", "licence", "groups", "in the paper")
    lines += ["| " + " | ".join(headings) + " |", "|---" * len(headings) + "|"]
    for offer in load_plugins().datasets.offers:
        card = offer.spec.card
        if card is not None and offer.plugin in FIRST_PARTY:
            cells = (card.task, card.sizes, card.source, card.licence, card.groups or "-", card.paper or "-")
            name = offer.spec.name + (f":{offer.spec.argument}" if offer.spec.argument else "")
            lines.append("| " + " | ".join((f"`{name}`", *cells)) + " |")
    return "\n".join(lines) + "\n"


MODULES = """
# Every module

Written by `make docs` from the first line of each module: the core from the top floor down, where a room
imports only from floors below its own, then the plugins.
"""


def module_list() -> str:
    """The first line of every module's docstring, floor by floor."""
    lines = [MODULES.strip()]
    core = [f"molere_cli/{room}" for floor in reversed(floors(room_imports())) for room in floor]
    plugins = sorted(str(path.parent.relative_to(ROOT)) for path in ROOT.glob("plugins/molere_*/__init__.py"))
    for folder in (*core, *plugins):
        lines += ["", f"## {folder}/", "", first_line(ROOT / folder / "__init__.py"), ""]
        lines += [
            f"- `{path.relative_to(ROOT / folder)}`: {first_line(path)}"
            for path in sorted((ROOT / folder).rglob("*.py"))
            if path.name != "__init__.py"
        ]
    return "\n".join(lines) + "\n"


def first_line(path: Path) -> str:
    """Of a module's docstring."""
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return " ".join(text.partition("\n\n")[0].split())


FIRST_PARTY = {"molere_cli", *(path.name for path in (DOCS.parent / "plugins").glob("molere_*"))}
PAGES = {
    "cli.md": cli_reference,
    "registry.md": plugin_list,
    "datasets.md": dataset_pages,
    "modules.md": module_list,
}


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
