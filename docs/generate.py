"""Write the generated pages of docs/, or check that they are up to date (`--check`)."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

from molere_cli.commands.plugins import plugin_rows
from molere_cli.registry.registry import load_plugins

DOCS = Path(__file__).parent
ROOT = DOCS.parent
sys.path.insert(0, str(ROOT))  # the tests are no part of what is installed

from molere_cli_tests.layout import floors, room_imports  # noqa: E402


def cli_pages() -> dict[str, str]:
    """Typer's own rendering of every command's help: a page for each, and one that lists them."""
    command = [sys.executable, "-m", "typer", "molere_cli.commands.app", "utils", "docs", "--name", "molere"]
    page = subprocess.run(command, capture_output=True, text=True, check=True, cwd=DOCS.parent).stdout
    head, *commands = re.split(r"^## `molere ([a-z]+)`\n", page.rstrip() + "\n", flags=re.MULTILINE)
    pages = {"cli.md": head}
    for name, text in zip(commands[::2], commands[1::2], strict=True):
        pages["cli.md"] = pages["cli.md"].replace(f"* `{name}`:", f"* [`{name}`](cli/{name}.md):")
        pages[f"cli/{name}.md"] = f"# `molere {name}`\n\nFor anyone who types it.\n{text.rstrip()}\n"
    return pages


def plugin_list() -> str:
    """What the plugins of this distribution register."""
    lines = [
        "# What is registered",
        "",
        "For anyone who asks what names there are. Written by `make docs` from `molere plugins`, to which "
        "third-party plugins add.",
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

For anyone who needs data to try things on. Written by `make docs` from what plugins register. `DATA_DIR` is
what `--data-dir` says; without `--download` nothing is fetched. Images of your own come by
`folder:DIR`, `csv:FILE`, `parquet:DIR` or `hf:ORG/NAME`
([what is registered](registry.md)). Any pool takes `--class-skew`, `--limit-train`, `--colour-patch` and
`--label-noise`, which act in this order. Sizes are those published. Licences are their makers', as far as we
know them: check before you publish.
"""


def dataset_pages() -> str:
    """Every dataset of this distribution that has a card."""
    lines = [INTRODUCTION.strip(), ""]
    headings = ("name", "task", "examples", "how to get it", "licence", "groups", "in the paper")
    lines += ["| " + " | ".join(headings) + " |", "|---" * len(headings) + "|"]
    for entry in load_plugins().datasets.entries:
        card = entry.spec.card
        if card is not None and entry.plugin in FIRST_PARTY:
            cells = (card.task, card.sizes, card.source, card.licence, card.groups or "-", card.paper or "-")
            name = entry.spec.name + (f":{entry.spec.argument}" if entry.spec.argument else "")
            lines.append("| " + " | ".join((f"`{name}`", *cells)) + " |")
    return "\n".join(lines) + "\n"


MODULES = """
# Every module

For anyone who looks for a place in the code. Written by `make docs` from the first line of each module, top
floor first: a room imports only from floors below its own. [Plugins](plugin-modules.md) have a page.
"""
PLUGIN_MODULES = """
# Every module of a plugin

For anyone who looks for a place in the code. Written by `make docs` from the first line of each module.
"""


def module_list() -> str:
    """The first line of every module of the core, floor by floor."""
    core = [f"molere_cli/{room}" for floor in reversed(floors(room_imports())) for room in floor]
    return _modules(MODULES, core)


def plugin_modules() -> str:
    """The same of first-party plugins."""
    found = ROOT.glob("plugins/molere_*/__init__.py")
    return _modules(PLUGIN_MODULES, sorted(str(path.parent.relative_to(ROOT)) for path in found))


def _modules(head: str, folders: list[str]) -> str:
    lines = [head.strip()]
    for folder in folders:
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
    "registry.md": plugin_list,
    "datasets.md": dataset_pages,
    "modules.md": module_list,
    "plugin-modules.md": plugin_modules,
}


def main() -> int:
    check = "--check" in sys.argv[1:]
    stale = []
    for name, page in {**{name: render() for name, render in PAGES.items()}, **cli_pages()}.items():
        path = DOCS / "reference" / name
        path.parent.mkdir(exist_ok=True)
        if check and (not path.exists() or path.read_text(encoding="utf-8") != page):
            stale.append(name)
        elif not check:
            path.write_text(page, encoding="utf-8")
    if stale:
        print(
            f"docs/reference/{', docs/reference/'.join(stale)} out of date; run `make docs`", file=sys.stderr
        )
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
