"""The checkpoints of a run on disk: at every moment one is whole, whoever is killed, and whoever reads."""

from __future__ import annotations

import shutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from molere_cli.foundation.errors import DamagedCheckpoint, RunError
from molere_cli.foundation.files import sync_folder, writing
from molere_cli.foundation.locks import Note

CHECKPOINT_COMPLETE = "state.json"
# In the order in which a reader looks: the one in place; the next, while the two are moving; the one before.
CHECKPOINTS = ("checkpoint", "checkpoint.new", "checkpoint.old")
LOOKS = 100
LAST_STATE = f"{CHECKPOINTS[0]}/{CHECKPOINT_COMPLETE}"
"""What has digests of the other files of a finished run's checkpoint."""

T = TypeVar("T")


class CheckpointExchange(ABC):
    """The part of a run directory in which a trainer exchanges checkpoints while others may read them."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    @abstractmethod
    def is_done(self) -> bool:
        """Whether the run is finished, so that its results are of the newest checkpoint alone."""

    @abstractmethod
    def check(self, name: str) -> None:
        """Raise RunError if a file of a finished run is missing or not what the run wrote."""

    @contextmanager
    def new_checkpoint(self) -> Iterator[Path]:
        """A folder to write the next checkpoint into, `state.json` last; it takes the place of the newest,
        and that one the place of the one before.

        For the one process that trains. At every moment two of `checkpoint/`, `checkpoint.new/` and
        `checkpoint.old/` are complete, or one, once there have been so many.
        """
        current, fresh, old = (self.path / name for name in CHECKPOINTS)
        self.settle_checkpoint()
        with writing(self.path / CHECKPOINTS[0]):
            fresh.mkdir(parents=True)
            yield fresh
            sync_folder(fresh)
            if current.exists():
                _remove_checkpoint(old)
                current.replace(old)
            fresh.replace(current)
            sync_folder(self.path)

    def settle_checkpoint(self) -> None:
        """Put the newest complete checkpoint in its place, after a process was killed in `new_checkpoint`.

        For the one process that trains.
        """
        current, fresh, old = (self.path / name for name in CHECKPOINTS)
        with writing(current):
            if not _is_complete(current) and (left := self._newest_checkpoint()) is not None:
                _remove_checkpoint(current)
                left.replace(current)
            _remove_checkpoint(fresh)
            if not _is_complete(old):
                _remove_checkpoint(old)

    def use_old_checkpoint(self) -> None:
        """Put the checkpoint before the newest in its place, since that one is damaged.

        For the one process that trains.
        """
        current, _, old = (self.path / name for name in CHECKPOINTS)
        with writing(current):
            _remove_checkpoint(current)
            old.replace(current)

    def checkpoint(self) -> Path | None:
        """The newest complete checkpoint, None before the first; read it by `read_checkpoint`."""
        # A look at three places one after the other can miss a checkpoint that moves from one to another.
        for _ in range(LOOKS):
            if (found := self._newest_checkpoint()) is not None:
                break
        # One that moved meanwhile is in its place by now, and the one before it is not the newest.
        if found is not None and found.name == CHECKPOINTS[-1]:
            return self._newest_checkpoint() or found
        return found

    def _newest_checkpoint(self) -> Path | None:
        paths = (self.path / name for name in CHECKPOINTS)
        return next((path for path in paths if _is_complete(path)), None)

    def read_checkpoint(self, read: Callable[[Path], T], *, note: Note) -> T | None:
        """What `read` makes of the newest complete checkpoint's folder, None before the first; if that one is
        damaged, of the folder of the one before it, which `note` is told.

        A trainer may replace the checkpoint meanwhile; then `read` is called again, on the newer one, so
        that all it has opened is of one moment.

        Raises:
            RunError: no checkpoint is whole, or can be read.
        """
        while (folder := self.checkpoint()) is not None:
            if self.is_done:
                self._check_last_state()
            if (state := _state_of(folder)) is None:
                continue
            try:
                found, damage = self._read_either(folder, read)
            except Exception:
                if self.checkpoint() == folder and _state_of(folder) == state:
                    raise
            else:
                if _state_of(folder) == state:
                    if damage is not None:
                        note(f"{damage}; the checkpoint before it is used")
                    return found
        return None

    def _check_last_state(self) -> None:
        # A finished run's results are of one checkpoint, and no other will do.
        try:
            self.check(LAST_STATE)
        except RunError as error:
            if self.is_done:  # else somebody has begun to train it further
                raise RunError(f"{error}, or {self._again}") from error

    @property
    def _again(self) -> str:
        return (
            f"delete {self.path / 'DONE'} and train the end of the run again with "
            f"`molere train --resume {self.path}`"
        )

    def _read_either(self, folder: Path, read: Callable[[Path], T]) -> tuple[T, DamagedCheckpoint | None]:
        """What `read` makes of a checkpoint or, if that is damaged, of the old one, with what is damaged."""
        old = self.path / CHECKPOINTS[-1]
        try:
            return read(folder), None
        except DamagedCheckpoint as damage:
            if folder == old or not _is_complete(old):
                raise RunError(f"{damage}; put it back from a copy, or train a new run") from damage
            if self.is_done:  # the results are of the newest
                raise RunError(f"{damage}; put it back from a copy, or {self._again}") from damage
            try:
                return read(old), damage
            except DamagedCheckpoint as other:
                raise RunError(f"{damage}, and {other}; train a new run") from other


def _is_complete(checkpoint: Path) -> bool:
    return (checkpoint / CHECKPOINT_COMPLETE).is_file()


def _remove_checkpoint(path: Path) -> None:
    # First what says that it is complete, so that nobody takes the rest for one.
    (path / CHECKPOINT_COMPLETE).unlink(missing_ok=True)
    shutil.rmtree(path, ignore_errors=True)


def _state_of(checkpoint: Path) -> bytes | None:
    """What tells one checkpoint of a run from another, since it counts the epochs; None if it has moved."""
    try:
        return (checkpoint / CHECKPOINT_COMPLETE).read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise RunError(f"the checkpoint {checkpoint} cannot be read: {error.strerror}") from error
