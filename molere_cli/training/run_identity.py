"""What a number was made with: versions, machine, command, settings, data; and whether they still are so."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import torch

from molere_cli.config.run_config import completed
from molere_cli.config.run_names import dataset_title
from molere_cli.config.sections import NOISE_SUFFIX
from molere_cli.data.feed import FeedSettings
from molere_cli.data.source import LoadedDataset
from molere_cli.foundation.errors import RunError
from molere_cli.foundation.files import same_fingerprint
from molere_cli.runs.run_directory import RunDir, without_place
from molere_cli.splits.split_file import Split, load_split
from molere_cli.training.run_environment import cpu_name, describe_gpu, describe_input

MACHINE_SETTINGS = {"device", "threads"}
"""Settings that may differ where a run is gone on with."""


def check_input(run: RunDir, settings: FeedSettings) -> None:
    """Raise RunError if images would become another input than the run began with."""
    recorded, now = run.environment().get("input"), describe_input(settings)
    if recorded is not None and {name: recorded.get(name) for name in now} != now:
        raise RunError(
            f"{run.path} began with images of another size, crop or normalisation than its weights ask for "
            "now; put back what lay beside them, or train a new run"
        )


def other_machine(run: RunDir, device: torch.device) -> str | None:
    """A sentence if the run began on another processor than the one that goes on with it."""
    environment, gpu = run.environment(), describe_gpu(device)
    if environment.get("gpu"):
        began = environment["gpu"]["name"]
    elif environment["device"] == "cpu":
        began = environment["cpu"]
    else:  # on a GPU, by a version that did not record which
        return None
    here = cpu_name() if gpu is None else gpu["name"]
    if not began or began == here:
        return None
    return f"{run.path} began on {began} and goes on on {here}: its numbers are not those of one machine"


def check_fingerprint(run: RunDir, data: LoadedDataset) -> None:
    """Raise RunError if the pool is not what the run was trained on."""
    recorded = run.environment()["fingerprint"]
    if not same_fingerprint(recorded, data.fingerprint):
        raise RunError(
            f"dataset {data.name!r} has changed since {run.path} was trained: "
            f"fingerprint {data.fingerprint}, recorded {recorded}"
        )


def check_test_sets(run: RunDir, data: LoadedDataset) -> None:
    """Raise RunError, naming it, if a test set is not what it was when the run began; a run of a version that
    did not record them passes."""
    present = data.test_fingerprints()
    for name, recorded in run.environment().get("test_fingerprints", {}).items():
        if name not in present:
            raise RunError(f"dataset {data.name!r} has no test set {name!r} any more, which {run.path} has")
        if not same_fingerprint(recorded, present[name]):
            raise RunError(
                f"test set {name!r} of dataset {data.name!r} has changed since {run.path} was trained: "
                f"fingerprint {present[name]}, recorded {recorded}"
            )


def is_extended(run: RunDir) -> bool:
    """Whether the run was to have fewer epochs when it began: its learning rate was not that of one."""
    return any(number < run.config()["epochs"] for number in run.environment().get("extended_from", ()))


def has_settings(run: RunDir, settings: Mapping[str, Any], *, but: Collection[str] = ()) -> bool:
    """Whether a run was begun with these settings, those of its place and `but` aside.

    Raises:
        RunError: it cannot be read.
        ConfigError: its settings are not valid.
    """
    theirs = completed(run.config(), source=str(run.path / "config.json"))
    ours, theirs = (
        {name: value for name, value in as_planned(values).items() if name not in but}
        for values in (settings, theirs)
    )
    return ours == theirs and not is_extended(run)


def check_split(run: RunDir) -> None:
    """Raise RunError if `split.parquet` is not the one that the run began with."""
    recorded = run.environment().get("digests", {}).get("split")
    if recorded not in {None, run.digest_of(run.split_path.name)}:
        raise RunError(
            f"{run.split_path} is not the split that the run began with; put that back, or train a new run"
        )


def checked_split(path: Path, data: LoadedDataset, *, note: Callable[[str], None]) -> Split:
    """A split file, verified against the dataset; what is merely odd is noted.

    Raises:
        SplitError: it is no split, or not one of this pool.
    """
    split, warnings = load_split(
        path,
        labels_N=data.dataset.pool.labels,
        indices_N=data.pool_indices,
        fingerprint=data.fingerprint,
        num_classes=data.num_classes,
    )
    for warning in warnings:
        note(warning)
    return split


def as_planned(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that tell runs on one pool apart: without what depends on the machine, and with paths to
    data by their last part, since the data themselves are compared by fingerprint."""
    settings = without_place(settings)
    noise = settings["label_noise"]
    return settings | {
        "dataset": dataset_title(settings["dataset"]),
        "label_noise": Path(noise).name if noise.endswith(NOISE_SUFFIX) else noise,
    }
