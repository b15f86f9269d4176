"""Run the programme: every cell that has no result yet, in processes of one thread each.

    python benchmarks/reproduce/run.py --list
    python benchmarks/reproduce/run.py shortcut natural --jobs 2 --minutes 60
    python benchmarks/reproduce/run.py --cell shortcut/rho-0.90/erm/s0

It may be stopped at any time and continued anywhere: what is finished is a line of a file under results/.
`--cell` reruns one cell from its line and says whether it gets the same numbers.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from fnmatch import fnmatch
from itertools import groupby
from pathlib import Path
from typing import Any

from cells import HERE, Cell, cells_of, experiments, filled_in, results_of, with_placeholder
from lines import read_lines, write_line

from molere_cli.config.config_file import validate_config
from molere_cli.config.plan import make_plan
from molere_cli.config.run_config import RunConfig, completed
from molere_cli.foundation.errors import MolereError, TrainingError
from molere_cli.hardness.make_split import MadeSplits
from molere_cli.registry.registry import load_plugins

SCRATCH = HERE.parents[1] / "build" / "reproduce"
# What decides a run's bits beside its settings.
BITS_DEPEND_ON = ("cpu", "threads", "torch")


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("experiments", nargs="*", help="which experiments; all of them by default")
    parser.add_argument("--only", nargs="+", default=["*"], help="cells to run, as in '*/noise-40/lrw-*'")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes")
    parser.add_argument("--minutes", type=float, help="start no cell after so many minutes")
    parser.add_argument("--list", action="store_true", help="say what is finished and what is missing")
    parser.add_argument("--cell", help="rerun one finished cell and compare")
    given = parser.parse_args(arguments)
    if given.cell:
        return rerun(given.cell)
    known = experiments()
    if unknown := set(given.experiments) - set(known):
        parser.error(f"unknown experiment {min(unknown)!r}; there are: {', '.join(known)}")
    chosen = {name: known[name] for name in known if name in given.experiments or not given.experiments}
    cells = {name: list(cells_of(name, experiment)) for name, experiment in chosen.items()}
    if given.list:
        for name, own in cells.items():
            done = [cell.result.get("seconds", 0) for cell in own if cell.result is not None]
            print(
                f"{name}: {len(done)} of {len(own)} cells, {sum(done) / 60:.0f} of {chosen[name].minutes} min"
            )
        return 0
    registry = load_plugins()
    for own in cells.values():
        for cell in own:
            make_plan(cell.config(), registry)  # a wrong setting shows before hours are spent
    deadline = time.time() + 60 * given.minutes if given.minutes else float("inf")
    wanted = [
        cell
        for own in cells.values()
        for cell in own
        if any(fnmatch(cell.name, pattern) for pattern in given.only)
    ]
    return run_all(wanted, jobs=given.jobs, deadline=deadline)


def run_all(cells: Iterable[Cell], *, jobs: int, deadline: float) -> int:
    """Run what is missing. A job is one seed of one variant: its cells share their ERM run."""
    missing = [cell for cell in cells if not cell.is_done]
    by_job = groupby(missing, key=lambda cell: (cell.experiment, cell.variant, cell.seed))
    context = multiprocessing.get_context("spawn")
    failed = 0
    with ProcessPoolExecutor(jobs, context, end_with_parent, (os.getpid(),)) as pool:
        futures = {pool.submit(run_job, list(group), deadline): key for key, group in by_job}
        for future in as_completed(futures):
            name = "/".join(str(part) for part in futures[future])
            error = future.exception()
            failed += error is not None
            print(f"{name}: {error!r}" if error else f"{name}: {future.result()}", flush=True)
    return 1 if failed else 0


def end_with_parent(parent: int) -> None:
    """Make a worker end when the programme is killed, which else would go on training."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def run_job(cells: Sequence[Cell], deadline: float) -> str:
    """Run the cells of one seed of one variant, one after the other, and write their results.

    A run that has to stop, because its loss is no longer finite, say, is a result too.
    """
    first = cells[0]
    scratch = SCRATCH / first.experiment / first.variant / f"s{first.seed}"
    shutil.rmtree(scratch, ignore_errors=True)
    started, done = time.time(), 0
    sets = experiments()[first.experiment].sets
    made: MadeSplits = {}
    for cell in cells:
        if time.time() > deadline:
            break
        try:
            result = run_cell(cell.config(), scratch, sets=sets, made=made)
        except TrainingError as error:
            result = {"stopped": str(error)}
        write_line(cell.path, {"cell": cell.name, "cell_settings": cell.settings, **result})
        done += 1
    shutil.rmtree(scratch, ignore_errors=True)
    return f"{done} of {len(cells)} cells in {time.time() - started:.0f} s"


def run_cell(
    config: RunConfig, scratch: Path, *, sets: Sequence[str], made: MadeSplits | None = None
) -> dict[str, Any]:
    """Train one run under `scratch` and measure it; ERM runs there are reused for scores."""
    from measure import measure_run

    from molere_cli.api.run_schedule import train_runs
    from molere_cli.data.source import load_dataset
    from molere_cli.foundation.progress import NoProgress
    from molere_cli.hardness.hardness_scores import erm_run

    registry = load_plugins()
    data = load_dataset(config.data, registry)
    (run,) = train_runs(
        config, [config.machine.seed], registry, runs=scratch, data=data, made=made, progress=NoProgress()
    )
    erm = run if config.method.method == "erm" and config.split.train_on == "all" else None
    if erm is None:
        erm = erm_run(config, registry, data, score="early-aum", runs=scratch, progress=NoProgress())
    return with_placeholder(measure_run(run, erm, data, sets=sets))


def rerun(name: str) -> int:
    """Train a finished cell again from its line, and compare its metrics to the last bit."""
    path = results_of(name.partition("/")[0])
    recorded = read_lines(path).get(name)
    if recorded is None:
        print(f"there is no {name} in {path}; --list says what is finished", file=sys.stderr)
        return 1
    if "stopped" in recorded:
        print(f"{name} has no numbers to compare: {recorded['stopped']}", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory() as scratch:
        again = run_cell(
            validate_config(filled_in(completed(recorded["settings"], source=name)), source=name),
            Path(scratch),
            sets=tuple(recorded["metrics"]),
        )
    differences = [
        f"{key}: recorded {recorded['environment'][key]}, here {again['environment'][key]}"
        for key in BITS_DEPEND_ON
        if recorded["environment"][key] != again["environment"][key]
    ]
    same = True
    for set_name, metrics in recorded["metrics"].items():
        for metric, value in metrics.items():
            here = again["metrics"][set_name][metric]
            same = same and here == value
            print(
                f"{set_name} {metric}: recorded {value:.6f}, here {here:.6f}{'' if here == value else ' *'}"
            )
    print("the same numbers" if same else "other numbers", *differences, sep="; ")
    return 0 if same or differences else 1


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except MolereError as error:
        sys.exit(f"run.py: {error}")
