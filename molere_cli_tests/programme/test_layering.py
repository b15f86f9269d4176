"""One direction: what may import what, read off the sources."""

from __future__ import annotations

import importlib
import pkgutil
import subprocess
import sys

import pytest

import molere_cli
from molere_cli import commands, report, testing
from molere_cli.registry.registry import load_plugins
from molere_cli_tests.layout import (
    CORE,
    PLUGINS,
    basenames_twice,
    circle,
    floors,
    imports_of,
    module_imports,
    room,
    room_imports,
    sources,
    summary,
    target,
)

# The floors from the bottom up: a room imports only from floors below its own; rooms on one floor know
# nothing of one another.
FLOORS = [
    ["foundation"],
    ["registry", "runs"],
    ["config", "splits"],
    ["data", "report"],
    ["engine"],
    ["methods"],
    ["training"],
    ["hardness", "testing"],
    ["api"],
    ["commands"],
]
MAX_ARROWS = 100
REPORT_MAY_IMPORT = {"foundation", "registry", "runs", "config", "report"}
HEAVY = {"torch", "torchvision", "timm", "sklearn", "torchmetrics", "safetensors", "datasets"}
PUBLIC = {"molere_cli": molere_cli, "molere_cli.commands": commands, "molere_cli.report": report}
"""What plugins import from: the contracts, what commands need, finished runs."""
TO_TESTS = {**PUBLIC, "molere_cli.testing": testing}
"""What their tests, `test_*.py`, import from."""
FIRST_PARTY = sorted(path.parent.name for path in PLUGINS.glob("molere_*/__init__.py"))


def test_the_floors_are_those_of_the_plan(capsys):
    with capsys.disabled():
        print(f"\n{summary()}")
    assert floors(room_imports()) == FLOORS


def test_no_module_imports_itself_by_way_of_others():
    """In functions too, and for the type checker; commands apart, which import when they are called."""
    assert circle(module_imports()) == []


def test_what_commands_import_when_they_are_called_lies_below_them():
    for file in sources(CORE / "commands"):
        for found in imports_of(file):
            needed = target(found)
            assert needed is None or room(needed) != "__main__", str(found)
    importers = {
        name for name, needs in module_imports().items() if any(room(n) == "commands" for n in needs)
    }
    assert {room(name) for name in importers} <= {"commands", "__main__"}


def test_rooms_import_few_others():
    arrows = [(own, other) for own, others in room_imports().items() for other in others]
    assert 20 < len(arrows) <= MAX_ARROWS


def test_a_circle_is_seen():
    """Or the tests above would pass on anything."""
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"a"}}) != []
    seen = {(own, needed) for own, others in room_imports().items() for needed in others}
    assert {("config", "registry"), ("training", "engine"), ("api", "report")} <= seen


def test_a_file_name_says_which_file_is_meant():
    assert basenames_twice() == []


def test_the_package_itself_imports_only_what_needs_no_torch():
    eager = [target(found) for found in imports_of(CORE / "__init__.py") if not found.typing]
    assert {room(needed) for needed in eager if needed} <= {"foundation", "registry"}


def test_the_core_gets_nothing_from_the_package_but_the_version():
    """`from molere_cli import X` inside the core would hide which room X is of."""
    names = {
        found.name for file in sources(CORE) for found in imports_of(file) if target(found) == "molere_cli"
    }
    assert names <= {"__version__"}


def test_the_report_reads_run_directories_alone():
    for file in sources(CORE / "report"):
        for found in imports_of(file):
            assert found.module.partition(".")[0] not in HEAVY, str(found)
            needed = target(found)
            assert needed is None or room(needed) in REPORT_MAY_IMPORT, str(found)


def test_the_methods_are_registered_without_the_engine():
    needed = {target(found) for found in imports_of(CORE / "methods" / "__init__.py")} - {None}
    assert {room(each) for each in needed} == {"registry"}


def test_a_plugin_refers_to_modules_of_its_own():
    """What it gives as a string is an import that the tests above do not see."""
    registry, references = load_plugins(), []
    for entry in registry.entries():
        for field, text, _ in entry.spec.references():
            assert text.partition(":")[0].split(".")[0] == entry.plugin, (entry.prefixed, field, text)
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
                public = TO_TESTS if file.name.startswith("test_") else PUBLIC
                assert found.module in public, str(found)
                assert found.name in public[found.module].__all__, f"{found}.{found.name}"
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


@pytest.mark.parametrize("package", TO_TESTS)
def test_public_names_are_sorted_and_all_there(package):
    public = TO_TESTS[package]
    assert public.__all__ == sorted(public.__all__, key=lambda name: (not name.isupper(), name))
    for name in public.__all__:
        assert getattr(public, name) is not None
    with pytest.raises(AttributeError, match="'Nothing'"):
        public.Nothing  # noqa: B018


def test_every_module_of_the_core_imports_by_itself():
    for found in pkgutil.walk_packages(molere_cli.__path__, "molere_cli."):
        assert importlib.import_module(found.name).__doc__, found.name


LIGHT = """
import sys
import molere_cli.commands.app
from molere_cli.registry.registry import load_plugins
registry = load_plugins()
assert not registry.problems, registry.problems
assert registry.datasets.entries and registry.families.entries
heavy = sorted({name.partition(".")[0] for name in sys.modules} & set(sys.argv[1:]))
assert not heavy, heavy
"""


def test_the_command_line_and_the_plugins_load_without_torch():
    command = [sys.executable, "-c", LIGHT, *sorted(HEAVY | {"altair", "scipy", "pyarrow", "numpy"})]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
