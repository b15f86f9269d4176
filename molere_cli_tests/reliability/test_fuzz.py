"""Damaged files in every reader: a sentence or the right thing, soon and in little memory.

`python benchmarks/faults.py fuzz` does the same for longer.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from molere_cli.data.source import load_dataset
from molere_cli.foundation.errors import RunError
from molere_cli.registry.registry import load_plugins
from molere_cli_tests.conftest import TinyPlugin
from molere_cli_tests.fuzzing import Target, fuzz, targets
from molere_cli_tests.training import tiny_config, train_one

INPUTS = 200
NAMES = ("split", "records", "records-without-digests", "checkpoint", "toml", "json", "noise", "manifest")


@pytest.fixture(scope="module")
def found_targets(tmp_path_factory) -> dict[str, Target]:
    registry = load_plugins()
    registry.add(TinyPlugin(), "tiny_plugin")
    folder = tmp_path_factory.mktemp("fuzz")
    config = tiny_config(method="lrw", split="random", delta=0.25, epochs=2)
    run = train_one(config, registry, folder / "runs")
    data = load_dataset(config.data, registry)
    found = targets(run, run.split_path, data, registry, folder / "good")
    return {target.name: target for target in found}


@pytest.mark.parametrize("name", NAMES)
def test_a_damaged_file_is_refused_in_a_sentence_or_read(found_targets, tmp_path, name):
    assert set(NAMES) == found_targets.keys()
    found = fuzz(found_targets[name], tmp_path, inputs=INPUTS)
    if found.problems:
        pytest.fail(found.problems[0][-2000:])
    assert found.outcomes["refused"] > INPUTS // 10


@pytest.mark.parametrize(
    ("read", "outcome"),
    [
        (lambda: 1 / 0, "traceback"),
        (lambda: bytes([1]) * (200 << 20), "large"),
        (lambda: (_ for _ in ()).throw(RunError("a\nb")), "several lines"),
        (lambda: (_ for _ in ()).throw(RunError("no")), "refused"),
        (lambda: None, "read"),
    ],
)
def test_what_goes_wrong_is_counted(tmp_path, read, outcome):
    (tmp_path / "good").mkdir()
    (tmp_path / "good" / "a").write_bytes(b"abc")

    def read_damaged(folder):
        if (folder / "a").read_bytes() != b"abc":
            read()

    (tmp_path / "scratch").mkdir()
    found = fuzz(Target("a", tmp_path / "good", ("a",), read_damaged), tmp_path / "scratch", inputs=3)
    assert found.outcomes[outcome] > 0
    assert bool(found.problems) == (outcome not in {"refused", "read"})


@pytest.mark.long
@pytest.mark.slow
def test_a_run_survives_its_disk_and_names_its_damage():
    """One in twenty operations of a run, and every file of one; checkpoints have tests of their own."""
    script = Path(__file__).parents[2] / "benchmarks" / "faults.py"
    disk = subprocess.run(
        [sys.executable, script, "disk", "--step", "20"], capture_output=True, text=True, timeout=300
    )
    assert disk.returncode == 0, disk.stderr[-3000:]
