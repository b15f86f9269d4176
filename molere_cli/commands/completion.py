"""Values that a shell can complete; nothing here imports torch."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path


def _names(of_kind: str) -> list[str]:
    import warnings

    from molere_cli.registry.registry import load_plugins

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a complaint would land in the middle of the line
        return [entry.spec.name for entry in getattr(load_plugins(), of_kind).entries]


def _beginning(names: Iterable[str], incomplete: str) -> list[str]:
    return sorted(name for name in names if name.startswith(incomplete))


def datasets(incomplete: str) -> list[str]:
    return _beginning(_names("datasets"), incomplete)


def backbones(incomplete: str) -> list[str]:
    """Those that stand for themselves, and the families; their many members would need torch."""
    families = [f"{name}:" for name in _names("families")]
    return _beginning([*_names("backbones"), *families], incomplete)


def methods(incomplete: str) -> list[str]:
    """One, or the last of several with commas between."""
    before, comma, last = incomplete.rpartition(",")
    return [f"{before}{comma}{name}" for name in _beginning(_names("methods"), last)]


def splits(incomplete: str) -> list[str]:
    return _beginning(_names("splits"), incomplete)


def reweighters(incomplete: str) -> list[str]:
    return _beginning(_names("reweighters"), incomplete)


def trackers(incomplete: str) -> list[str]:
    return _beginning(_names("trackers"), incomplete)


def run_directories(incomplete: str) -> list[str]:
    """The runs in the folder that is being typed, and the folders that may hold some."""
    given = Path(incomplete)
    folder = given if incomplete.endswith("/") or not incomplete else given.parent
    try:
        entries = [entry for entry in os.scandir(folder) if entry.is_dir() and entry.name[:1] != "."]
    except OSError:
        return []
    found = []
    for entry in entries:
        path = os.path.normpath(os.path.join(folder, entry.name))
        found.append(path if os.path.isfile(os.path.join(path, "config.json")) else f"{path}/")
    return _beginning(found, os.path.normpath(incomplete) if incomplete else "")


OF_SETTINGS: dict[str, Callable[[str], list[str]]] = {
    "dataset": datasets,
    "backbone": backbones,
    "method": methods,
    "split": splits,
    "reweighter": reweighters,
}
"""What completes a setting's values, by the setting's name."""
