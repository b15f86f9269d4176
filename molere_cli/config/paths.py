"""Paths in settings, made absolute when a run is made: one spelling for one place, wherever it is read."""

from __future__ import annotations

import csv
import os
from pathlib import Path
from typing import Any

from molere_cli.config.run_config import RunConfig
from molere_cli.config.sections import NO_START
from molere_cli.foundation.errors import ConfigError
from molere_cli.registry.registry import Registry

SPELLED_AS_PATH = ("./", "../", "~", os.sep)


def with_absolute_paths(config: RunConfig, registry: Registry) -> RunConfig:
    """The configuration with every path in it absolute: of dataset, split, label noise and initial weights.

    Raises:
        UnknownNameError: a dataset or split strategy that no plugin offers.
        ConfigError: there is no working directory to start from.
    """
    changes: dict[str, Any] = {
        "dataset": absolute_dataset(config.data.dataset, registry),
        "data_dir": Path(absolute_path(str(config.data.data_dir))),
    }
    if config.data.noise_is_file:
        changes["label_noise"] = absolute_path(config.data.label_noise)
    if config.classifier.init_from is not None:
        changes["init_from"] = Path(absolute_path(str(config.classifier.init_from)))
    if "split" in config.given and config.split.split != NO_START:
        changes["split"] = _absolute_split(config, registry)
    return config.updated(**changes)


def absolute_dataset(dataset: str, registry: Registry) -> str:
    """A dataset's name with the path that it has for an argument, if it is one, absolute.

    Raises:
        UnknownNameError: no plugin offers it.
    """
    name, colon, argument = dataset.partition(":")
    spec = registry.datasets.get(name)
    if argument and (spec.argument_is_path or argument.startswith(SPELLED_AS_PATH)):
        return f"{name}{colon}{absolute_path(argument)}"
    return dataset


def _absolute_split(config: RunConfig, registry: Registry) -> str:
    split = config.split.split
    if config.split.split_is_file:
        return absolute_path(split)
    spec, argument = registry.split(split)
    if argument is None:
        return split
    name = split.removesuffix(argument)
    if spec.argument_is_dataset:
        return name + absolute_dataset(argument, registry)
    return name + (absolute_path(argument) if spec.argument_is_path else argument)


def absolute_path(path: str) -> str:
    """A path without `~`, `.` and `..`; links stay what they are.

    Raises:
        ConfigError: it is relative, and the working directory is gone.
    """
    try:
        return os.path.abspath(os.path.expanduser(path))
    except FileNotFoundError as error:
        raise ConfigError(
            f"the path {path!r} is relative, but the folder that this command runs in is gone; cd to another"
        ) from error


def comma_separated(text: str) -> list[str]:
    """The parts of `a,b`; one with a comma of its own stands in quotes: `test,"folder:a,b"`.

    Raises:
        ConfigError: a quote is not closed, or a part is empty.
    """
    try:
        (parts,) = csv.reader([text], skipinitialspace=True, strict=True)
    except (csv.Error, ValueError) as error:
        raise ConfigError(f"{text!r} is no list with commas between: {error}") from error
    parts = [part.strip() for part in parts]
    if not all(parts):
        raise ConfigError(f"{text!r} has nothing between two commas")
    return parts
