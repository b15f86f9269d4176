"""What becomes of a run that is killed at random moments, and whose command is typed again until it is done.

    python benchmarks/kills.py --kills 200

Every trial begins in an empty folder. Its command, with --resume-unfinished, is killed (SIGKILL) after a time
that is drawn uniformly from that of an undisturbed run, and typed again, until it comes to its end. Then the
folder must hold what the undisturbed run left, to the bit, and no other file. The processes are forked from
one that has imported everything, so that no kill falls on an import.

Prints a table, and exits with 1 if a bit, a step that a checkpoint had, or the absence of litter was lost.
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from contextlib import ExitStack, chdir, redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from random import Random

import pyarrow.parquet as pq
from harness import ROOT, print_header, print_table, progress

sys.path.insert(0, str(ROOT))
from molere_cli.commands import app as entry
from molere_cli.engine.checkpoint import load_state
from molere_cli.runs.find_runs import run_paths
from molere_cli.runs.run_directory import RunDir

COMMON = "--limit-train 200 --batch-size 32 --epochs 3 --precision fp32 --device cpu --threads 1 --quiet"
LINES = {
    "erm, two seeds": "--method erm --seeds 0-1",
    "lrw, hard": "--method lrw --split hard --delta 0.2",
    "lrw, random": "--method lrw --split random --delta 0.2 --reweighter instance",
    "molere": "--method molere --split none --delta 0.2 --splitter-interval 1",
    "jtt": "--method jtt",
    "group-dro": "--method group-dro --dataset colour-digits",
}
INTERVALS = "1steps", "3steps", "10m"
MOMENTS = "before a run", "in its ERM run", "in a checkpoint", "within an epoch", "at its end"
FAULTS = "other bits", "steps lost", "litter", "failed"
PATIENCE = 120.0
"""Seconds after which a command counts as hung."""
LOG_LENGTH = 2000


@dataclass
class Found:
    """What the trials of one command line have come to."""

    trials: int = 0
    moments: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=200, help="in all (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    started = time.perf_counter()
    print_header("Runs that are killed", f"{options.kills} kills, seed {options.seed}.")
    found = {name: Found() for name in LINES}
    problems: list[str] = []
    with tempfile.TemporaryDirectory() as scratch:
        import_everything(Path(scratch) / "imports")
        run_trials(options, Path(scratch), found, problems)
    print_table(
        ("command", "trials", "kills", *MOMENTS, *FAULTS),
        [
            (
                name,
                str(each.trials),
                str(each.moments.total()),
                *(str(each.moments[moment]) for moment in MOMENTS),
                *(str(each.faults[fault]) for fault in FAULTS),
            )
            for name, each in found.items()
        ],
    )
    print(f"{time.perf_counter() - started:.0f} s")
    for problem in problems:
        print(problem, file=sys.stderr)
    return bool(problems)


def run_trials(
    options: argparse.Namespace, scratch: Path, found: dict[str, Found], problems: list[str]
) -> None:
    random, turns = Random(options.seed), cycle(INTERVALS)  # noqa: S311 - moments of kills are no secret
    wholes: dict[str, tuple[dict[str, object], float]] = {}
    for number, (name, line) in enumerate(cycle(LINES.items())):
        if sum(each.moments.total() for each in found.values()) >= options.kills:
            return
        folder, each = scratch / f"trial{number}", found[name]
        if name not in wholes:
            wholes[name] = undisturbed(line, scratch / f"whole{number}")
        problem = trial(f"{line} --checkpoint-every {next(turns)}", folder, wholes[name], each, random)
        progress(f"{name}: {each.moments.total()} kills, {problem or 'as undisturbed'}")
        if problem is not None:
            problems.append(f"{name}: {problem}")
        shutil.rmtree(folder)


def undisturbed(line: str, folder: Path) -> tuple[dict[str, object], float]:
    """What the command leaves, and how many seconds it takes."""
    started = time.perf_counter()
    process = start(line, folder)
    if (code := ended(process, PATIENCE)) != 0:
        raise SystemExit(f"{line} ended with {code}:\n{log(folder)}")
    return contents(folder), time.perf_counter() - started


def trial(
    line: str, folder: Path, whole: tuple[dict[str, object], float], found: Found, random: Random
) -> str | None:
    """Kill the command until it comes to its end; what is wrong then, if anything is."""
    expected, seconds = whole
    found.trials += 1
    reached: dict[str, tuple[int, int]] = {}
    while True:
        process = start(line, folder)
        code = ended(process, random.uniform(0, seconds))
        if code is None:
            os.kill(process, signal.SIGKILL)
            code = ended(process, PATIENCE)
        if code != -signal.SIGKILL:
            break
        found.moments[moment(folder)] += 1
        now = steps(folder)
        if lost := [name for name, place in reached.items() if now.get(name, (0, 0)) < place]:
            found.faults["steps lost"] += 1
            return f"{lost[0]} had come to {reached[lost[0]]}, and is at {now.get(lost[0])}"
        reached = now
    if code != 0:
        found.faults["failed"] += 1
        return f"{line} ended with {code}:\n{log(folder)}"
    return difference(contents(folder), expected, found)


def difference(left: dict[str, object], expected: dict[str, object], found: Found) -> str | None:
    if litter := left.keys() ^ expected.keys():
        found.faults["litter"] += 1
        return f"files that only one of the two has: {sorted(litter)}"
    if others := [name for name, content in left.items() if content != expected[name]]:
        found.faults["other bits"] += 1
        return f"other bits: {others}"
    return None


def moment(folder: Path) -> str:
    """Where the command was when it was killed, as far as its files tell."""
    unfinished = [path for path in run_paths(folder / "runs") if not RunDir(path).is_done]
    if not unfinished:
        return "before a run" if not run_paths(folder / "runs") else "at its end"
    (path,) = unfinished
    if (path / "checkpoint.new").exists() or not (path / "checkpoint").exists():
        return "in a checkpoint" if RunDir(path).checkpoint() else "within an epoch"
    return "in its ERM run" if "-erm-" in path.name and "lrw" in log(folder) else "within an epoch"


def steps(folder: Path) -> dict[str, tuple[int, int]]:
    """The epoch and the step in it that the newest checkpoint of each run has."""
    found = {}
    for path in run_paths(folder / "runs"):
        state = RunDir(path).read_checkpoint(load_state, note=note_is_a_fault)
        if state is not None:
            within = "epoch" in state
            num_steps = len(state["totals"]["num_correct"]) if within else 0
            found[path.name] = state["epoch" if within else "next_epoch"], num_steps
    return found


def note_is_a_fault(message: str) -> None:
    raise AssertionError(message)


def contents(folder: Path) -> dict[str, object]:
    """What each file under `runs` holds, of those with times in them without these; None of those that follow
    the checkpoints' times."""
    return {
        str(path.relative_to(folder)): content(path)
        for path in (folder / "runs").rglob("*")
        if path.is_file() and path.parent.name != "checkpoint.old"
    }


