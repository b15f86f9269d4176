"""Labels that look wrong: the network preferred another class early on, and, where it is known, out of fold.

Before it has had time to memorise, a network does not believe a wrong label: its early area under the
margin is below 0 (Just Train Twice, arXiv 2107.09044, and Pleiss et al. 2020, arXiv 2001.10528, rest on the
same). Weights have no say: under a hard split wrong labels are raised, not lowered.

Shapes: N examples of a pool.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy
from numpy.typing import NDArray

from molere_cli.report import RunDir, RunTable

if TYPE_CHECKING:
    import pyarrow as pa

Evidence = Literal["in training", "out of fold"]
HELD_OUT = ["held_out_prediction", "held_out_probability", "held_out_label_probability"]
COLUMNS = ["index", "label", "prediction", "second", "early_aum", "clean_label", "mean_weight", "path"]
CSV_COLUMNS = [
    *("index", "path", "is_label_issue", "label_score", "given_label", "predicted_label"),
    *("early_aum", "weight"),
]
"""Those of cleanlab's tables, and ours."""
FIRST = (10, 100)


@dataclass(frozen=True)
class Suspect:
    """An example whose label looks wrong.

    index: in the full pool. label_score: in [0, 1], the lower, the more suspect. predicted_label: the class
    that was preferred. weight: the mean over training. clean_label: None where it is not known.
    """

    index: int
    path: str | None
    given_label: str
    predicted_label: str
    label_score: float
    early_aum: float
    weight: float | None
    clean_label: str | None

    def row(self) -> dict[str, Any]:
        """By the names of `CSV_COLUMNS`."""
        return {
            "index": self.index,
            "path": self.path,
            "is_label_issue": True,
            "label_score": self.label_score,
            "given_label": self.given_label,
            "predicted_label": self.predicted_label,
            "early_aum": self.early_aum,
            "weight": self.weight,
        }


@dataclass(frozen=True)
class Suspects:
    """Of a run's pool, the most suspect first; `num_pool` examples in all.

    evidence: whether what says so has trained on the examples. precision: of the first so many, how many
    labels are wrong; None where that is not known.
    """

    examples: Sequence[Suspect]
    num_pool: int
    evidence: Evidence
    precision: dict[int, int] | None


def find_suspects(run: RunDir, held_out_of: RunDir | None = None) -> Suspects:
    """Of a finished run, by its own training, and out of fold where its split's scores are.

    Args:
        held_out_of: another run on the same pool, whose split's scores are out of fold.

    Raises:
        RunError: the table is missing, damaged, or of a version that did not record this.
    """
    table = RunTable.pool(run)
    found = table.read(COLUMNS)
    held_out = held_out_columns(held_out_of or run, found["index"].to_numpy())
    names = [str(name) for name in run.environment().get("class_names", [])]
    return suspects_of(found, held_out, names)


def held_out_columns(run: RunDir, index_N: NDArray[numpy.int64]) -> pa.Table | None:
    """What a run's table says out of fold of the examples with these indices, in their order; None where it
    says nothing, or has other examples."""
    table = RunTable.pool(run)
    if not set(HELD_OUT) <= set(table.columns()):
        return None
    found = table.read(["index", *HELD_OUT])
    if any(found[name].null_count for name in HELD_OUT):
        return None
    return found if numpy.array_equal(found["index"].to_numpy(), index_N) else None


def suspects_of(table: pa.Table, held_out: pa.Table | None, names: Sequence[str]) -> Suspects:
    """From columns of a pool: `COLUMNS`, `HELD_OUT` of the same examples or None, and the classes' names."""
    label_N, early_N = table["label"].to_numpy(), table["early_aum"].to_numpy().astype(numpy.float64)
    if held_out is None:
        prediction_N, second_N = table["prediction"].to_numpy(), table["second"].to_numpy()
        other_N = numpy.where(prediction_N != label_N, prediction_N, second_N)
        suspect_N, score_N = early_N < 0, (1 + early_N) / 2
    else:
        other_N = held_out["held_out_prediction"].to_numpy()
        own_N, its_N = (held_out[name].to_numpy().astype(float) for name in reversed(HELD_OUT[1:]))
        suspect_N = (early_N < 0) & (other_N != label_N)
        score_N = (2 + early_N + own_N - its_N) / 4
    # A nan, of an example that never trained, is no smaller than 0.
    rows = numpy.flatnonzero(suspect_N & ~numpy.isnan(other_N.astype(float)))
    rows = rows[numpy.argsort(score_N[rows], kind="stable")]
    others, scores = other_N[rows].astype(int).tolist(), score_N[rows].tolist()
    examples = [
        Suspect(
            index=row["index"],
            path=row["path"],
            given_label=names[row["label"]],
            predicted_label=names[other],
            label_score=score,
            early_aum=row["early_aum"],
            weight=row["mean_weight"],
            clean_label=None if row["clean_label"] is None else names[row["clean_label"]],
        )
        for row, other, score in zip(table.take(rows).to_pylist(), others, scores, strict=True)
    ]
    return Suspects(
        examples, len(table), "in training" if held_out is None else "out of fold", _precision(examples)
    )


def _precision(examples: Sequence[Suspect]) -> dict[int, int] | None:
    if any(example.clean_label is None for example in examples) or not examples:
        return None
    wrong = [example.clean_label != example.given_label for example in examples]
    return {first: sum(wrong[:first]) for first in sorted({min(len(wrong), n) for n in (*FIRST, len(wrong))})}


def suspects_csv(examples: Sequence[Suspect]) -> str:
    """A header and a line an example."""
    text = io.StringIO()
    writer = csv.DictWriter(text, CSV_COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(example.row() for example in examples)
    return text.getvalue()
