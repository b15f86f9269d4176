"""How metrics went over the epochs of runs, finished or not."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import pairwise
from pathlib import Path
from typing import Any

from molere_cli import ConfigError
from molere_cli.report import RunDir

BLOCKS, ASCII_LEVELS = "▁▂▃▄▅▆▇█", "_.-=+*#@"
"""From the lowest value to the highest."""


@dataclass(frozen=True)
class Curve:
    """One metric of one run, at the epochs (from 0) that recorded it."""

    run: Path
    metric: str
    epochs: list[int]
    values: list[float]

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return {**vars(self), "run": str(self.run)}


def curves_of(paths: Sequence[Path], patterns: Sequence[str]) -> list[Curve]:
    """The metrics whose names fit a pattern, each for all runs in turn, in the order of the patterns.

    Raises:
        ConfigError: no run has recorded a metric of such a name.
        RunError: a path is no run, or its metrics cannot be read.
    """
    records = {path: RunDir(path).metrics() for path in paths}
    recorded = {
        name: None
        for of_run in records.values()
        for record in of_run
        for name, value in record.items()
        if name != "epoch" and value is not None
    }
    found: dict[str, None] = {}
    for pattern in map(str.strip, patterns):
        if not (fitting := [name for name in recorded if fnmatchcase(name, pattern)]):
            there_are = f"; there are: {', '.join(sorted(recorded))}" if recorded else " yet"
            raise ConfigError(f"no run has recorded a metric {pattern!r}{there_are}")
        found.update(dict.fromkeys(fitting))
    curves = []
    for name in found:
        for path, of_run in records.items():
            if points := [
                (int(record["epoch"]), float(record[name]))
                for record in of_run
                if record.get(name) is not None
            ]:
                epochs, values = zip(*points, strict=True)
                curves.append(Curve(path, name, list(epochs), list(values)))
    return curves


def line_of(values: Sequence[float], *, width: int, encoding: str = "utf-8") -> str:
    """A character for each value, higher for a higher one; of more values than `width`, means of neighbours.

    What is not finite leaves a space.
    """
    levels = _levels(encoding)
    # Divided first, since the difference of huge values may not be finite.
    largest = max((abs(value) for value in values if math.isfinite(value)), default=0.0) or 1.0
    means = [_mean([value / largest for value in part]) for part in _parts(values, width)]
    finite = [value for value in means if math.isfinite(value)]
    low, high = min(finite, default=0.0), max(finite, default=0.0)
    span, top = (high - low) or 1.0, len(levels) - 1
    return "".join(levels[round((mean - low) / span * top)] if math.isfinite(mean) else " " for mean in means)


def _levels(encoding: str) -> str:
    try:
        BLOCKS.encode(encoding)
    except UnicodeEncodeError:
        return ASCII_LEVELS
    return BLOCKS


def _parts(values: Sequence[float], width: int) -> list[Sequence[float]]:
    number = min(width, len(values))
    ends = [round(place * len(values) / number) for place in range(number + 1)]
    return [values[start:end] for start, end in pairwise(ends)]


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values) if all(map(math.isfinite, values)) else math.nan
