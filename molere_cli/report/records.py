"""A finished run as a comparison sees it: its settings, its seeds, its last results."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from molere_cli.config.run_config import completed
from molere_cli.config.run_names import dataset_title
from molere_cli.foundation.errors import ConfigError, RunError
from molere_cli.runs.find_runs import run_paths
from molere_cli.runs.run_directory import RunDir

# What may differ between runs that count as the same experiment; `split` holds a path as often as a name,
# so the split's provenance takes its place.
FREE_SETTINGS = frozenset(
    {
        "seed",
        "data_seed",
        "data_dir",
        "download",
        "workers",
        "split",
        "device",
        "threads",
        "eval_interval",
        "checkpoint_every",
        "thumbnails",
        "check",
    }
)
# The core's own methods are `erm` and `molere_cli:erm` alike.
CORE_PREFIX = "molere_cli:"


@dataclass(frozen=True, kw_only=True, eq=False)
class RunRecord:
    """One finished run.

    settings: all that defines the experiment, flat (`dataset_option.rho`), with the resolved precision and
    the split's strategy, score and delta. results: the last epoch's metrics that are numbers, accuracies in
    [0, 1].
    fingerprint: of the pool; test_fingerprint: of all test sets together, None where a version did not record
    it. started: ISO 8601. seconds: training time, all epochs together. peak_memory: in MiB, of the epoch that
    took most; None where it was not recorded. grid: how its learning rate was chosen, None without a choice.
    """

    path: Path
    label: str
    settings: Mapping[str, Any]
    data_seed: int
    seed: int
    fingerprint: str
    test_fingerprint: str | None
    started: str
    results: Mapping[str, float]
    seconds: float
    peak_memory: float | None
    grid: Mapping[str, Any] | None = None

    @property
    def trained_as_erm(self) -> bool:
        """Whether no weight was learned, although the method would learn some."""
        learned = "reweighter/updates" in self.results and self.results.get("weights/std") != 0
        return "reweighter" in self.settings and not learned

    @property
    def test_sets(self) -> set[str]:
        """The sets that the run was tested on."""
        ending = "/accuracy"
        names = {key.removesuffix(ending) for key in self.results if key.endswith(ending)}
        return names - {"train"}


def find_runs(root: Path) -> list[Path]:
    """The run directories directly under `root`, finished or not, in name order.

    Raises:
        RunError: there is none.
    """
    found = run_paths(root)
    if not found:
        raise RunError(f"there is no run under {root}; make one with `molere train`")
    return found


def load_runs(paths: Iterable[Path]) -> tuple[list[RunRecord], list[str]]:
    """The finished runs among `paths`, and warnings that name the others.

    `runs/*` catches what else lies there: plain files, folders that are no runs, damaged runs.

    Raises:
        RunError: no run is finished, or none can be read.
    """
    distinct = {os.path.realpath(path): path for path in paths}.values()
    files = [str(path) for path in distinct if os.path.isfile(path)]
    runs = [RunDir(path) for path in distinct if not os.path.isfile(path)]
    if not runs:
        raise RunError("there is no run to compare; make one with `molere train`")
    records, unfinished, problems = [], [], []
    for run in runs:
        try:
            record = load_record(run)
        except (RunError, ConfigError) as error:
            problems.append(error)
        else:
            if record is None:
                unfinished.append(str(run.path))
            else:
                records.append(record)
    if not records and problems:
        raise problems[0]
    if not records:
        raise RunError(
            f"no run is finished yet: {', '.join(unfinished)}; go on with `molere train --resume RUN`"
        )
    left_out = {
        "being no directory": ", ".join(files),
        "being unfinished": ", ".join(unfinished),
        "since it cannot be read": "; ".join(str(problem) for problem in problems),
    }
    return records, [f"left out, {why}: {what}" for why, what in left_out.items() if what]


def load_record(run: RunDir) -> RunRecord | None:
    """What a comparison needs of a finished run: three small files, no Parquet; None for an unfinished one.

    Raises:
        RunError: a file is missing, damaged, or lacks a key.
        ConfigError: a setting is not valid.
    """
    config = run.config()
    if not run.is_done:
        return None
    environment, metrics = run.environment(), run.metrics()
    try:
        return RunRecord(
            path=run.path,
            label=environment["label"],
            settings=experiment_settings(
                completed(config, source=str(run.path / "config.json")), environment
            ),
            data_seed=config["data_seed"],
            seed=config["seed"],
            fingerprint=environment["fingerprint"],
            test_fingerprint=_in_one(environment.get("test_fingerprints")),
            started=environment["started"],
            results={key: value for key, value in metrics[-1].items() if value is not None},
            seconds=sum(record["time/seconds"] or 0.0 for record in metrics),
            peak_memory=max((record.get("memory/peak_mib") or 0.0 for record in metrics), default=0.0)
            or None,
            grid=run.grid(),
        )
    except KeyError as error:
        raise RunError(
            f"{run.path} was not written by this version of MOLERE: it has no {error}; train it again"
        ) from error


def _in_one(fingerprints: Mapping[str, str] | None) -> str | None:
    if fingerprints is None:
        return None
    text = json.dumps(fingerprints, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def experiment_settings(config: Mapping[str, Any], environment: Mapping[str, Any]) -> dict[str, Any]:
    """What is equal in all runs of one experiment, flat; from the completed settings and
    `environment.json`."""
    settings = {key: value for key, value in config.items() if key not in FREE_SETTINGS}
    settings["method"] = config["method"].removeprefix(CORE_PREFIX)
    # Which data they are, the fingerprint says; a run of before may have a path as it was typed.
    settings["dataset"] = dataset_title(settings["dataset"])
    if settings.get("label_noise", "none").endswith(".csv"):
        settings["label_noise"] = Path(settings["label_noise"]).name
    settings["precision"] = environment["precision"]
    if extended_from := [
        number for number in environment.get("extended_from", ()) if number < config["epochs"]
    ]:
        settings["extended_from"] = ", ".join(map(str, extended_from))
    split = environment["split"]
    if split is not None:
        settings |= {"split": split["strategy"], "score": split["score"], "delta": split["delta"]}
    return dict(_flattened(settings))


def _flattened(settings: Mapping[str, Any]) -> Iterable[tuple[str, Any]]:
    for key, value in settings.items():
        if isinstance(value, Mapping):
            yield from ((f"{key}.{option}", given) for option, given in value.items())
        else:
            yield key, value
