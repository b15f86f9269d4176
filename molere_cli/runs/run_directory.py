"""A run on disk: what is where, written so that a reader never sees half a file.

config.json           the settings in effect; `--config` takes it back
environment.json      versions, machine, resolved device and precision, fingerprints of the data, digests of
                      settings and split, split provenance
split.parquet         the split trained against (the last one, under MOLERE)
metrics.jsonl         one line an epoch
checkpoint/           classifier.safetensors, state.safetensors, state.json
checkpoint.old/       the one before it, for when the newest is damaged
pool.parquet          per pool example: label, prediction, margin, loss, path, aum, weight, side of the split
predictions.parquet   per test example: label, prediction, margin, loss, group, path
thumbnails.parquet    small pictures of some of both, unless they were not wanted
grid.json             how the tuning set chose the learning rate, where several were tried
DONE                  written last: when, and digests of the files above but those of the checkpoint
lock                  who is training it, while somebody is
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from molere_cli.foundation.errors import RunError, on_one_line, shown
from molere_cli.foundation.files import (
    JSON_LIMIT,
    digest_of_file,
    digest_of_values,
    json_text,
    parse_json,
    read_text,
    sweep,
    with_nulls,
    write_json,
    write_text,
    writing,
)
from molere_cli.foundation.locks import Lock, Note, locked, take_left_behind
from molere_cli.runs.checkpoint_exchange import LAST_STATE, CheckpointExchange
from molere_cli.runs.run_schema import METRICS, Environment, Finished, RateSearch, Settings

RECORDS = (
    *("environment.json", "metrics.jsonl", "split.parquet", "pool.parquet", "predictions.parquet"),
    "thumbnails.parquet",
    LAST_STATE,
)
"""The files that `DONE` has digests of, beside that of the settings."""
PLACE_SETTINGS = {"data_dir", "download", "workers", "check", "checkpoint_every", "thumbnails"}
"""Settings that no number hangs on, and that may change when a run moves to another machine."""
METRICS_LIMIT = 1 << 26
"""Bytes of `metrics.jsonl` that are read at most."""


class RunDir(CheckpointExchange):
    """One run directory. Readers raise RunError naming the file that is missing or broken."""

    @property
    def is_done(self) -> bool:
        return os.path.isfile(self.path / "DONE")  # False where the system refuses an answer

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
    def thumbnails_path(self) -> Path:
        return self.path / "thumbnails.parquet"

    def has_thumbnails(self) -> bool:
        """Whether the run kept some, by what it says itself of a finished one.

        Raises:
            RunError: they are missing or damaged.
        """
        if not os.path.isfile(self.thumbnails_path) and self.thumbnails_path.name not in self._digests():
            return False
        self.check(self.thumbnails_path.name)
        return True

    @property
    def classifier_path(self) -> Path:
        return self.path / "checkpoint" / "classifier.safetensors"

    @property
    def lock_path(self) -> Path:
        return self.path / "lock"

    @contextmanager
    def locked(self, *, note: Note, wait: bool = False) -> Iterator[Lock]:
        """Keep others from training this run; see `locks.locked`. What a killed trainer left is deleted.

        Raises:
            RunError: somebody is training it, and it is not to be waited for.
        """
        with locked(self.lock_path, doing=f"is training {self.path}", note=note, wait=wait) as lock:
            sweep(self.path, age=0)
            yield lock

    def is_being_trained(self) -> bool:
        """Whether somebody holds its lock; what a process that was killed has left of one is removed."""
        if (lock := take_left_behind(self.lock_path)) is not None:
            lock.release()
        return self.lock_path.exists()

    def config(self) -> dict[str, Any]:
        """The settings in effect.

        Raises:
            RunError: they are not those that the run began with.
        """
        settings = self._object("config.json", Settings)
        found, digests = settings_digest(settings), self.environment().get("digests", {})
        began_with = {digests.get("settings"), digests.get("extended")} - {None}
        finished_with = {self._digests().get("config.json")} - {None}
        if any(known and found not in known for known in (began_with, finished_with)):
            path = self.path / "config.json"
            raise RunError(
                f"{path} has been edited since the run began, and no longer says how it was trained; put it "
                f"back, or train a new run with `molere train --config {path}`"
            )
        return settings

    def environment(self) -> dict[str, Any]:
        """Versions, machine, fingerprint and split provenance."""
        self.check("environment.json")
        environment = self._object("environment.json", Environment)
        recorded = environment.get("digests", {}).get("environment")
        if recorded not in {None, digest_of_values(_without_digests(environment))}:
            raise self._damaged("environment.json", "it is not what the run wrote; put it back from a copy")
        return environment

    def write_beginning(self, settings: Mapping[str, Any], environment: Mapping[str, Any]) -> None:
        """Write `config.json` and, with digests of all that the run begins with, `environment.json`; the
        split, if there is one, has been written."""
        write_json(self.path / "config.json", settings)
        began_with = {
            "settings": settings_digest(settings),
            "environment": digest_of_values(_without_digests(environment)),
        }
        if os.path.isfile(self.split_path):
            began_with["split"] = self.digest_of(self.split_path.name)
        write_json(self.path / "environment.json", {**environment, "digests": began_with})

    def extend(self, epochs: int) -> None:
        """Give the run so many epochs, with which it is not finished; `environment.json` says under
        `extended_from` how many it had before.

        For the one process that trains.
        """
        settings, environment = self.config(), self.environment()
        longer, before = {**settings, "epochs": epochs}, settings["epochs"]
        earlier = [number for number in environment.get("extended_from", []) if number < before]
        environment["extended_from"] = [*earlier, before]
        # Settings and their digest lie in two files: whoever is killed between them leaves a run that is
        # still what it was, since either digest is right.
        if "settings" in environment.setdefault("digests", {}):
            environment["digests"] |= {
                "settings": settings_digest(settings),
                "extended": settings_digest(longer),
                "environment": digest_of_values(_without_digests(environment)),
            }
        with writing(self.path / "DONE"):
            (self.path / "DONE").unlink(missing_ok=True)
        write_json(self.path / "environment.json", environment)
        write_json(self.path / "config.json", longer)

    def metrics(self) -> list[dict[str, Any]]:
        """One record an epoch, oldest first; None for what was no number."""
        name = "metrics.jsonl"
        self.check(name)
        records = [self._parsed(line, name) for line in self._text(name, METRICS_LIMIT).splitlines()]
        for record in records:
            self._validate(record, name, METRICS.validate_python)
        if not records and self.is_done:
            raise RunError(f"{self.path / name} is empty, although the run is marked as finished")
        return records

    def num_records(self) -> int:
        """How many epochs have a record."""
        return len(self.metrics()) if (self.path / "metrics.jsonl").is_file() else 0

    def write_metrics(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Replace the records of all epochs; what is no number, such as the loss of a classifier that has
        none, becomes null."""
        lines = [json_text(with_nulls(record)) + "\n" for record in records]
        write_text(self.path / "metrics.jsonl", "".join(lines))

    def grid(self) -> dict[str, Any] | None:
        """How its learning rate was chosen (`RateSearch`); None where there was one alone."""
        name = "grid.json"
        return self._object(name, RateSearch) if os.path.isfile(self.path / name) else None

    def write_grid(self, grid: Mapping[str, Any]) -> None:
        """Say how its learning rate was chosen."""
        write_json(self.path / "grid.json", grid)

    def mark_done(self) -> None:
        """Say that everything else has been written, and what it is."""
        found = {name: self.digest_of(name) for name in RECORDS if os.path.isfile(self.path / name)}
        done = Finished(
            finished=datetime.now(UTC).isoformat(timespec="seconds"),
            digests={"config.json": settings_digest(self.config()), **found},
        )
        write_json(self.path / "DONE", done.model_dump())

    def check(self, name: str) -> None:
        """Raise RunError if a file of a finished run is missing or not what the run wrote; one of a version
        that kept no digests passes."""
        recorded = self._digests().get(name)
        if recorded is None or name == "config.json":
            return
        if self.digest_of(name) != recorded:
            raise self._damaged(name, "it is not what the run wrote; put it back from a copy, or train again")

    def digest_of(self, name: str) -> str:
        """The digest of a file as it is now."""
        try:
            return digest_of_file(self.path / name)
        except OSError as error:
            raise RunError(f"{self.path / name} cannot be read: {error.strerror}") from error

    def _digests(self) -> dict[str, str]:
        """Of the files of a finished run, by name; empty for an unfinished one, or of a version without."""
        if not self.is_done:
            return {}
        text = self._text("DONE", JSON_LIMIT)
        if _is_time(text.strip()):
            return {}
        digests: dict[str, str] = self._validated(text, "DONE", Finished)["digests"]
        return digests

    def _object(self, name: str, model: type[BaseModel]) -> dict[str, Any]:
        return self._validated(self._text(name, JSON_LIMIT), name, model)

    def _text(self, name: str, limit: int) -> str:
        try:
            return read_text(self.path / name, limit=limit)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise RunError(f"{self.path} is not a run directory: no readable {name} in it") from error
        except OSError as error:
            raise RunError(f"{self.path / name} cannot be read: {error.strerror}") from error
        except ValueError as error:
            raise self._damaged(name, error) from error

    def _parsed(self, text: str, name: str) -> dict[str, Any]:
        try:
            value = parse_json(text)
        except ValueError as error:
            raise self._damaged(name, error) from error
        if not isinstance(value, dict):
            raise self._damaged(name, "it holds no JSON object")
        return value

    def _validated(self, text: str, name: str, model: type[BaseModel]) -> dict[str, Any]:
        """The object in `text` as it is, once the model has found nothing wrong with it."""
        value = self._parsed(text, name)
        self._validate(value, name, model.model_validate)
        return value

    def _validate(self, value: dict[str, Any], name: str, validate: Callable[[Any], Any]) -> None:
        try:
            validate(value)
        except ValidationError as error:
            problem = error.errors(include_url=False)[0]
            key = ".".join(str(part) for part in problem["loc"])
            if problem["type"] == "missing":
                raise RunError(
                    f"{self.path} was not written by this version of MOLERE: it has no {shown(key)}; "
                    "train it again"
                ) from error
            raise self._damaged(name, f"{on_one_line(key)}: {problem['msg'].lower()}") from error

    def _damaged(self, name: str, reason: object) -> RunError:
        return RunError(f"{self.path / name} is damaged: {reason}")


def settings_digest(settings: Mapping[str, Any]) -> str:
    """A digest of the settings that a number hangs on."""
    return digest_of_values(without_place(settings))


def without_place(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: without_place(value) if isinstance(value, Mapping) else value
        for name, value in settings.items()
        if name not in PLACE_SETTINGS
    }


def _without_digests(environment: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in environment.items() if name != "digests"}


def _is_time(text: str) -> bool:
    """Whether it is what `DONE` was in versions that kept no digests."""
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True
