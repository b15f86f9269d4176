"""A run on disk: what is where, written so that a reader never sees half a file.

config.json           the settings in effect; `--config` takes it back
environment.json      versions, machine, resolved device and precision, fingerprints of the data, digests of
                      settings and split, split provenance
split.parquet         the split trained against (the last one, under MOLERE)
metrics.jsonl         one line an epoch
checkpoint/           classifier.safetensors, state.safetensors, state.json
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
from pathlib import Path
from typing import Any, TypeVar

from molere_cli.errors import RunError
from molere_cli.files import (
    claim_folder,
    claim_name,
    hidden_beside,
    json_text,
    parse_json,
    with_nulls,
    write_text,
)
from molere_cli.locks import Lock, Note, locked

CHECKPOINT_COMPLETE = "state.json"
# In the order in which a reader looks: the one in place; the next, while the one before it is on its way out.
CHECKPOINTS = ("checkpoint", "checkpoint.new", "checkpoint.old")
LOOKS = 100

T = TypeVar("T")


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

    def write_metrics(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Replace the records of all epochs; what is no number, such as the loss of a classifier that has
        none, becomes null."""
        lines = [json_text(with_nulls(record)) + "\n" for record in records]
        write_text(self.path / "metrics.jsonl", "".join(lines))

    def mark_done(self) -> None:
        """Say that everything else has been written."""
        write_text(self.path / "DONE", datetime.now(UTC).isoformat(timespec="seconds") + "\n")

    @contextmanager
    def new_checkpoint(self) -> Iterator[Path]:
        """A folder to write the next checkpoint into, `state.json` last; it replaces the old one whole.

        For the one process that trains. At every moment one of `checkpoint/`, `checkpoint.new/` and
        `checkpoint.old/` is complete, once there has been a checkpoint.
        """
        current, fresh, old = (self.path / name for name in CHECKPOINTS)
        self.settle_checkpoint()
        fresh.mkdir(parents=True)
        yield fresh
        if current.exists():
            current.replace(old)
        fresh.replace(current)
        shutil.rmtree(old, ignore_errors=True)

    def settle_checkpoint(self) -> None:
        """Put the newest complete checkpoint in its place, after a process was killed in `new_checkpoint`.

        For the one process that trains.
        """
        current, fresh, old = (self.path / name for name in CHECKPOINTS)
        if not current.exists() and (left := self._newest_checkpoint()) is not None:
            left.replace(current)
        for path in (fresh, old):
            shutil.rmtree(path, ignore_errors=True)

    def checkpoint(self) -> Path | None:
        """The newest complete checkpoint, None before the first; read it by `read_checkpoint`."""
        # A look at three places one after the other can miss a checkpoint that moves from one to another.
        for _ in range(LOOKS):
            if (found := self._newest_checkpoint()) is not None:
                return found
        return None

    def _newest_checkpoint(self) -> Path | None:
        paths = (self.path / name for name in CHECKPOINTS)
        return next((path for path in paths if (path / CHECKPOINT_COMPLETE).is_file()), None)

    def read_checkpoint(self, read: Callable[[Path], T]) -> T | None:
        """What `read` makes of the newest complete checkpoint's folder, None before the first.

        A trainer may replace the checkpoint meanwhile; then `read` is called again, on the newer one, so
        that all it has opened is of one epoch.

        Raises:
            RunError: the checkpoint cannot be read.
        """
        while (folder := self.checkpoint()) is not None:
            if (state := _state_of(folder)) is None:
                continue
            try:
                found = read(folder)
            except Exception:
                if self.checkpoint() == folder and _state_of(folder) == state:
                    raise
            else:
                if _state_of(folder) == state:
                    return found
        return None

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

    Raises:
        RunError: the name is taken.
    """
    hidden = hidden_beside(path)
    hidden.mkdir(parents=True)
    try:
        with RunDir(hidden).locked(note=note) as lock:
            begin(RunDir(hidden))
            run = RunDir(_claimed(hidden, path, numbered=numbered))
            lock.path = run.lock_path
            yield run
    finally:
        shutil.rmtree(hidden, ignore_errors=True)


def _claimed(hidden: Path, path: Path, *, numbered: bool) -> Path:
    try:
        return claim_name(path, partial(claim_folder, hidden), numbered=numbered)
    except FileExistsError as error:
        raise taken(path) from error


def taken(path: Path) -> RunError:
    """What to say of a run directory that is to be made and is there already."""
    return RunError(f"{path} exists already; choose another --out, or `--resume {path}` if it is unfinished")


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


def dataset_title(dataset: str) -> str:
    """A dataset's name as tables show it: of a path its last part, however it was spelled.

    What lies in two folders of one name is told apart by its fingerprint.
    """
    name, colon, argument = dataset.partition(":")
    spelled = (
        Path(argument).is_absolute() or argument.startswith(("./", "../", "~")) or argument.endswith("/")
    )
    return f"{name}{colon}{Path(argument).name}" if spelled else dataset


def dataset_slug(dataset: str) -> str:
    """A dataset's name as part of a file name: `parquet:/a/cifar100` is `parquet-cifar100`."""
    name, _, argument = dataset.partition(":")
    text = f"{name}-{Path(argument).name}" if argument else name
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text)


def run_name(*, dataset: str, method: str, seed: int) -> str:
    """The default name of a run's directory."""
    return f"{dataset_slug(dataset)}-{method}-s{seed}"
