"""What a dry run says: the steps that there will be, nothing written, and mistakes as in earnest."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from molere_cli.api.cost_estimate import estimates
from molere_cli.api.run_schedule import make_schedule
from molere_cli.foundation.errors import ConfigError
from molere_cli_tests.training import KilledAfter, tiny_config, train_one


def estimated(configs, registry, *, seeds=None):
    return estimates(make_schedule(configs, registry, seeds=seeds, runs=Path("runs")))


class Counted(KilledAfter):
    """Counts the steps of the last run that was trained."""

    def __init__(self) -> None:
        super().__init__(-1, label_part="none")
        self.steps = 0

    def run_started(self, label, *, seed, num_epochs, path):
        self.steps = 0

    def step_taken(self, *, epoch, step, num_steps, loss):
        self.steps += 1


@pytest.mark.parametrize("batch_size", [4, 16, 64])
@pytest.mark.parametrize("method", ["erm", "lrw", "molere"])
def test_the_steps_are_those_of_the_run(method, batch_size, registry, tmp_path):
    split = {} if method == "erm" else {"split": "hard"}
    config = tiny_config(method=method, batch_size=batch_size, epochs=2, **split)
    (found,) = estimated([config], registry, seeds=[0, 1, 2])
    counted = Counted()
    train_one(config, registry, tmp_path, progress=counted)
    assert found.num_steps == counted.steps
    assert found.num_runs == 3
    assert found.seconds > 0
    assert set(found.before) == ({"ERM for scores"} if split else set())
    assert found.seconds_in_all == pytest.approx(3 * (found.seconds + sum(found.before.values())))


def test_what_auto_needs_comes_before_it(registry):
    (found,) = estimated([tiny_config(method="lrw", split="auto")], registry)
    assert set(found.before) == {"ERM for scores", "ERM on the halves of the pool"}
    assert found.label == "LRW-Auto"


def test_looks_at_the_tuning_set_count(registry):
    plain, looking = (
        estimated([tiny_config(tuning=0.5, epochs=1000, **more)], registry)[0]
        for more in ({}, {"select": "best"})
    )
    assert looking.num_steps == plain.num_steps
    with pytest.raises(ConfigError, match="needs a tuning set"):
        estimated([tiny_config(select="best")], registry)


@pytest.mark.long
@pytest.mark.slow
def test_the_command_writes_nothing(in_tmp):
    flags = (
        "--dry-run --method erm,lrw --split hard --dataset digits --limit-train 200 --epochs 3 --seeds 0-1"
    )
    command = [sys.executable, "-m", "molere_cli", "train", *flags.split(), "--device", "cpu"]
    shown = subprocess.run(command, capture_output=True, text=True, cwd=in_tmp, check=True)
    assert "LRW-Hard" in shown.stdout
    as_json = subprocess.run([*command, "--json"], capture_output=True, text=True, cwd=in_tmp, check=True)
    rows = json.loads(as_json.stdout)
    assert [(row["label"], row["num_runs"], row["num_steps"]) for row in rows] == [
        ("ERM", 2, 12),
        ("LRW-Hard", 2, 12),
    ]
    assert list(in_tmp.iterdir()) == []
