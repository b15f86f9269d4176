"""Without the plugins that add commands all that the core is for works, and theirs are no commands."""

from __future__ import annotations

import json
import sys
from importlib.metadata import entry_points

import pytest

from molere_cli.commands.plugin_commands import CORE_COMMANDS, plugin_commands
from molere_cli.registry.registry import load_plugins

COMMANDS = {name: each.plugin for name, each in plugin_commands(load_plugins()).items()}
SMALL = "--dataset digits --limit-train 60 --epochs 2 --batch-size 32 --quiet"


@pytest.fixture
def alone(molere, monkeypatch):
    """Runs `molere LINE` where no plugin with commands is installed, nor can be imported."""
    without = set(COMMANDS.values())
    assert {"molere_report", "molere_export", "molere_jobs"} <= without
    kept = [entry for entry in entry_points(group="molere") if entry.name not in without]
    monkeypatch.setattr("molere_cli.registry.registry.entry_points", lambda group: kept)
    for name in {*without, *(name for name in sys.modules if name.partition(".")[0] in without)}:
        monkeypatch.setitem(sys.modules, name, None)
    return molere


def test_train_split_eval_compare_and_plugins_run(alone, in_tmp):
    done = alone(f"train --method erm,lrw --split random --seeds 0-1 {SMALL}")
    assert done.code == 0, done.err
    assert len(list((in_tmp / "runs").glob("*/DONE"))) == 4
    assert alone("split --erm runs/digits-erm-s0 --strategy hard --out hard.parquet --quiet").code == 0
    assert (in_tmp / "hard.parquet").is_file()
    assert "test" in alone("eval runs/digits-erm-s0 --json").out
    assert [row["label"] for row in json.loads(alone("compare --format json").out)] == ["ERM", "LRW-Random"]
    line = f"train --method erm --runs other {SMALL.removesuffix('--quiet')}"
    assert "next: " not in alone(line).err  # it would be a command of a plugin
    done = alone("plugins --check --json")
    assert (done.code, done.err) == (0, "")
    assert not {row["plugin"] for row in json.loads(done.out)} & set(COMMANDS.values())


def test_what_those_plugins_add_is_no_command(alone):
    assert {"report", "plot", "curves", "demo", "export", "submit", "hardest"} <= COMMANDS.keys()
    for name in COMMANDS:
        done = alone(name)
        assert (done.code, done.out) == (2, "")
        assert f"No such command '{name}'" in done.err
    shown = alone("--help").out
    assert [name for name in CORE_COMMANDS if f"│ {name} " not in shown] == []
    assert [name for name in COMMANDS if f"│ {name} " in shown] == []
