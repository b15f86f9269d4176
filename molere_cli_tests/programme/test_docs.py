"""The documentation says what is true: hooks, examples, generated pages, versions."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import pytest
from molere_trackers.replay import replay

import molere_cli
from molere_cli.api.evaluation import evaluate_run
from molere_cli.api.run_schedule import train_runs
from molere_cli.foundation.progress import NoProgress
from molere_cli.registry import hookspecs
from molere_cli_tests.training import tiny_config

ROOT = Path(__file__).parents[2]
PLUGIN_PAGES = "".join(
    (ROOT / "docs" / "guide" / name).read_text(encoding="utf-8") for name in ("plugins.md", "plugin-hooks.md")
)
HOOKS = {n: f for n, f in vars(hookspecs).items() if n.startswith("register_")}
EXAMPLES = {
    "register_backbones": {"backbone": "doc_linear", "backbone_option": {"bias": "false"}},
    "register_datasets": {"dataset": "doc_noise"},
    "register_splits": {"method": "lrw", "split": "doc_middling"},
    "register_reweighters": {"method": "lrw", "split": "random", "reweighter": "doc_class"},
    "register_methods": {"method": "truncated", "method_option": {"share": "0.2"}},
    "register_trackers": {},
    "register_transforms": {},
    "register_commands": {},
}


@pytest.mark.parametrize("hook", HOOKS)
def test_every_hook_is_documented_by_its_signature(hook):
    arguments = ", ".join(inspect.signature(HOOKS[hook]).parameters)
    assert f"## {hook}({arguments})" in PLUGIN_PAGES


@pytest.mark.parametrize("hook", HOOKS)
def test_the_example_of_every_hook_runs_as_printed(hook, registry, tmp_path, molere, monkeypatch):
    section = PLUGIN_PAGES.partition(f"## {hook}(")[2]
    code = re.search(r"```python\n(.*?)```", section, re.DOTALL)[1]
    plugin = ModuleType("documented")
    exec(compile(code, f"docs/guide: {hook}", "exec"), vars(plugin))  # noqa: S102 - our page
    registry.add(plugin, "documented")
    assert registry.problems == []
    config = tiny_config(epochs=2, **EXAMPLES[hook])
    (run,) = train_runs(config, [0], registry, runs=tmp_path, progress=NoProgress())
    assert run.is_done
    if hook == "register_transforms":
        found = evaluate_run(run.path, registry, runs=tmp_path, sets=["test", "doc-grey"]).summaries
        # Classes of `tiny` differ in brightness alone.
        assert found["doc-grey"]["accuracy"] == pytest.approx(found["test"]["accuracy"], abs=0.1)
        assert found["doc-grey"]["nll"] != found["test"]["nll"]
    if hook == "register_trackers":
        replay([run.path], "doc_lines", registry, out=tmp_path / "out")
        losses = [f"{record['epoch']} {record['train/loss']:.4f}" for record in run.metrics()]
        assert (tmp_path / "out" / f"{run.path.name}.txt").read_text().splitlines() == losses
    if hook == "register_commands":
        monkeypatch.setattr("molere_cli.commands.app.load_plugins", lambda: registry)
        assert "Print the test accuracy of runs." in molere("--help").out
        done = molere(f"accuracies {run.path}")
        assert done.out == f"{run.path.name}  {run.metrics()[-1]['test/accuracy']:.4f}\n"


def test_the_tests_that_a_page_names_are_there():
    page = (ROOT / "docs" / "dev" / "reliability.md").read_text(encoding="utf-8")
    modules = {
        path.name: path.read_text(encoding="utf-8") for path in ROOT.glob("molere_cli_tests/*/test_*.py")
    }
    tests = set(re.findall(r"def (test_\w+)\(", "".join(modules.values())))
    named = re.findall(r"`(test_\w+(?:\.py)?)`", page)
    assert len(named) > 40
    assert [name for name in named if name not in tests | modules.keys()] == []


def test_generated_pages_are_up_to_date():
    check = subprocess.run(
        [sys.executable, str(ROOT / "docs" / "generate.py"), "--check"], capture_output=True, text=True
    )
    assert check.returncode == 0, check.stderr


def test_every_dataset_of_this_distribution_that_is_not_the_users_own_has_a_card(registry):
    specs = [entry.spec for entry in registry.datasets.entries if entry.plugin.startswith("molere_")]
    assert len(specs) > 10
    without = {spec.name for spec in specs if spec.card is None}
    assert without == {"folder", "csv", "parquet", "hf", "arrays"}


def test_changelog_package_and_project_agree_on_the_version():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    newest = re.search(r"^## \[(\d[^\]]*)\]", changelog, re.MULTILINE)[1]
    assert project["version"] == molere_cli.__version__ == newest


@pytest.mark.parametrize(
    "page", [*sorted(ROOT.glob("docs/*/*.md")), ROOT / "README.md"], ids=lambda p: p.name
)
def test_links_between_pages_lead_somewhere(page):
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), target


SHELVES = ("guide", "reference", "concepts", "dev")


def test_every_page_lies_on_a_shelf_and_says_for_whom_it_is():
    pages = sorted(ROOT.glob("docs/**/*.md"))
    assert {page.relative_to(ROOT / "docs").parts[0] for page in pages} == set(SHELVES)
    assert len(pages) > 25
    for page in pages:
        lines = page.read_text(encoding="utf-8").splitlines()
        text = " ".join(line for line in lines[1:12] if line.strip())
        assert page.name == "cli.md" or text.startswith("For anyone who "), page
        assert len(lines) < 300, page


def test_the_glossary_is_short_and_in_order():
    text = (ROOT / "docs" / "reference" / "glossary.md").read_text(encoding="utf-8")
    terms = re.findall(r"^- \*\*(.+?)\*\*: ", text, re.MULTILINE)
    assert 20 < len(terms) <= 30
    assert [term.lower() for term in terms] == sorted(term.lower() for term in terms)
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "docs/reference/glossary.md" in readme and len(readme.splitlines()) <= 120
    before_table = readme.partition("## What it gains")[0]
    assert not re.search(r"hypergradient|\brho\b|Holm|meta-update", before_table)
    assert "```console" in before_table and "|---" not in before_table


def test_the_walk_of_one_training_is_short():
    page = (ROOT / "docs" / "dev" / "architecture.md").read_text(encoding="utf-8")
    walk = page.partition("## One `molere train`")[2].partition("\n## ")[0]
    files = [ROOT / "molere_cli" / name for name in re.findall(r"^\| `(\S+\.py)` \|", walk, re.MULTILINE)]
    num_lines = sum(len(file.read_text(encoding="utf-8").splitlines()) for file in files)
    assert 8 <= len(files) <= 11 and num_lines <= 3000, num_lines
