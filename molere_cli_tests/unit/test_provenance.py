"""What a run says it was made with."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from molere_cli.training import run_environment
from molere_cli_tests.layout import ROOT


def git(*arguments: str, cwd: Path) -> str:
    identity = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
    return subprocess.run(
        ["git", *identity, *arguments], cwd=cwd, capture_output=True, text=True, check=True
    ).stdout.strip()


def test_a_checkout_says_its_commit_and_whether_it_was_edited(tmp_path, monkeypatch):
    module = tmp_path / "molere_cli" / "training" / "run_environment.py"
    module.parent.mkdir(parents=True)
    shutil.copy(run_environment.__file__, module)
    monkeypatch.setattr(run_environment, "__file__", str(module))
    assert run_environment.source_commit() is None
    git("init", "--quiet", cwd=tmp_path)
    git("add", ".", cwd=tmp_path)
    git("commit", "--quiet", "--message", "all", cwd=tmp_path)
    head = git("rev-parse", "HEAD", cwd=tmp_path)
    assert run_environment.source_commit() == head
    (tmp_path / "runs").mkdir()
    assert run_environment.source_commit() == head
    module.write_text(module.read_text() + "# edited\n")
    assert run_environment.source_commit() == f"{head}-dirty"


@pytest.mark.parametrize(
    ("program", "arguments", "command"),
    [
        ("molere", ["train", "--dataset", "folder:my photos"], "molere train --dataset 'folder:my photos'"),
        ("/usr/bin/molere", ["demo"], "molere demo"),
        ("/src/molere_cli/__main__.py", ["train"], "molere train"),
    ],
)
def test_a_command_is_as_it_was_typed(program, arguments, command, monkeypatch):
    monkeypatch.setattr(sys, "argv", [program, *arguments])
    assert run_environment.command_line() == command


@pytest.mark.slow
def test_a_program_that_calls_the_library_is_no_command_of_it(tmp_path):
    """As a notebook's kernel, which has arguments of its own."""
    program = """
import molere_cli as molere
data = molere.dataset("digits", limit_train=50)
print(molere.train(data, methods="erm", epochs=1, device="cpu")[0].path)
"""
    path = os.pathsep.join(map(str, (ROOT, ROOT / "plugins")))
    done = subprocess.run(
        [sys.executable, "-", "-f", "kernel.json"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": path},
        input=program,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    run = tmp_path / done.stdout.split()[-1]
    assert json.loads((run / "environment.json").read_text())["command"] == "python - -f kernel.json"
