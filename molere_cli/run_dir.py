"""A run on disk: what is where, written so that a reader never sees half a file.

config.json           the settings in effect; `--config` takes it back
environment.json      versions, machine, resolved device and precision, fingerprints of the data, digests of
                      settings and split, split provenance
split.parquet         the split trained against (the last one, under MOLERE)
metrics.jsonl         one line an epoch
checkpoint/           classifier.safetensors, state.safetensors, state.json
checkpoint.old/       the one before it, for when the newest is damaged
pool.parquet          per pool example: label, margin, loss, aum, weight, mean_weight, side of the split
predictions.parquet   per test example: prediction, margin, loss, group
DONE                  written last
lock                  who is training it, while somebody is
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from functools import partial
from glob import escape
from pathlib import Path
from typing import Any, TypeVar

from molere_cli.errors import MolereError, RunError
from molere_cli.files import (
    claim_folder,
    claim_name,
    hidden_beside,
    json_text,
    parse_json,
    with_nulls,
    write_text,
)
from molere_cli.locks import Lock, Note, locked, take_left_behind
from molere_cli.stopping import Stopped

CHECKPOINT_COMPLETE = "state.json"
# In the order in which a reader looks: the one in place; the next, while the two are moving; the one before.
CHECKPOINTS = ("checkpoint", "checkpoint.new", "checkpoint.old")
LOOKS = 100
# All that a run may hold that has no checkpoint yet.
BEGINNING = {
    *("config.json", "environment.json", "split.parquet", "metrics.jsonl", "predictions.parquet"),
    *("pool.parquet", "lock", *CHECKPOINTS),
}
TEMPORARY = ".*.tmp"

T = TypeVar("T")


class DamagedCheckpoint(RunError):
    """A file of a checkpoint is missing, or is not what was written."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path} is damaged: {reason}")


class RunDir:
    """One run directory. Readers raise RunError naming the file that is missing or broken."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def is_done(self) -> bool:
        return (self.path / "DONE").is_file()

    @property
    def split_path(self) -> Path:
        return self.path / "split.parquet"

    @property
    def pool_path(self) -> Path:
        return self.path / "pool.parquet"

    @property
    def predictions_path(self) -> Path:
        return self.path / "predictions.parquet"

    @property
    def classifier_path(self) -> Path:
        return self.path / "checkpoint" / "classifier.safetensors"

    @property
    def lock_path(self) -> Path:
        return self.path / "lock"

    def locked(self, *, note: Note, wait: bool = False) -> AbstractContextManager[Lock]:
        """Keep others from training this run; see `locks.locked`.

        Raises:
            RunError: somebody is training it, and it is not to be waited for.
        """
        return locked(self.lock_path, doing=f"is training {self.path}", note=note, wait=wait)

    def is_being_trained(self) -> bool:
        """Whether somebody holds its lock; what a process that was killed has left of one is removed."""
        if (lock := take_left_behind(self.lock_path)) is not None:
            lock.release()
        return self.lock_path.exists()

    def config(self) -> dict[str, Any]:
        """The settings in effect."""
        return self._read_object("config.json")

    def environment(self) -> dict[str, Any]:
        """Versions, machine, fingerprint and split provenance."""
        return self._read_object("environment.json")

    def metrics(self) -> list[dict[str, Any]]:
        """One record an epoch, oldest first; None for what was no number."""
        name = "metrics.jsonl"
        return [self._parse(line, name) for line in self._read_text(name).splitlines()]

    def num_records(self) -> int:
        """How many epochs have a record."""
        return len(self.metrics()) if (self.path / "metrics.jsonl").is_file() else 0

    def write_metrics(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Replace the records of all epochs; what is no number, such as the loss of a classifier that has
        none, becomes null."""
        lines = [json_text(with_nulls(record)) + "\n" for record in records]
        write_text(self.path / "metrics.jsonl", "".join(lines))

    def mark_done(self) -> None:
        """Say that everything else has been written."""
        write_text(self.path / "DONE", datetime.now(UTC).isoformat(timespec="seconds") + "\n")

    def mark_unfinished(self) -> None:
        """Take `mark_done` back."""
        (self.path / "DONE").unlink(missing_ok=True)

    @contextmanager
    def new_checkpoint(self) -> Iterator[Path]:
        """A folder to write the next checkpoint into, `state.json` last; it takes the place of the newest,
        and that one the place of the one before.

        For the one process that trains. At every moment two of `checkpoint/`, `checkpoint.new/` and
        `checkpoint.old/` are complete, or one, once there have been so many.
        """
        current, fresh, old = (self.path / name for name in CHECKPOINTS)
        self.settle_checkpoint()
        fresh.mkdir(parents=True)
        yield fresh
        if current.exists():
            _remove_checkpoint(old)
            current.replace(old)
        fresh.replace(current)

    def settle_checkpoint(self) -> None:
        """Put the newest complete checkpoint in its place, after a process was killed in `new_checkpoint`.

        For the one process that trains.
        """
        current, fresh, old = (self.path / name for name in CHECKPOINTS)
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
        _remove_checkpoint(current)
        old.replace(current)

    def remove_litter(self) -> None:
        """Remove what a process that was killed had not finished writing.

        For the one process that trains.
        """
        for path in self.path.glob(TEMPORARY):
            path.unlink(missing_ok=True)

    def checkpoint(self) -> Path | None:
        """The newest complete checkpoint, None before the first; read it by `read_checkpoint`."""
        # A look at three places one after the other can miss a checkpoint that moves from one to another.
        for _ in range(LOOKS):
            if (found := self._newest_checkpoint()) is not None:
                return found
        return None

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

    def _read_either(self, folder: Path, read: Callable[[Path], T]) -> tuple[T, DamagedCheckpoint | None]:
        """What `read` makes of a checkpoint or, if that is damaged, of the old one, with what is damaged."""
        old = self.path / CHECKPOINTS[-1]
        try:
            return read(folder), None
        except DamagedCheckpoint as damage:
            if folder == old or not _is_complete(old):
                raise RunError(f"{damage}; put it back, or train a new run") from damage
            try:
                return read(old), damage
            except DamagedCheckpoint as other:
                raise RunError(f"{damage}, and {other}; put one back, or train a new run") from other

    def _read_object(self, name: str) -> dict[str, Any]:
        return self._parse(self._read_text(name), name)

    def _read_text(self, name: str) -> str:
        try:
            return (self.path / name).read_text(encoding="utf-8")
        except OSError as error:
            raise RunError(f"{self.path} is not a run directory: no readable {name} in it") from error

    def _parse(self, text: str, name: str) -> dict[str, Any]:
        try:
            value = parse_json(text)
        except ValueError as error:
            raise RunError(f"{self.path / name} is damaged: {error}") from error
        if not isinstance(value, dict):
            raise RunError(f"{self.path / name} is damaged: it holds no JSON object")
        return value


