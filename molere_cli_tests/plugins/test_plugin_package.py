"""The plugin that docs/guide/plugins.md prints whole, installed from its two files into an environment."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from molere_cli_tests.environments import ROOT, environment_with, run


def printed(language: str) -> str:
    """The first block of that language in the section on methods."""
    page = (ROOT / "docs" / "guide" / "plugins.md").read_text(encoding="utf-8")
    section = page.partition("## register_methods(")[2].partition("\n## ")[0]
    return re.search(rf"```{language}\n(.*?)```", section, re.DOTALL)[1]


@pytest.fixture(scope="module")
def python(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("environment")
    source = folder / "source"
    source.mkdir()
    (source / "pyproject.toml").write_text(printed("toml"))
    (source / "molere_truncated.py").write_text(printed("python"))
    return environment_with(source, folder)


@pytest.mark.slow
def test_two_files_make_a_plugin_without_a_problem(python, tmp_path):
    done = run(python, "-m", "molere_cli", "plugins", "methods", "--check", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    (row,) = [line for line in done.stdout.splitlines() if "truncated" in line]
    assert "molere_truncated" in row


@pytest.mark.slow
def test_its_method_trains_with_its_option(python, tmp_path):
    options = (
        "--method truncated --method-option share=0.25 --epochs 1 --limit-train 64 --batch-size 32 --quiet"
    )
    done = run(python, "-m", "molere_cli", "train", *options.split(), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / done.stdout.strip() / "metrics.jsonl").read_text().splitlines()[-1])
    assert record["weights/mean"] == pytest.approx(0.75)
    assert (tmp_path / done.stdout.strip() / "DONE").is_file()