def content(path: Path) -> object:
    if path.name == "metrics.jsonl":
        return [
            {key: value for key, value in record.items() if not key.startswith(("time/", "memory/"))}
            for record in RunDir(path.parent).metrics()
        ]
    if path.name == "split.parquet":
        return pq.read_table(path).to_pydict()
    if path.suffix in {".safetensors", ".parquet"}:
        return path.read_bytes()
    return None


def start(line: str, folder: Path) -> int:
    """The command in a process of its own, with what it says in `folder`'s log."""
    folder.mkdir(exist_ok=True)
    process = os.fork()
    if process:
        return process
    try:
        os.chdir(folder)
        with open("log", "w") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        sys.argv = ["molere", *shlex.split(f"train {line} {COMMON} --resume-unfinished")]
        print(shlex.join(sys.argv), flush=True)
        entry.main()
    except SystemExit as left:
        sys.stdout.flush()
        os._exit(int(left.code or 0))
    except BaseException:
        traceback.print_exc()
    os._exit(99)


def ended(process: int, seconds: float) -> int | None:
    """The exit code of a process, minus the signal's number if one ended it; None if it goes on so long."""
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        number, status = os.waitpid(process, os.WNOHANG)
        if number:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.001)
    return None


def log(folder: Path) -> str:
    return (folder / "log").read_text()[-LOG_LENGTH:]


def import_everything(folder: Path) -> None:
    """Run what the commands run, here."""
    folder.mkdir()
    with ExitStack() as stack:
        stack.enter_context(chdir(folder))
        nowhere = stack.enter_context(open(os.devnull, "w"))
        stack.enter_context(redirect_stdout(nowhere))
        stack.enter_context(redirect_stderr(nowhere))
        for line in LINES.values():
            sys.argv = ["molere", *shlex.split(f"train {line} {COMMON} --epochs 1")]
            with suppress(SystemExit):
                entry.main()


if __name__ == "__main__":
    sys.exit(main())
