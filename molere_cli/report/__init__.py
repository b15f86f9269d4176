"""Comparing runs: reads run directories alone, imports no torch."""

from __future__ import annotations

from molere_cli.report.comparison import Comparison, Result, compare_runs
from molere_cli.report.comparison_rows import Row
from molere_cli.report.records import RunRecord, find_runs, load_runs
from molere_cli.report.statistics import Estimate, GainKind, Spread
from molere_cli.report.table import Format, render

__all__ = [
    "Comparison",
    "Estimate",
    "Format",
    "GainKind",
    "Result",
    "Row",
    "RunRecord",
    "Spread",
    "compare_runs",
    "find_runs",
    "load_runs",
    "render",
]
