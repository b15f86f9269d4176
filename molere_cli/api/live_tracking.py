"""Runs shown by trackers as they are trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from molere_cli.foundation.errors import MolereError
from molere_cli.foundation.progress import Progress
from molere_cli.registry.specs import Tracker, TrackerRequest, TrackerSpec
from molere_cli.runs.run_directory import RunDir

OUT = Path("tracked")
"""Where trackers write that write files."""


def _started(spec: TrackerSpec, run: RunDir, settings: Mapping[str, Any], out: Path) -> Tracker:
    request = TrackerRequest(run=run.path, name=run.path.resolve().name, settings=settings, out=out)
    return spec.start(request)


def _numbers(record: Mapping[str, Any]) -> dict[str, float]:
    return {name: float(value) for name, value in record.items() if value is not None and name != "epoch"}


class Tracked:
    """A progress that a tracker is told of too. What it fails at is said once, and training goes on."""

    def __init__(self, progress: Progress, spec: TrackerSpec, *, out: Path) -> None:
        self._progress, self._spec, self._out = progress, spec, out
        self._tracker: Tracker | None = None

    def run_started(self, label: str, *, seed: int, num_epochs: int, path: Path | None) -> None:
        self._progress.run_started(label, seed=seed, num_epochs=num_epochs, path=path)
        self._tracker = None
        if path is not None:
            run = RunDir(path)
            try:
                self._tracker = _started(self._spec, run, run.config(), self._out)
            except Exception as error:  # whatever its library raises
                self._failed(error)

    def step_taken(self, *, epoch: int, step: int, num_steps: int, loss: float) -> None:
        self._progress.step_taken(epoch=epoch, step=step, num_steps=num_steps, loss=loss)

    def epoch_ended(self, metrics: Mapping[str, float]) -> None:
        self._progress.epoch_ended(metrics)
        if self._tracker is not None:
            try:
                self._tracker.log(_numbers(metrics), epoch=int(metrics["epoch"]))
            except Exception as error:
                self._failed(error)

    def run_ended(self, path: Path | None) -> None:
        self._progress.run_ended(path)
        if self._tracker is not None:
            try:
                self._tracker.close()
            except Exception as error:
                self._failed(error)
            self._tracker = None

    def note(self, message: str) -> None:
        self._progress.note(message)

    def data_taken(self, line: str, remarks: Sequence[str]) -> None:
        self._progress.data_taken(line, remarks)

    def _failed(self, error: Exception) -> None:
        self._tracker = None
        reason = str(error) if isinstance(error, MolereError) else f"{type(error).__name__}: {error}"
        self._progress.note(
            f"tracker {self._spec.name} has failed ({reason}); training goes on without it, and `molere log` "
            "shows the run later"
        )
