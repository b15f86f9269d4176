"""What the benchmarks share: interleaved timing, memory from a process a row, Markdown output.

Times are medians over interleaved repetitions (A B C A B C ...), so that a slow minute of the machine
falls on every row alike. Memory is the peak resident set of a process that runs one row alone, less its
resident set once data and model are loaded.
"""

from __future__ import annotations

import argparse
import gc
import json
import math
import multiprocessing
import os
import shlex
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from molere_cli.training.run_environment import cpu_name, source_commit, versions

ROOT = Path(__file__).resolve().parents[1]
DATA = Path(os.environ.get("MOLERE_DATA", ROOT.parent / "shared" / "data"))
NOTHING = "-"


class Clock:
    """Adds up the seconds spent in its `with` blocks, what a GPU does for them included."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._started = 0.0

    def __enter__(self) -> Clock:
        _wait_for_gpu()
        self._started = time.perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        _wait_for_gpu()
        self.seconds += time.perf_counter() - self._started


def _wait_for_gpu() -> None:
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()


Run = Callable[[], object]
Action = Callable[[Clock], object]


@dataclass(frozen=True)
class Timing:
    """The seconds that each repetition of a row took."""

    seconds: Sequence[float] = ()

    @property
    def median(self) -> float:
        """Seconds; nan of nothing."""
        return statistics.median(self.seconds) if self.seconds else math.nan

    @property
    def spread(self) -> str:
        """Half the distance between the quartiles, in percent of the median."""
        if len(self.seconds) < 2:
            return NOTHING
        low, _, high = statistics.quantiles(self.seconds, n=4, method="inclusive")
        return f"{50 * (high - low) / self.median:.0f}%"

    def cells(self, form: str, *, per_second: float = 1.0) -> tuple[str, str]:
        """The median and its spread, for a table; per_second: units of the table in a second."""
        return format(per_second * self.median, form), self.spread

    def over(self, base: Timing) -> str:
        """How many times the median of `base`, `1.33x`."""
        return times(self.median / base.median)


def time_runs(runs: Mapping[str, Run], *, repetitions: int, warmups: int = 1) -> dict[str, Timing]:
    """As `interleave`, of runs of which everything counts."""
    return interleave(
        {name: _timed(run) for name, run in runs.items()}, repetitions=repetitions, warmups=warmups
    )


def _timed(run: Run) -> Action:
    def action(clock: Clock) -> None:
        with clock:
            run()

    return action


def interleave(actions: Mapping[str, Action], *, repetitions: int, warmups: int = 1) -> dict[str, Timing]:
    """The timing of each action; all take turns, first in `warmups` untimed rounds."""
    seconds: dict[str, list[float]] = {name: [] for name in actions}
    for number in range(-warmups, repetitions):
        for name, action in actions.items():
            gc.collect()
            clock = Clock()
            action(clock)
            if number >= 0:
                seconds[name].append(clock.seconds)
            progress(f"round {number + 1}/{repetitions} {name}: {clock.seconds:.4g} s")
    return {name: Timing(own) for name, own in seconds.items()}


def progress(message: str) -> None:
    """One line on stderr, so that stdout holds the tables alone."""
    print(message, file=sys.stderr, flush=True)


# --- options


def option_parser(
    documentation: str | None, *, repetitions: int, memory: bool = False
) -> argparse.ArgumentParser:
    """The options that every benchmark takes.

    memory: with `--no-memory` too, and the row that a child process is to run.
    """
    summary = (documentation or "").partition("\n")[0]
    parser = argparse.ArgumentParser(description=summary)
    parser.add_argument("--repetitions", type=int, default=repetitions, help="rounds (default: %(default)s)")
    parser.add_argument("--threads", type=int, help="torch's CPU threads (default: torch's choice)")
    parser.add_argument("--quick", action="store_true", help="small sizes, to see that it works")
    if memory:
        parser.add_argument("--no-memory", action="store_true", help="leave out the memory column")
        parser.add_argument("--memory-row", help=argparse.SUPPRESS)
    return parser


def parse(parser: argparse.ArgumentParser, *, quick: Mapping[str, Any]) -> argparse.Namespace:
    """The options of the command line; fixes torch's threads.

    quick: what `--quick` makes of them. A number is lowered to this one, anything else is replaced.
    """
    options = parser.parse_args()
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    if options.quick:
        for name, small in quick.items():
            given = getattr(options, name)
            setattr(options, name, min(given, small) if isinstance(small, int) else small)
    return options


# --- memory


def peak_memory(row: str, options: argparse.Namespace, *more: str) -> float:
    """What one row needs, in bytes, by running this very command for that row in a process of its own; nan
    under `--no-memory`.

    more: further arguments for that process.
    """
    if options.no_memory:
        return math.nan
    progress(f"memory of {row}")
    command = [sys.executable, *sys.argv, *more, "--memory-row", row]
    found = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return int(json.loads(found.stdout.splitlines()[-1]))


def report_peak(run: Run) -> None:
    """In the child process, with data and model loaded: print the peak of `run` over the present size."""
    gc.collect()
    # Resets the high-water mark, which else might stem from loading (proc(5), clear_refs).
    Path("/proc/self/clear_refs").write_text("5")
    loaded = _status("VmRSS")
    run()
    print(json.dumps(_status("VmHWM") - loaded))


def report_peak_with_workers(run: Run) -> None:
    """In the child process: print the peak of this process and its workers together, looked at ten times a
    second. All counts, the interpreter and torch too; a page that processes share counts once."""
    peak, over = 0, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not over.wait(0.1):
            tree = [os.getpid(), *(worker.pid for worker in multiprocessing.active_children())]
            peak = max(peak, sum(_proportional(pid) for pid in tree if pid is not None))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        run()
    finally:  # or a run that fails would leave its process waiting for the watcher
        over.set()
        watcher.join()
    print(json.dumps(peak))


def _proportional(pid: int) -> int:
    """The bytes of a process, shared pages divided among those who share; 0 if it is gone (proc(5))."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return 1024 * sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))


