"""How long a user waits for an answer: wall time of short commands, each in a process of its own."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

from harness import (
    ROOT,
    interleave,
    median,
    option_parser,
    print_header,
    print_table,
    set_threads,
    spread,
    timed,
    times,
)

sys.path.insert(0, str(ROOT))
from molere_cli_tests import fake_runs

NUM_RUNS, SEEDS = 20, 5


def main() -> None:
    parser = option_parser(__doc__, repetitions=15)
    options = parser.parse_args()
    set_threads(options.threads)
    if options.quick:
        options.repetitions = min(options.repetitions, 3)
    print_header(
        "Start-up",
        f"Wall time of whole processes, files in the page cache; medians of {options.repetitions} "
        "interleaved rounds after an untimed one",
    )
    with tempfile.TemporaryDirectory() as folder:
        _write_runs(Path(folder))
        found = interleave(
            {label: timed(run) for label, run in commands(folder).items()},
            repetitions=options.repetitions,
        )
    python = median(found["python -c pass"])
    rows = [
        [label, f"{median(seconds):.3f}", spread(seconds), times(median(seconds) / python)]
        for label, seconds in found.items()
    ]
    print_table(["command", "s", "+-", "/ bare Python"], rows)


def commands(runs: str) -> dict[str, Callable[[], object]]:
    """What is timed, with two processes to compare with."""
    molere = str(Path(sys.executable).with_name("molere"))
    lines = {
        "python -c pass": [sys.executable, "-c", "pass"],
        "python -c 'import torch'": [sys.executable, "-c", "import torch"],
        "molere --help": [molere, "--help"],
        "molere plugins": [molere, "plugins"],
        f"molere compare, {NUM_RUNS} runs": [molere, "compare", "--runs", runs],
    }
    return {label: partial(_call, line) for label, line in lines.items()}


def _call(line: list[str]) -> None:
    subprocess.run(line, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


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
