"""How long a user waits for an answer: wall time of short commands, each in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

import harness

sys.path.insert(0, str(harness.ROOT))
from molere_cli_tests import fake_runs

NUM_RUNS, SEEDS = 20, 5
COMPLETING = {
    "_MOLERE_COMPLETE": "complete_bash",
    "COMP_WORDS": "molere train --backbone re",
    "COMP_CWORD": "3",
}
"""What a shell's completion sets."""


def main() -> None:
    parser = harness.option_parser(__doc__, repetitions=15)
    options = harness.parse(parser, quick={"repetitions": 3})
    harness.print_header(
        "Start-up",
        f"Wall time of whole processes, files in the page cache; medians of {options.repetitions} "
        "interleaved rounds after an untimed one",
    )
    with tempfile.TemporaryDirectory() as folder:
        _write_runs(Path(folder))
        found = harness.time_runs(commands(folder), repetitions=options.repetitions)
    python = found["python -c pass"]
    rows = [[label, *timing.cells(".3f"), timing.over(python)] for label, timing in found.items()]
    harness.print_table(["command", "s", "+-", "/ bare Python"], rows)


def commands(runs: str) -> dict[str, harness.Run]:
    """What is timed, with two processes to compare with."""
    molere = str(Path(sys.executable).with_name("molere"))
    lines = {
        "python -c pass": [sys.executable, "-c", "pass"],
        "python -c 'import torch'": [sys.executable, "-c", "import torch"],
        "molere --help": [molere, "--help"],
        "molere plugins": [molere, "plugins"],
        "completing a backbone's name": [molere],
        f"molere compare, {NUM_RUNS} runs": [molere, "compare", "--runs", runs],
    }
    return {label: partial(_call, label, line) for label, line in lines.items()}


def _call(label: str, line: list[str]) -> None:
    environment = {**os.environ, **COMPLETING} if label.startswith("completing") else None
    subprocess.run(line, check=True, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _write_runs(root: Path) -> None:
    """ERM, and LRW on three splits, five seeds each."""
    for seed in range(SEEDS):
        config = {"seed": seed}
        fake_runs.erm_run(root / f"erm-{seed}", 0.70 + 0.01 * seed, config=config)
        for strategy in ("hard", "easy", "random"):
            path = root / f"lrw-{strategy}-{seed}"
            fake_runs.lrw_run(
                path, 0.71 + 0.01 * seed, strategy=strategy, config={**config, "split": strategy}
            )


if __name__ == "__main__":
    main()
