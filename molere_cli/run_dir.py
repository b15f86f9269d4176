"""A run on disk: what is where, written so that a reader never sees half a file.

config.json           the settings in effect; `--config` takes it back
environment.json      versions, machine, resolved device and precision, fingerprint, split provenance
split.parquet         the split trained against (the last one, under MOLERE)
metrics.jsonl         one line an epoch
checkpoint/           classifier.safetensors, state.safetensors, state.json
pool.parquet          per pool example: label, margin, loss, aum, weight, mean_weight, side of the split
predictions.parquet   per test example: prediction, margin, loss, group
DONE                  written last
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from molere_cli.errors import RunError
from molere_cli.files import write_text

CHECKPOINT_COMPLETE = "state.json"


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

    def config(self) -> dict[str, Any]:
        """The settings in effect."""
        return self._read_object("config.json")

    def environment(self) -> dict[str, Any]:
        """Versions, machine, fingerprint and split provenance."""
        return self._read_object("environment.json")

    def metrics(self) -> list[dict[str, Any]]:
        """One record an epoch, oldest first."""
        name = "metrics.jsonl"
        return [self._parse(line, name) for line in self._read_text(name).splitlines()]

    def write_metrics(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Replace the records of all epochs."""
        write_text(self.path / "metrics.jsonl", "".join(json.dumps(record) + "\n" for record in records))

    def mark_done(self) -> None:
        """Say that everything else has been written."""
        write_text(self.path / "DONE", datetime.now(UTC).isoformat(timespec="seconds") + "\n")

    @contextmanager
    def new_checkpoint(self) -> Iterator[Path]:
        """A folder to write the next checkpoint into, `state.json` last; it replaces the old one whole."""
        current, fresh, old = (
            self.path / name for name in ("checkpoint", "checkpoint.new", "checkpoint.old")
        )
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(parents=True)
        yield fresh
        shutil.rmtree(old, ignore_errors=True)
        if current.exists():
            current.replace(old)
        fresh.replace(current)
        shutil.rmtree(old, ignore_errors=True)

    def checkpoint(self) -> Path | None:
        """The newest complete checkpoint, None before the first.

        A run that was killed between the two renames of `new_checkpoint` has no `checkpoint/` but a
        complete `checkpoint.new/`, which takes its place here.
        """
        current, fresh = self.path / "checkpoint", self.path / "checkpoint.new"
        if not current.exists() and (fresh / CHECKPOINT_COMPLETE).is_file():
            fresh.replace(current)
        return current if (current / CHECKPOINT_COMPLETE).is_file() else None

    def _read_object(self, name: str) -> dict[str, Any]:
        return self._parse(self._read_text(name), name)

    def _read_text(self, name: str) -> str:
        try:
            return (self.path / name).read_text(encoding="utf-8")
        except OSError as error:
            raise RunError(f"{self.path} is not a run directory: no readable {name} in it") from error

    def _parse(self, text: str, name: str) -> dict[str, Any]:
        try:
            value = json.loads(text)
        except ValueError as error:
            raise RunError(f"{self.path / name} is damaged: {error}") from error
        if not isinstance(value, dict):
            raise RunError(f"{self.path / name} is damaged: it holds no JSON object")
        return value


def finished_runs(root: Path) -> list[RunDir]:
    """The finished runs directly under `root`, oldest first."""
    runs = [RunDir(path.parent) for path in root.glob("*/DONE")]
    return sorted(runs, key=lambda run: ((run.path / "DONE").stat().st_mtime, run.path.name))


def dataset_slug(dataset: str) -> str:
    """A dataset's name as part of a file name: `parquet:/a/cifar100` is `parquet-cifar100`."""
    name, _, argument = dataset.partition(":")
    text = f"{name}-{Path(argument).name}" if argument else name
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text)


def run_name(*, dataset: str, method: str, seed: int) -> str:
    """The default name of a run's directory."""
    return f"{dataset_slug(dataset)}-{method}-s{seed}"
