"""From a comparison to what the page shows: no number is made here, and nothing is written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import Any

from molere_cli import RunError
from molere_cli.report import Comparison, Footnotes, Result, as_json, explanation, grids
from molere_report.answers import Answer, answers
from molere_report.charts import gains_chart
from molere_report.gallery import ImageBudget
from molere_report.hard_examples_section import (
    Chart,
    all_weights,
    drawn,
    hard_examples,
    sizes_by_epoch,
)
from molere_report.html_table import Table
from molere_report.pool import Pool
from molere_report.provenance_section import provenance
from molere_report.study import MOST_STUDIES, Study, first_run, studies
from molere_report.study_view import StudyView
from molere_report.subgroups_section import classes, row_subgroups
from molere_report.suspicion import suspicion
from molere_report.training_section import calibration, cost, curves
from molere_report.words import headline

MOST_TEST_SETS = 12
"""Between which the page switches; the others are in its JSON."""
CONTENTS = (
    ("help", "Did it help?"),
    ("whom", "For whom?"),
    ("hard", "Hard examples"),
    ("weights", "Weights"),
    ("suspects", "Suspected labels"),
    ("classes", "Classes"),
    ("training", "Training"),
    ("provenance", "Provenance"),
    ("numbers", "Numbers"),
)


@dataclass(frozen=True, kw_only=True, eq=False)
class Page:
    """All that the page shows. numbers: once more, for programs. left_out: what is not shown, and why."""

    headline: str
    subject: str
    version: str
    command: str
    contents: Sequence[tuple[str, str]]
    answers: Sequence[Answer]
    studies: Sequence[StudyView]
    caveats: Sequence[str]
    provenance: Sequence[Table]
    left_out: Sequence[str]
    numbers: dict[str, Any]


def build_page(comparison: Comparison, *, test_set: str | None, command: str) -> Page:
    """The page of a comparison on all test sets.

    Args:
        test_set: the one that is looked into, None: the first.
        command: what made the page.
    """
    found, budget, left_out = studies(comparison, test_set), ImageBudget(), list(comparison.warnings)
    if others := [study.title for study in found[MOST_STUDIES:]]:
        left_out.append(f"looked into are the first {MOST_STUDIES} tables, not: {', '.join(others)}")
    shown = [_looked_into(study, comparison, budget, left_out) for study in found[:MOST_STUDIES]]
    left_out += budget.problems
    if budget.num_left_out:
        left_out.append(f"{budget.num_left_out:,} pictures, so that the page stays small")
    return Page(
        headline=headline([result for study in found for result in study.results]),
        subject=_subject(found),
        version=version("molere"),
        command=command,
        contents=CONTENTS,
        answers=answers(found, shown, comparison.gain_kind),
        studies=shown,
        caveats=[explanation(comparison)],
        provenance=provenance(found),
        left_out=list(dict.fromkeys(left_out)),
        numbers={
            "molere": version("molere"),
            "command": command,
            "gain_kind": comparison.gain_kind,
            "rows": [as_json(result, comparison) for result in comparison.results],
            "looked_into": [_as_json(view) for view in shown],
            "left_out": list(dict.fromkeys(left_out)),
        },
    )


def _as_json(view: StudyView) -> dict[str, Any]:
    return {
        "title": view.title,
        "test_set": view.test_set,
        "for_whom": {row.label: asdict(row.parts) for row in view.subgroups},
        "findings": list(view.findings),
        "suspects": None
        if view.suspects is None
        else {
            "evidence": view.suspects.found.evidence,
            "number": len(view.suspects.found.examples),
            "wrong_of_first": view.suspects.found.precision,
        },
    }


def _subject(found: Sequence[Study]) -> str:
    titles = [study.title for study in found]
    named = "; ".join(titles[:MOST_STUDIES])
    return named if len(titles) <= MOST_STUDIES else f"{named} and {len(titles) - MOST_STUDIES} more"


def _looked_into(study: Study, comparison: Comparison, budget: ImageBudget, left_out: list[str]) -> StudyView:
    if study.left_out:
        left_out.append(f"{study.title}: rows that are only in the table: {', '.join(study.left_out)}")
    pool = _pool(study, left_out)
    found_subgroups, problems = row_subgroups(study, budget)
    left_out += problems
    found_weights, problems = all_weights(study, pool, budget) if pool is not None else ([], [])
    left_out += problems
    return StudyView(
        title=study.title,
        test_set=study.test_set,
        tables=_tables(study, comparison, left_out),
        gains=_gains(study, comparison),
        subgroups=found_subgroups,
        hard=None if pool is None else hard_examples(pool, budget, delta=_delta(study)),
        sizes=sizes_by_epoch(study),
        weights=found_weights,
        suspects=None if pool is None else suspicion(study, pool, budget, left_out),
        findings=_findings(study),
        classes=classes(found_subgroups),
        calibration=calibration(study, left_out),
        curves=curves(study),
        cost=cost(study),
    )


def _pool(study: Study, left_out: list[str]) -> Pool | None:
    try:
        return Pool.of(study.example_run())
    except RunError as error:
        left_out.append(f"the training examples: {error}")
        return None


def _tables(study: Study, comparison: Comparison, left_out: list[str]) -> list[tuple[str, Table]]:
    names = [study.test_set, *(name for name in study.by_test_set if name != study.test_set)]
    if len(names) > MOST_TEST_SETS:
        more = len(names) - MOST_TEST_SETS
        left_out.append(f"{study.title}: the tables of {more} more test sets, whose numbers are in the JSON")
    found = []
    for name in names[:MOST_TEST_SETS]:
        footnotes = Footnotes()
        [grid] = grids(_part(comparison, study.by_test_set[name]), footnotes)
        found.append((name, Table.of(grid, footnotes.lines())))
    return found


def _part(comparison: Comparison, results: Sequence[Result]) -> Comparison:
    return Comparison(results=results, gain_kind=comparison.gain_kind, warnings=())


def _gains(study: Study, comparison: Comparison) -> Chart | None:
    if not study.measured:
        return None
    caption = (
        f"Gain over ERM on {study.test_set}. A diamond is the mean of a row, the line its 95% interval, a "
        "ring a seed; right of the dashed line is better than ERM."
    )
    chart = gains_chart(_part(comparison, study.results))
    return drawn(chart, f"Gain over ERM, {study.title}", caption)


def _delta(study: Study) -> float:
    """The share that a split of these runs takes; a tenth where there is none."""
    deltas = (result.row.settings.get("delta") for result in study.results)
    return next((float(delta) for delta in deltas if delta), 0.1)


def _findings(study: Study) -> list[str]:
    """What splits found out about the pool, of each row the first run's."""
    found = [(first_run(result.row).environment().get("split") or {}) for result in study.results]
    return list(dict.fromkeys(str(split["finding"]) for split in found if split.get("finding")))