def _status(key: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    (kibibytes,) = (line.split()[1] for line in lines if line.startswith(key + ":"))
    return 1024 * int(kibibytes)


# --- output


def print_header(title: str, *notes: str, packages: Sequence[str] = ()) -> None:
    """Title, what it was measured with, and what it measures."""
    made_with = [f"{name} {number}" for name, number in versions().items()]
    made_with += [f"{name} {_version(name)}" for name in packages]
    print(f"## {title}\n")
    print(f"- Date: {datetime.now(UTC).isoformat(timespec='seconds')}, commit {source_commit()}")
    print(f"- Machine: {cpu_name()}, {os.cpu_count()} cores, {torch.get_num_threads()} torch threads")
    print(f"- Versions: {', '.join(made_with)}")
    script = Path(sys.argv[0]).resolve()
    where = script.relative_to(ROOT) if script.is_relative_to(ROOT) else script
    print(f"- Command: `{shlex.join(['python', str(where), *sys.argv[1:]])}`")
    for note in notes:
        print(f"- {note}")
    print(flush=True)


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A Markdown table: the first column to the left, the others to the right."""
    cells = [[str(cell).replace("|", "\\|") for cell in row] for row in (columns, *rows)]
    widths = [max(len(row[number]) for row in cells) for number in range(len(columns))]

    def line(row: Sequence[str]) -> str:
        padded = [row[0].ljust(widths[0])]
        padded += [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        return "| " + " | ".join(padded) + " |"

    dashes = ["-" * widths[0]] + ["-" * (width - 1) + ":" for width in widths[1:]]
    print("\n".join([line(cells[0]), line(dashes), *(line(row) for row in cells[1:])]) + "\n", flush=True)


def times(value: float) -> str:
    """A ratio, `1.33x`."""
    return NOTHING if math.isnan(value) else f"{value:.2f}x"


def mebibytes(num_bytes: float) -> str:
    """`123 MiB`."""
    return NOTHING if math.isnan(num_bytes) else f"{num_bytes / 2**20:.0f} MiB"
