"""The hardest examples of a run's pool, and those whose label looks wrong, each with where it lies."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

import numpy

from molere_cli import RunError
from molere_cli.commands import replacing, unknown
from molere_cli.report import RunDir, RunTable
from molere_report.suspects import Suspects, find_suspects

Score = Literal["aum", "early-aum", "margin", "loss", "el2n", "forgetting"]
NAMES = ("label", "prediction", "clean_label")
LOW_IS_HARD = {"aum", "early-aum", "margin"}
COLUMNS = ["index", *NAMES, "probability", "path", "mean_weight"]


@dataclass(frozen=True)
class HardExample:
    """rank: from 1, the hardest. index: in the full pool. path: None where its image has none. prediction: by
    the final checkpoint, with its probability. clean_label: before label noise, None where there is none.
    weight: the mean over training, None for an example that never trained."""

    rank: int
    index: int
    path: str | None
    label: str
    prediction: str
    probability: float
    score: float
    clean_label: str | None
    weight: float | None

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def hardest_examples(
    path: Path, *, score: Score = "aum", top: int = 20, class_name: str | None = None
) -> list[HardExample]:
    """The `top` hardest examples of a run's pool, or of one class of it, by a score of the run's own.

    Of equal ones, the lower index comes first; an example without the score, since it never trained, has no
    place.

    Raises:
        RunError: no finished run, a damaged one, or one of a version that did not record this.
        UnknownNameError: the run has no such class.
    """
    run = _finished(path)
    names = run.environment().get("class_names", [])
    if class_name is not None and class_name not in names:
        raise unknown("class", class_name, names, listed_in=str(path / "environment.json"))
    column = score.replace("-", "_")
    table = RunTable.pool(run).read([*COLUMNS, column])
    values = table[column].to_numpy(zero_copy_only=False).astype(float)
    order = numpy.argsort(values if score in LOW_IS_HARD else -values, kind="stable")
    order = order[~numpy.isnan(values[order])]
    if class_name is not None:
        order = order[table["label"].to_numpy()[order] == names.index(class_name)]
    rows = table.select(COLUMNS).take(order[:top]).to_pylist()
    for row, value in zip(rows, values[order[:top]].tolist(), strict=True):
        row |= {name: None if row[name] is None else names[row[name]] for name in NAMES}
        row |= {"weight": row.pop("mean_weight"), "score": value}
    return [HardExample(rank=rank, **row) for rank, row in enumerate(rows, 1)]


def suspects(path: Path) -> Suspects:
    """The examples of a run's pool whose label looks wrong, see `suspects.py`.

    Raises:
        RunError: no finished run, a damaged one, or one of a version that did not record this.
    """
    return find_suspects(_finished(path))


def _finished(path: Path) -> RunDir:
    run = RunDir(path)
    run.config()
    if not run.is_done:
        raise RunError(f"{path} is not finished; go on with `molere train --resume {path}`")
    return run


def write_hardest_csv(examples: Sequence[HardExample], path: Path) -> None:
    """A row an example, its fields as columns.

    Raises:
        WriteError: the system refuses.
    """
    with replacing(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(HardExample)])
        writer.writeheader()
        writer.writerows(example.as_json() for example in examples)
