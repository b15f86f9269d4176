"""The sections on parts of a test set, on what was fixed and broken, and on classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from molere_cli import RunError
from molere_cli.report import TEST_PREFIX, Result, RunDir, RunTable
from molere_report.gallery import ImageBudget, Picture
from molere_report.hard_examples_section import Gallery
from molere_report.html_table import Table, parts_table
from molere_report.prediction_flips import Flip
from molere_report.study import Study
from molere_report.subgroups import Subgroups, gains_by_subgroup
from molere_report.words import points

MOST_PARTS = 60
"""Rows of a table of parts; of more, those that gain and lose most."""
MOST_TURNED = 24


@dataclass(frozen=True, kw_only=True, eq=False)
class RowSubgroups:
    """For whom a row helped. by_class: the table of classes, which has a section of its own."""

    label: str
    result: Result
    parts: Subgroups
    num_seeds: int
    num_fixed: int | None
    num_broken: int | None
    sentences: Sequence[str]
    tables: Sequence[Table]
    fixed: Gallery
    broken: Gallery
    by_class: Table
    confusions: Table


def row_subgroups(study: Study, budget: ImageBudget) -> tuple[list[RowSubgroups], list[str]]:
    """Of every row that is looked into, and what could not be read."""
    found, problems = [], []
    for result in study.measured:
        try:
            parts = gains_by_subgroup(result)
        except RunError as error:
            problems.append(f"for whom {result.row.label} helped: {error}")
        else:
            found += [_view(result, parts, budget)] if parts is not None else []
    return found, problems


def _view(result: Result, parts: Subgroups, budget: ImageBudget) -> RowSubgroups:
    label, names = result.row.label, _class_names(result)
    tables = []
    if parts.groups is not None:
        tables.append(parts_table(f"By group, {label}", "group", parts.groups))
    if parts.label_by_group is not None and len(parts.label_by_group) <= MOST_PARTS:
        tables.append(parts_table(f"By label and group, {label}", "label, group", parts.label_by_group))
    if parts.fifths is not None:
        title = f"By how hard a test example is, by its margin under ERM runs of other seeds, {label}"
        tables.append(parts_table(title, "fifth", parts.fifths))
    return RowSubgroups(
        label=label,
        result=result,
        parts=parts,
        num_seeds=parts.num_seeds,
        num_fixed=None if parts.fixed is None else len(parts.fixed),
        num_broken=None if parts.broken is None else len(parts.broken),
        sentences=_sentences(result, parts),
        tables=tables,
        fixed=_gallery("Fixed", result, parts.fixed, names, budget),
        broken=_gallery("Broken", result, parts.broken, names, budget),
        by_class=_by_class(label, parts),
        confusions=_confusions(label, parts, names),
    )


def _class_names(result: Result) -> list[str]:
    run = RunDir(next(iter(result.row.runs.values())).path)
    return [str(name) for name in run.environment().get("class_names", [])]


def _named(names: Sequence[str], label: int) -> str:
    return names[label] if 0 <= label < len(names) else str(label)


def _sentences(result: Result, parts: Subgroups) -> list[str]:
    what, worst = ("group", parts.groups) if parts.groups else ("class", parts.classes)
    of_erm, of_method = (min(worst, key=lambda part: getattr(part, of)) for of in ("erm", "method"))
    sentences = [
        f"The worst {what} under ERM is {of_erm.name} with {100 * of_erm.erm:.1f}%, "
        f"{100 * of_erm.method:.1f}% under {result.row.label}, whose own worst is {of_method.name} with "
        f"{100 * of_method.method:.1f}%."
    ]
    if parts.averages is not None:
        erm, method, gain = parts.averages.over_examples
        sentences.append(
            f"Two averages, which readers confuse: over test examples {100 * erm:.1f}% becomes "
            f"{100 * method:.1f}% ({points(gain)} points)"
        )
        erm, method, gain = parts.averages.as_in_training
        sentences[-1] += (
            f"; with groups in the shares that they have in training {100 * erm:.1f}% becomes "
            f"{100 * method:.1f}% ({points(gain)} points)."
        )
    if parts.fixed is not None and parts.broken is not None:
        seeds = "in the one seed" if parts.num_seeds == 1 else "in at least four of five seeds"
        sentences.append(
            f"Of the test examples {len(parts.fixed):,} are fixed, wrong under ERM and right under "
            f"{result.row.label}, and {len(parts.broken):,} broken, the reverse, {seeds}."
        )
    return sentences


def _gallery(
    title: str, result: Result, turned: Sequence[Flip] | None, names: Sequence[str], budget: ImageBudget
) -> Gallery:
    found = list(turned or ())
    shown = found[:MOST_TURNED]
    paths = _paths(result, [each.index for each in shown]) if shown else {}
    records = [*result.row.runs.values(), *(result.baseline.runs.values() if result.baseline else ())]
    runs = [RunDir(record.path) for record in records]
    pictures = [_picture(each, paths, result, runs, names, budget) for each in shown]
    # A picture that nobody kept says little; those that were kept come first.
    pictures.sort(key=lambda picture: picture.source is None)
    of = f", {len(shown)} of {len(found):,}" if len(found) > len(shown) else ""
    return Gallery(f"{title} by {result.row.label}{of}", pictures)


def _paths(result: Result, indices: Sequence[int]) -> dict[int, str | None]:
    run = RunDir(next(iter(result.row.runs.values())).path)
    try:
        table = RunTable.predictions(run).read(["index", "path"], test_set=result.test_set)
    except RunError:  # a version that knew no paths
        return {}
    every = dict(zip(table["index"].to_pylist(), table["path"].to_pylist(), strict=True))
    return {index: every.get(index) for index in indices}


def _picture(
    turned: Flip,
    paths: dict[int, str | None],
    result: Result,
    runs: Sequence[RunDir],
    names: Sequence[str],
    budget: ImageBudget,
) -> Picture:
    label, erm, method = (
        _named(names, place) for place in (turned.label, turned.erm_prediction, turned.prediction)
    )
    facts = [
        f"{label}",
        f"ERM: {erm}",
        f"{result.row.label}: {method}",
        f"{turned.num_seeds} of {len(result.gains)} seeds",
        paths.get(turned.index) or f"{result.test_set} {turned.index}",
    ]
    return budget.picture(
        runs,
        (f"{TEST_PREFIX}{result.test_set}", turned.index),
        alternative=f"{label}, predicted {erm} by ERM, {method} by {result.row.label}",
        facts=facts,
    )


def _by_class(label: str, parts: Subgroups) -> Table:
    shown, notes = list(parts.classes), []
    if len(shown) > MOST_PARTS:
        shown.sort(key=lambda part: part.gain.mean)
        half = MOST_PARTS // 2
        notes = [f"of {len(shown):,} classes the {half} that lose most and the {half} that gain most"]
        shown = shown[:half] + shown[-half:]
    table = parts_table(f"{label} beside ERM, by class", "class", shown)
    return Table(table.title, table.headings, table.rows, notes)


def _confusions(label: str, parts: Subgroups, names: Sequence[str]) -> Table:
    rows = [
        (
            f"{_named(names, each.label)} as {_named(names, each.prediction)}",
            f"{each.erm:.1f}",
            f"{each.method:.1f}",
        )
        for each in parts.confusions
    ]
    return Table(f"Commonest confusions, test examples a seed: {label}", ("confusion", "ERM", "method"), rows)


def classes(found: Sequence[RowSubgroups]) -> list[Table]:
    """The tables of the section on classes."""
    return [table for row in found for table in (row.by_class, row.confusions)]
