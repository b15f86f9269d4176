"""The runs under a folder: finished, unfinished, all."""

from __future__ import annotations

import os
from pathlib import Path

from molere_cli.foundation.errors import RunError
from molere_cli.runs.run_directory import RunDir

CANDIDATES = ".grid"
"""The folder, among the runs, of those that learning rates are chosen by: `*` leaves it out in a shell."""


def places_of(runs: Path) -> tuple[Path, ...]:
    """Where runs lie that one in `runs` may build on: there, and where learning rates are chosen."""
    if runs.name == CANDIDATES:
        return runs, runs.parent
    return runs, runs / CANDIDATES


def finished_runs(root: Path) -> list[RunDir]:
    """The finished runs directly under `root`, oldest first."""
    runs = [run for run in map(RunDir, run_paths(root)) if run.is_done]
    return sorted(runs, key=lambda run: (_finished_at(run), run.path.name))


def _finished_at(run: RunDir) -> float:
    try:
        return (run.path / "DONE").stat().st_mtime
    except OSError:  # just deleted
        return 0.0


def unfinished_runs(root: Path) -> list[RunDir]:
    """The runs directly under `root` that have begun and are not finished, in name order."""
    return [run for run in map(RunDir, run_paths(root)) if not run.is_done]


def run_paths(root: Path) -> list[Path]:
    """The run directories directly under `root`, finished or not, in name order; damaged ones too.

    Raises:
        RunError: the system does not let us look.
    """
    try:
        folders = [Path(entry.path) for entry in os.scandir(root) if not entry.name.startswith(".")]
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise RunError(f"cannot look for runs in {root}: {error.strerror}") from error
    names = ("config.json", "environment.json", "metrics.jsonl", "DONE")
    return sorted(path for path in folders if any(os.path.isfile(path / name) for name in names))
