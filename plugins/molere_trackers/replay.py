"""The records that runs have, shown by a tracker."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from molere_cli import TrackerRequest
from molere_cli.commands import Registry
from molere_cli.report import RunDir


def replay(paths: Sequence[Path], to: str, registry: Registry, *, out: Path) -> list[Path]:
    """Show the records of runs, finished or not, by a tracker; the runs.

    Raises:
        UnknownNameError: no plugin offers such a tracker.
        RunError: a path is no run, or its metrics cannot be read.
    """
    spec = registry.trackers.get(to)
    runs = [(RunDir(path), RunDir(path).config()) for path in paths]
    for run, settings in runs:
        tracker = spec.start(
            TrackerRequest(run=run.path, name=run.path.resolve().name, settings=settings, out=out)
        )
        try:
            for record in run.metrics():
                numbers = {key: float(value) for key, value in record.items() if value is not None}
                tracker.log(numbers, epoch=int(numbers.pop("epoch")))
        finally:
            tracker.close()
    return list(paths)