@contextmanager
def new_run(path: Path, begin: Callable[[RunDir], None], *, numbered: bool, note: Note) -> Iterator[RunDir]:
    """A run directory that is ours alone, and locked until the block ends.

    Args:
        begin: writes its first files; only then does it get its name, so that nobody sees it half made.
        numbered: whether to add a number to a name that is taken.

    Nothing is left of a run that a mistake or a signal ends before its first checkpoint.

    Raises:
        RunError: the name is taken.
    """
    _remove_hidden(path)
    hidden = hidden_beside(path)
    hidden.mkdir(parents=True)
    try:
        with RunDir(hidden).locked(note=note) as lock:
            begin(RunDir(hidden))
            run = RunDir(_claimed(hidden, path, numbered=numbered))
            lock.path = run.lock_path
            try:
                yield run
            except (MolereError, Stopped):
                if run.checkpoint() is None:
                    run.path.rename(hidden)
                raise
    finally:
        shutil.rmtree(hidden, ignore_errors=True)


def clear_beginning(path: Path, *, note: Note) -> bool:
    """Remove a run that has no checkpoint yet and that nobody trains, so that its name is free; whether there
    was one. A folder that holds anything else is left alone."""
    run = RunDir(path)
    _remove_hidden(path)
    if run.is_done or run.checkpoint() is not None or not (path / "config.json").is_file():
        return False
    if any(each.name not in BEGINNING and not each.match(TEMPORARY) for each in path.iterdir()):
        return False
    try:
        with run.locked(note=note):
            hidden = hidden_beside(path)
            path.rename(hidden)
            shutil.rmtree(hidden)
    except RunError:  # somebody trains it
        return False
    return True


def _remove_hidden(path: Path) -> None:
    """Remove what processes that were killed while they began a run, or removed one, have left beside it."""
    for hidden in path.parent.glob(f".{escape(path.name)}{TEMPORARY}"):
        lock = take_left_behind(RunDir(hidden).lock_path)
        # The lock is the first to come, so that what has files and no lock was about to be removed.
        if lock is not None or not RunDir(hidden).lock_path.exists():
            shutil.rmtree(hidden, ignore_errors=True)
        if lock is not None:
            lock.release()


def _claimed(hidden: Path, path: Path, *, numbered: bool) -> Path:
    try:
        return claim_name(path, partial(claim_folder, hidden), numbered=numbered)
    except FileExistsError as error:
        raise taken(path) from error


def taken(path: Path) -> RunError:
    """What to say of a run directory that is to be made and is there already."""
    return RunError(f"{path} exists already; choose another --out, or `--resume {path}` if it is unfinished")


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


def finished_runs(root: Path) -> list[RunDir]:
    """The finished runs directly under `root`, oldest first."""
    runs = [RunDir(path.parent) for path in root.glob("*/DONE")]
    return sorted(runs, key=lambda run: ((run.path / "DONE").stat().st_mtime, run.path.name))


def unfinished_runs(root: Path) -> list[RunDir]:
    """The runs directly under `root` that have begun and are not finished, in name order."""
    return [run for run in map(RunDir, run_paths(root)) if not run.is_done]


def run_paths(root: Path) -> list[Path]:
    """The run directories directly under `root`, finished or not, in name order."""
    return sorted(path.parent for path in root.glob("[!.]*/config.json"))


def dataset_slug(dataset: str) -> str:
    """A dataset's name as part of a file name: `parquet:/a/cifar100` is `parquet-cifar100`."""
    name, _, argument = dataset.partition(":")
    text = f"{name}-{Path(argument).name}" if argument else name
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text)


def run_name(*, dataset: str, method: str, seed: int) -> str:
    """The default name of a run's directory."""
    return f"{dataset_slug(dataset)}-{method}-s{seed}"
