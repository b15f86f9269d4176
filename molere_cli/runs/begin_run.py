"""A run directory of one's own: begun, claimed, cleared away where it came to nothing."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from molere_cli.foundation.errors import MolereError, RunError
from molere_cli.foundation.files import (
    HIDDEN,
    claim_folder,
    claim_name,
    hidden_beside,
    leftovers,
    make_folder,
    writing,
)
from molere_cli.foundation.locks import Note, take_left_behind
from molere_cli.foundation.stopping import Ended
from molere_cli.runs.checkpoint_exchange import CHECKPOINTS
from molere_cli.runs.run_directory import RECORDS, RunDir

BEGINNING = {*RECORDS, *CHECKPOINTS, "config.json", "lock"}
"""All that a run may hold that has no checkpoint yet."""


@contextmanager
def new_run(path: Path, begin: Callable[[RunDir], None], *, numbered: bool, note: Note) -> Iterator[RunDir]:
    """A run directory that is ours alone, and locked until the block ends.

    Args:
        begin: writes its first files; only then does it get its name, so that nobody sees it half made.
        numbered: whether to add a number to a name that is taken.

    Nothing is left of a run that a mistake or a signal ends before its first checkpoint.

    Raises:
        RunError: the name is taken.
        WriteError: the system refuses.
    """
    sweep_runs(path.parent)
    hidden = hidden_beside(path)
    make_folder(hidden)
    try:
        with RunDir(hidden).locked(note=note) as lock:
            begin(RunDir(hidden))
            run = RunDir(_claimed(hidden, path, numbered=numbered))
            lock.path = run.lock_path
            try:
                yield run
            except (MolereError, Ended):
                # What the system does not let us tidy up, the next command does.
                with suppress(OSError):
                    if run.checkpoint() is None:
                        run.path.rename(hidden)
                raise
    finally:
        if hidden.exists():
            _remove_run(hidden)


def clear_beginning(path: Path, *, note: Note) -> bool:
    """Remove a run that has no checkpoint yet and that nobody trains, so that its name is free; whether there
    was one. A folder that holds anything else is left alone."""
    run = RunDir(path)
    if run.is_done or run.checkpoint() is not None or not os.path.isfile(path / "config.json"):
        return False
    if any(name not in BEGINNING and not HIDDEN.fullmatch(name) for name in os.listdir(path)):
        return False
    try:
        with run.locked(note=note):
            hidden = hidden_beside(path)
            with writing(path):
                path.rename(hidden)
            _remove_run(hidden)
    except RunError:  # somebody trains it
        return False
    return True


def sweep_runs(root: Path) -> None:
    """Delete what processes that were killed while they began a run, or removed one, have left in `root`."""
    for path in leftovers(root, age=0):
        with suppress(OSError):
            path.rmdir()  # whoever was about to lock it makes it anew
        if (lock := take_left_behind(path / "lock")) is not None:
            _remove_run(path)
            lock.release()


def _remove_run(path: Path) -> None:
    # The lock last, so that what a kill leaves is known for a run.
    with suppress(OSError):
        for each in path.iterdir():
            if each.is_dir():
                shutil.rmtree(each, ignore_errors=True)
            elif each.name != "lock":
                each.unlink(missing_ok=True)
        shutil.rmtree(path, ignore_errors=True)


def _claimed(hidden: Path, path: Path, *, numbered: bool) -> Path:
    try:
        with writing(path):
            return claim_name(path, partial(claim_folder, hidden), numbered=numbered)
    except FileExistsError as error:
        raise taken(path) from error


def taken(path: Path) -> RunError:
    """What to say of a run directory that is to be made and is there already."""
    return RunError(f"{path} exists already; choose another --out, or `--resume {path}` if it is unfinished")
