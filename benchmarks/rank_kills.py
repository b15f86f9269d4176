"""Processes of one run that are killed at random moments under torchrun, which starts them again.

    python benchmarks/rank_kills.py --kills 20

Every trial kills (SIGKILL) a random one of two ranks after a random number of epochs, a few times, and the
run must end on the bits of an undisturbed one. Prints a table, and exits with 1 if a bit is lost.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path
from random import Random

from harness import ROOT, print_header, print_table, progress
from safetensors.torch import load_file

sys.path.insert(0, str(ROOT))
from molere_cli.runs.run_directory import RunDir
from molere_cli_tests.reliability.test_torchrun import ENVIRONMENT, SMALL, command, kill_after
from molere_cli_tests.training import assert_same_tensors, without_times

LINES = {
    "erm": "--method erm",
    "lrw": "--method lrw --split random --reweighter instance",
    "molere": "--method molere --split none --splitter-interval 5",
}
EPOCHS, A_TRIAL = 60, 4


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=20, help="in all (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    print_header("Processes that are killed", f"two ranks, {options.kills} kills, seed {options.seed}")
    random = Random(options.seed)  # noqa: S311 - moments of kills are no secret
    rows, lost, kills = [], 0, 0
    names = list(LINES)
    while kills < options.kills:
        name = names[len(rows) % len(names)]
        number = min(A_TRIAL, options.kills - kills)
        line = f"train {LINES[name]} {SMALL} --epochs {EPOCHS} --checkpoint-every 3steps --quiet --out run"
        with tempfile.TemporaryDirectory() as folder:
            whole, killed = Path(folder) / "whole", Path(folder) / "killed"
            trained(line, whole, moments=[])
            moments = [
                (random.randrange(2), epochs)
                for epochs in sorted(random.sample(range(1, EPOCHS - 15), number))
            ]
            trained(line, killed, moments=moments)
            same = is_same(RunDir(whole / "run"), RunDir(killed / "run"))
        kills += number
        lost += not same
        said = ", ".join(f"{rank} after {epochs}" for rank, epochs in moments)
        rows.append([name, str(number), said, "yes" if same else "NO"])
        progress(f"{name}: {kills} kills, {'as undisturbed' if same else 'other bits'}")
    print_table(("method", "kills", "rank and epochs", "ends on the same bits"), rows)
    return bool(lost)


def trained(line: str, folder: Path, *, moments: list[tuple[int, int]]) -> None:
    """The run in `folder`, two ranks of which are killed at these moments."""
    folder.mkdir()
    log = (folder.parent / f"{folder.name}.log").open("w")
    agent = subprocess.Popen(
        command(line, processes=2, restarts=len(moments)), cwd=folder, env=ENVIRONMENT, stderr=log, stdout=log
    )
    for rank, epochs in moments:
        kill_after(agent, RunDir(folder / "run"), rank=rank, epochs=epochs)
    if agent.wait(timeout=600):
        raise SystemExit(f"torchrun has failed: {Path(log.name).read_text()[-2000:]}")


def is_same(one: RunDir, other: RunDir) -> bool:
    """Whether two finished runs have the same parameters and metrics."""
    if not other.is_done or without_times(one.metrics()) != without_times(other.metrics()):
        return False
    try:
        assert_same_tensors(load_file(one.classifier_path), load_file(other.classifier_path))
    except AssertionError:
        return False
    return True


if __name__ == "__main__":
    sys.exit(main())
