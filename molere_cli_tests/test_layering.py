"""One direction: what may import what, read off the sources."""

from __future__ import annotations

import ast
import importlib
import itertools
import pkgutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import molere_cli
from molere_cli.registry.registry import load_plugins

ROOT = Path(__file__).parents[1]
CORE, PLUGINS = ROOT / "molere_cli", ROOT / "plugins"

# The floors from the bottom up: a room imports only from floors below its own. A room is a module of
# `molere_cli`, or a folder in it; rooms on one floor know nothing of one another.
FLOORS = (
    ("errors",),
    ("allocator", "files", "fingerprints", "metrics", "randomness", "ranks", "shown", "stopping"),
    ("locks", "registry", "tables"),
    ("progress", "run_dir"),
    ("config", "run_tables"),
    ("data", "report", "splits"),
    ("engine", "page"),
    ("methods",),
    ("tasks",),
    ("api", "commands"),
    ("__main__",),
)
FLOOR_OF = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
REPORT_MAY_IMPORT = {
    "errors",
    "files",
    "fingerprints",
    "run_dir",
    "run_tables",
    "config",
    "report",
    "shown",
    "tables",
}
HEAVY = {"torch", "torchvision", "timm", "sklearn", "torchmetrics", "safetensors", "datasets"}
FIRST_PARTY = sorted(path.parent.name for path in PLUGINS.glob("molere_*/__init__.py"))


class Import(NamedTuple):
    """One import: of `module`, or of `name` from it; lazy: inside a function; typing: for the checker."""

    file: Path
    line: int
    module: str
    name: str | None
    lazy: bool
    typing: bool

    def __str__(self) -> str:
        return f"{self.file.relative_to(ROOT)}:{self.line} imports {self.module}"


def imports_of(file: Path) -> Iterator[Import]:
    """Every import of a source file, wherever it stands."""

    def visit(node: ast.AST, *, lazy: bool, typing: bool) -> Iterator[Import]:
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(file, node.lineno, alias.name, None, lazy, typing)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}:{node.lineno} is a relative import"
            for alias in node.names:
                yield Import(file, node.lineno, node.module or "", alias.name, lazy, typing)
        lazy = lazy or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        guards = isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for child in ast.iter_child_nodes(node):
            guarded = guards and child in node.body
            yield from visit(child, lazy=lazy, typing=typing or guarded)

    yield from visit(ast.parse(file.read_text(encoding="utf-8")), lazy=False, typing=False)


