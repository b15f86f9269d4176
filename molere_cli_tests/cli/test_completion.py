"""What a shell completes, from outside: names that plugins offer and run directories, without torch."""

from __future__ import annotations

import subprocess
import sys

import pytest

from molere_cli_tests import fake_runs

SEEN = """
import sys
from molere_cli.commands.app import main
try:
    main()
finally:
    print("torch" in sys.modules, file=sys.stderr)
"""


def completed(line: str, cwd, expects=False):
    words = line.split(" ")
    place = {"_MOLERE_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)}
    found = subprocess.run(
        [sys.executable, "-c", SEEN], capture_output=True, text=True, cwd=cwd, env={"PATH": "", **place}
    )
    assert found.stderr.split() == ["False"], found.stderr
    return found.stdout.split()


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("molere train --dataset dig", ["digits"]),
        ("molere train --backbone small", ["small_cnn"]),
        ("molere train --backbone tim", ["timm:"]),
        ("molere train --method erm,mol", ["erm,molere"]),
        ("molere train --split ha", ["hard"]),
        ("molere split --strategy eas", ["easy"]),
        ("molere train --reweighter inst", ["instance"]),
        ("molere train --track tens", ["tensorboard"]),
        ("molere train --schedule cos", ["cosine"]),
        ("molere train --dataset nothing", []),
    ],
)
def test_names_are_completed(line, expected, in_tmp):
    found = completed(line, in_tmp)
    assert [name for name in found if name in expected] == expected
    assert all(name.startswith(line.split(" ")[-1]) for name in found)


def test_run_directories_are_completed(in_tmp):
    fake_runs.erm_run(in_tmp / "runs" / "digits-erm-s0", 0.7)
    fake_runs.erm_run(in_tmp / "runs" / "other", 0.7)
    (in_tmp / "runs" / ".hidden").mkdir()
    assert completed("molere hardest run", in_tmp) == ["runs/"]
    assert completed("molere hardest runs/", in_tmp) == ["runs/digits-erm-s0", "runs/other"]
    assert completed("molere predict runs/dig", in_tmp) == ["runs/digits-erm-s0"]
    assert completed("molere train --resume runs/oth", in_tmp) == ["runs/other"]
    assert completed("molere compare nowhere/x", in_tmp) == []
