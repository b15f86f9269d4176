"""Who imports whom in the core, read off the sources: rooms, floors, arrows, circles.

A room is a folder of `molere_cli`. An arrow: one room imports another. A floor: the rooms that stand on one
another in as many steps; each imports only from floors below. `python -m molere_cli_tests.layout` prints all.
"""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
CORE, PLUGINS = ROOT / "molere_cli", ROOT / "plugins"

Graph = Mapping[str, set[str]]
"""What each module, or room, imports."""


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


@functools.cache
def imports_of(file: Path) -> tuple[Import, ...]:
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

    return tuple(visit(ast.parse(file.read_text(encoding="utf-8")), lazy=False, typing=False))


def sources(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*.py") if "build" not in path.relative_to(folder).parts)


def module_name(file: Path) -> str:
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def target(found: Import) -> str | None:
    """The module of the core that an import needs: `from molere_cli.data import feed` needs `data.feed`."""
    if found.module.partition(".")[0] != "molere_cli":
        return None
    as_module = f"{found.module}.{found.name}"
    path = ROOT.joinpath(*as_module.split("."))
    is_module = path.with_suffix(".py").is_file() or (path / "__init__.py").is_file()
    return as_module if found.name and is_module else found.module


def room(module: str) -> str | None:
    """`molere_cli.data.feed` is in room `data`; the package itself is in none."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else None


def module_imports() -> Graph:
    """What every module of the core imports from the core: in functions too, and for the type checker.

    What commands import when they are called is left out, since they put it off for the sake of `--help`.
    """
    graph: dict[str, set[str]] = {}
    for file in sources(CORE):
        name = module_name(file)
        if name == "molere_cli":  # it gives names of every floor to others, and stands on none
            continue
        graph[name] = {
            needed
            for found in imports_of(file)
            if (needed := target(found)) not in {None, name, "molere_cli"}
            and not (found.lazy and room(name) == "commands")
        }
    return graph


def room_imports() -> Graph:
    """The same from room to room; `__main__` is part of `commands`, whose first line it is."""
    graph: dict[str, set[str]] = {}
    for module, needs in module_imports().items():
        if (own := room(module)) not in {None, "__main__"}:
            others = graph.setdefault(str(own), set())
            others |= {str(other) for each in needs if (other := room(each)) not in {own, None}}
    return graph


def floors(graph: Graph) -> list[list[str]]:
    """From the bottom up.

    Raises:
        CycleError: there is a circle.
    """
    sorter = TopologicalSorter(graph)
    sorter.prepare()
    found = []
    while sorter.is_active():
        found.append(sorted(ready := sorter.get_ready()))
        sorter.done(*ready)
    return found


def circle(graph: Graph) -> list[str]:
    """One of them, or nothing."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def basenames_twice() -> list[str]:
    """Of files, commands apart, which have the verbs' names."""
    names = [file.stem for file in sources(CORE) if file.parent.name != "commands"]
    return sorted({name for name in names if name != "__init__" and names.count(name) > 1})


def summary() -> str:
    """The floors from the top down, and the figures."""
    graph = room_imports()
    lines = [f"{number:>2}  {' '.join(rooms)}" for number, rooms in enumerate(floors(graph), 1)]
    num_lines = sum(len(file.read_text(encoding="utf-8").splitlines()) for file in sources(CORE))
    figures = f"{len(graph)} rooms, {len(lines)} floors, {sum(map(len, graph.values()))} arrows"
    return "\n".join([*reversed(lines), f"{figures}, no circle; {num_lines:,} lines"])


if __name__ == "__main__":
    print(summary())