def sources(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*.py") if "build" not in path.relative_to(folder).parts)


def module_name(file: Path) -> str:
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def targets(found: Import) -> list[str]:
    """The modules of the core that an import needs: `from molere_cli import registry` needs `registry`."""
    if found.module.partition(".")[0] != "molere_cli":
        return []
    as_module = f"{found.module}.{found.name}"
    path = ROOT.joinpath(*as_module.split("."))
    is_module = path.with_suffix(".py").is_file() or (path / "__init__.py").is_file()
    return [as_module if found.name and is_module else found.module]


def room(module: str) -> str | None:
    """`molere_cli.data.feed` is in room `data`; the package itself is in none."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else None


def core_imports() -> Iterator[tuple[Import, str, str]]:
    """(import, room it is in, room it needs) for every import of the core from the core."""
    for file in sources(CORE):
        own = room(module_name(file))
        for found in imports_of(file):
            for target in targets(found):
                needed = room(target)
                if own is not None and needed is not None and own != needed:
                    yield found, own, needed


def test_every_module_has_its_place():
    there = {room(module_name(file)) for file in sources(CORE)} - {None}
    assert there == set(FLOOR_OF)


def test_a_room_imports_only_from_floors_below_it():
    wrong = [
        f"{found} from {own}" for found, own, needed in core_imports() if FLOOR_OF[needed] >= FLOOR_OF[own]
    ]
    assert wrong == []


def tree_of(page: Path, heading: str) -> list[tuple[int, str]]:
    """(depth, name) of every entry of the folder tree on a page, in order; `heading` is its first line."""
    block = page.read_text(encoding="utf-8").partition(f"```\n{heading}\n")[2].partition("```")[0]
    entries = []
    for line in block.splitlines():
        depth = (len(line) - len(line.lstrip())) // 2
        names = itertools.takewhile(lambda word: word.endswith((".py", "/")), line.split())
        entries += [(depth, name) for name in names]
    return entries


def test_the_tree_in_the_docs_is_the_tree_of_the_folders():
    listed, folder = set(), ""
    for depth, name in tree_of(ROOT / "docs" / "architecture.md", "molere_cli/"):
        folder = "" if depth == 1 else folder
        if name.endswith("/"):
            folder = name
        else:
            assert folder + name not in listed, f"{folder}{name} stands there twice"
            listed.add(folder + name)
    there = {str(path.relative_to(CORE)) for path in sources(CORE)}
    assert listed == {name for name in there if not name.endswith("/__init__.py")}


def test_the_tree_in_the_docs_stands_in_the_order_of_the_floors():
    rooms = [
        name.removesuffix(".py").rstrip("/")
        for depth, name in tree_of(ROOT / "docs" / "architecture.md", "molere_cli/")
        if depth == 1
    ]
    floors = [FLOOR_OF[room] for room in rooms if room != "__init__"]
    assert floors == sorted(floors, reverse=True)
    assert set(rooms) == {*FLOOR_OF, "__init__"}


def test_the_readme_has_a_line_for_every_folder():
    listed, parents = set(), [""]
    for depth, name in tree_of(ROOT / "README.md", "molere/"):
        parents = [*parents[:depth], name]
        listed.add("".join(parents[1:]))
    git = ["git", "-C", str(ROOT), "ls-files", "-z"]
    files = subprocess.run(git, capture_output=True, text=True, check=True).stdout.split("\0")
    deep = ("molere_cli", "benchmarks")
    top = {f"{parts[0]}/" for file in files if len(parts := file.split("/")) > 1}
    inner = {
        f"{parts[0]}/{parts[1]}/" for file in files if len(parts := file.split("/")) > 2 and parts[0] in deep
    }
    assert listed == {name for name in top | inner if not name.startswith(".")}


def test_imports_are_seen_at_all():
    """Or the test above would pass on anything."""
    seen = {(own, needed) for _, own, needed in core_imports()}
    assert {("config", "registry"), ("tasks", "engine"), ("tasks", "report")} <= seen


def test_no_two_modules_import_each_other():
    """Within a room too; what is only for the type checker, or inside a function, cannot go in circles."""
    needs: dict[str, set[str]] = {}
    for file in sources(CORE):
        eager = [found for found in imports_of(file) if not found.lazy and not found.typing]
        needs[module_name(file)] = {target for found in eager for target in targets(found)}
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, " -> ".join((*path, module))
        if module not in done:
            for needed in sorted(needs[module] - {"molere_cli"}):
                visit(needed, (*path, module))
            done.add(module)

    for module in needs:
        visit(module, ())


def test_the_package_itself_imports_only_what_needs_no_torch():
    eager = [
        target for found in imports_of(CORE / "__init__.py") if not found.typing for target in targets(found)
    ]
    assert {room(target) for target in eager} <= {"errors", "registry"}


def test_the_core_gets_nothing_from_the_package_but_the_version():
    """`from molere_cli import X` inside the core would hide which room X is of."""
    names = {
        found.name for file in sources(CORE) for found in imports_of(file) if targets(found) == ["molere_cli"]
    }
    assert names <= {"__version__"}


def test_the_report_reads_run_directories_alone():
    for file in sources(CORE / "report"):
        for found in imports_of(file):
            assert found.module.partition(".")[0] not in HEAVY, str(found)
            assert {room(target) for target in targets(found)} <= REPORT_MAY_IMPORT, str(found)


def test_the_methods_are_registered_without_the_engine():
    needed = {target for found in imports_of(CORE / "methods" / "__init__.py") for target in targets(found)}
    assert {room(target) for target in needed} == {"registry"}


def test_a_plugin_refers_to_modules_of_its_own():
    """What it gives as a string is an import that the tests above do not see."""
    registry, references = load_plugins(), []
    for offer in registry.offers():
        for field, text, _ in offer.spec.references():
            assert text.partition(":")[0].split(".")[0] == offer.plugin, (offer.prefixed, field, text)
            references.append(text)
    assert len(references) > 60


def test_the_core_imports_no_plugin():
    assert len(FIRST_PARTY) >= 6
    wrong = [
        str(found)
        for file in sources(CORE)
        for found in imports_of(file)
        if found.module.partition(".")[0] in {*FIRST_PARTY, "molere_example_backbone"}
    ]
    assert wrong == []


@pytest.mark.parametrize("plugin", [*FIRST_PARTY, "example_backbone"])
def test_a_plugin_imports_public_names_of_the_core_and_no_other_plugin(plugin):
    found_any = False
    for file in sources(PLUGINS / plugin):
        for found in imports_of(file):
            package = found.module.partition(".")[0]
            if package == "molere_cli":
                found_any = True
                assert found.module == "molere_cli", str(found)
                assert found.name in molere_cli.__all__, f"{found}.{found.name}"
            assert package == plugin or package not in FIRST_PARTY, str(found)
    assert found_any


@pytest.mark.parametrize("plugin", FIRST_PARTY)
def test_a_plugin_registers_without_heavy_imports(plugin):
    """Its `__init__` holds hooks alone; what it imports from its own package at once is as light."""
    pending, seen = [plugin], set()
    while pending:
        module = pending.pop()
        seen.add(module)
        path = PLUGINS.joinpath(*module.split("."))
        file = path.with_suffix(".py") if path.with_suffix(".py").is_file() else path / "__init__.py"
        for found in imports_of(file):
            if found.lazy or found.typing:
                continue
            assert found.module.partition(".")[0] not in HEAVY, str(found)
            if found.module.partition(".")[0] == plugin and found.module not in seen:
                pending.append(found.module)


@pytest.mark.parametrize("package", ["molere_cli", *FIRST_PARTY])
def test_packages_say_that_they_are_typed(package):
    folder = CORE if package == "molere_cli" else PLUGINS / package
    assert (folder / "py.typed").is_file()


def test_public_names_are_sorted_and_all_there():
    assert molere_cli.__all__ == sorted(molere_cli.__all__, key=lambda name: (not name.isupper(), name))
    for name in molere_cli.__all__:
        assert getattr(molere_cli, name) is not None
    with pytest.raises(AttributeError, match="'Nothing'"):
        molere_cli.Nothing  # noqa: B018


def test_every_module_of_the_core_imports_by_itself():
    for found in pkgutil.walk_packages(molere_cli.__path__, "molere_cli."):
        assert importlib.import_module(found.name).__doc__, found.name


LIGHT = """
import sys
import molere_cli.__main__
from molere_cli.registry.registry import load_plugins
registry = load_plugins()
assert not registry.problems, registry.problems
assert registry.datasets.offers and registry.families.offers
heavy = sorted({name.partition(".")[0] for name in sys.modules} & set(sys.argv[1:]))
assert not heavy, heavy
"""


def test_the_command_line_and_the_plugins_load_without_torch():
    command = [sys.executable, "-c", LIGHT, *sorted(HEAVY | {"altair", "scipy", "pyarrow", "numpy"})]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
