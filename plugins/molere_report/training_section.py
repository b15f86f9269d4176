"""The section on how training went: calibration, curves, time and memory."""

from __future__ import annotations

import numpy

from molere_cli import RunError
from molere_cli.report import NOT_AVAILABLE, Row, RunDir
from molere_report.binned import CalibrationBin, calibration_bins
from molere_report.charts import MOST_LABELS, calibration_chart, epochs_chart
from molere_report.detailed import detailed_examples
from molere_report.hard_examples_section import Chart, drawn, lines_of
from molere_report.html_table import Table
from molere_report.study import Study
from molere_report.words import mean_seconds


def calibration(study: Study, left_out: list[str]) -> Chart | None:
    """How often ERM and the rows looked into are right, against how sure they are; all seeds together."""
    bins = {}
    for row in _rows(study):
        try:
            bins[row.label] = _bins(row, study.test_set)
        except RunError as error:
            left_out.append(f"calibration of {row.label}: {error}")
    if not bins:
        return None
    caption = (
        f"Calibration on {study.test_set}, the test examples of all seeds together: how many are right among "
        "those of which a classifier is so sure. On the dashed line it is as sure as it is right; below, "
        "too sure."
    )
    return drawn(calibration_chart(bins), f"Calibration, {study.title}", caption)


def _rows(study: Study) -> list[Row]:
    rows = [study.erm] if study.erm is not None else []
    return [*rows, *(result.row for result in study.measured)][:MOST_LABELS]


def _bins(row: Row, test_set: str) -> list[CalibrationBin]:
    found = [detailed_examples(RunDir(record.path), test_set) for record in row.runs.values()]
    probability = numpy.concatenate([each.probability for each in found])
    return calibration_bins(probability, numpy.concatenate([each.right for each in found]))


CURVES = {
    "train/accuracy": ("training accuracy, %", "Training accuracy by epoch, each example counted once"),
    "{test_set}/accuracy": ("accuracy on {test_set}, %", "Accuracy on {test_set} by epoch"),
}


def curves(study: Study) -> list[Chart]:
    """Of ERM and the rows that are looked into, a line a run."""
    charts = []
    for metric, (y, title) in CURVES.items():
        name = metric.format(test_set=study.test_set)
        lines = lines_of(study, name, scale=100.0, with_erm=True)
        lines = dict(list(lines.items())[:MOST_LABELS])
        if any(len(points) > 1 for runs in lines.values() for points in runs.values()):
            chart = epochs_chart(lines, y=y.format(test_set=study.test_set))
            title = title.format(test_set=study.test_set)
            charts.append(drawn(chart, title, f"{title}. A line a run."))
    return charts


def cost(study: Study) -> Table:
    """Time and memory of every row."""
    rows = []
    for result in study.results:
        of_erm = mean_seconds(result)
        memory, of_erms = result.peak_memory, result.baseline.peak_memory if result.baseline else None
        rows.append(
            (
                result.row.label,
                f"{result.seconds:.1f}",
                f"{result.seconds / of_erm:.2f}" if of_erm else "-",
                NOT_AVAILABLE if memory is None else f"{memory:,.0f}",
                f"{memory / of_erms:.2f}" if memory and of_erms else "-",
            )
        )
    headings = ("method", "seconds a run", "times ERM's", "peak memory, MiB", "times ERM's")
    notes = [
        "Training alone; making a split by hardness takes an ERM run more, which is in no row's seconds."
    ]
    return Table("Time and memory", headings, rows, notes)
