"""The section on labels that look wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import quote

from molere_cli import RunError
from molere_cli.report import POOL_SET, RunDir
from molere_report.gallery import ImageBudget, Picture
from molere_report.hard_examples_section import Gallery
from molere_report.html_table import Table
from molere_report.pool import Pool
from molere_report.study import Study, run_beside
from molere_report.suspects import Suspect, Suspects, find_suspects, held_out_columns, suspects_csv

MOST_PICTURES, MOST_ROWS, MOST_IN_FILE = 36, 50, 2000
FILE = "suspects.csv"


@dataclass(frozen=True, kw_only=True)
class Suspicion:
    """The labels of a pool that look wrong; csv: a data URI, None where there is none."""

    found: Suspects
    sentences: Sequence[str]
    gallery: Gallery
    table: Table
    csv: str | None
    file: str = FILE


def suspicion(study: Study, pool: Pool, budget: ImageBudget, left_out: list[str]) -> Suspicion | None:
    """By the run whose pool is shown, and out of fold where any row has a split out of fold."""
    try:
        found = find_suspects(pool.run, _held_out_run(study, pool))
    except RunError as error:
        left_out.append(f"labels that look wrong: {error}")
        return None
    examples = found.examples
    in_file = examples[:MOST_IN_FILE]
    return Suspicion(
        found=found,
        sentences=_sentences(pool.run, found),
        gallery=Gallery(
            "The most suspect", [_picture(each, pool, budget) for each in examples[:MOST_PICTURES]]
        ),
        table=_table(examples[:MOST_ROWS]),
        csv="data:text/csv;charset=utf-8," + quote(suspects_csv(in_file)) if in_file else None,
    )


def _held_out_run(study: Study, pool: Pool) -> RunDir | None:
    for result in study.measured:
        run = run_beside(result.row, study)
        if held_out_columns(run, pool.numbers("index")) is not None:
            return run
    return None


def _sentences(run: RunDir, found: Suspects) -> list[str]:
    number = len(found.examples)
    sentences = [
        f"{number:,} of {found.num_pool:,} training examples do not look like their label: it is wrong, or "
        "they are rare"
    ]
    if found.precision is not None:
        first = ", ".join(f"{wrong} of the first {top}" for top, wrong in found.precision.items())
        sentences[0] += f"; wrong they are, as is known here, in {first}"
    sentences[0] += "."
    why = "early in training the network preferred another class, on average"
    if found.evidence == "out of fold":
        why += ", and so did a network that had not trained on the example"
    sentences.append(f"{why[0].upper()}{why[1:]}.")
    if number > MOST_IN_FILE:
        sentences.append(
            f"The file has the first {MOST_IN_FILE:,}; all: molere hardest {run.path} --suspects "
            f"--top {number} --csv {FILE}"
        )
    return sentences


def _table(examples: Sequence[Suspect]) -> Table:
    headings = ("image", "given label", "predicted label", "label score", "early AUM", "weight")
    rows = [
        (
            each.path or f"example {each.index}",
            each.given_label,
            each.predicted_label,
            f"{each.label_score:.3f}",
            f"{each.early_aum:.2f}",
            "-" if each.weight is None else f"{each.weight:.2f}",
        )
        for each in examples
    ]
    return Table("The most suspect first; the weight is shown, and has no say", headings, rows)


def _picture(each: Suspect, pool: Pool, budget: ImageBudget) -> Picture:
    facts = [f"given {each.given_label}"]
    if each.clean_label is not None:
        facts.append(f"truly {each.clean_label}")
    facts += [
        f"looks like {each.predicted_label}",
        f"label score {each.label_score:.2f}",
        each.path or f"example {each.index}",
    ]
    alternative = (
        f"given {each.given_label}, looks like {each.predicted_label}, label score {each.label_score:.2f}"
    )
    return budget.picture([pool.run], (POOL_SET, each.index), alternative=alternative, facts=facts)
