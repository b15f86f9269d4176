"""The demo, as a process of its own: it ends with the table, and leaves the page."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from molere_report.demo_study import demo_commands, num_demo_runs

from molere_cli_tests.pages import Elements

ROWS = ["ERM", "LRW-Random", "LRW-Hard", "LRW-Auto", "MOLERE (LRW-Opt)"]


@pytest.mark.slow
def test_the_demo_ends_with_the_table_and_leaves_the_page(tmp_path):
    out = tmp_path / "demo"
    command = [sys.executable, "-m", "molere_cli", "demo", "--seeds", "0-1", "--epochs", "3"]
    command += ["--out", str(out)]
    # The width of a terminal, which readline puts into the environment, is not what is looked at here.
    environment = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("colour-digits")
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in lines if line.startswith("│")]
    assert sorted(row[0] for row in rows) == sorted(ROWS)
    assert {tuple(row[1:3]) for row in rows} == {("2", "0-1")}
    assert lines[-1].startswith(f"{out / 'report.html'}  the page")
    page = Elements((out / "report.html").read_text(encoding="utf-8"))
    assert [text for _, text in page.of("h2")][:4] == [
        *("Did it help?", "For whom?", "At what cost?", "On which images?")
    ]
    assert "Of 4 methods measured against ERM" in page.text()
    finished = sorted(path.parent for path in out.glob("*/DONE"))
    assert len(finished) == num_demo_runs([0, 1]) == 10
    for run in finished:
        last = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])
        assert 0 < last["test/worst_group"] <= 1
    for command_line in demo_commands("0-1", epochs=3):
        assert command_line in done.stderr


def test_the_demo_says_commands_that_are_complete():
    commands = demo_commands("0-4")
    assert len(commands) == len(ROWS)
    assert all(command.endswith("--seeds 0-4") for command in commands)
