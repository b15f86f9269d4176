"""Comparing finished runs, and what plugins need that read and show them. No torch is imported."""

from __future__ import annotations

from typing import TYPE_CHECKING

from molere_cli.foundation.lazy_names import lazy_names

if TYPE_CHECKING:
    from molere_cli.report.cells import TextGrid, explanation, grids
    from molere_cli.report.columns import GAIN_DIGITS, GAIN_UNITS, NOT_AVAILABLE, estimate_text, verdict_text
    from molere_cli.report.comparison import Comparison, Result, compare_runs, independent
    from molere_cli.report.comparison_rows import Row, SeedPair, seeds_text
    from molere_cli.report.footnotes import Footnotes
    from molere_cli.report.measures import MEASURES
    from molere_cli.report.prediction_outcomes import Tested
    from molere_cli.report.records import find_runs
    from molere_cli.report.significance import Verdict, verdicts
    from molere_cli.report.statistics import Estimate, GainKind, estimate, example_estimate
    from molere_cli.report.table import as_json, render
    from molere_cli.runs import gallery_choice
    from molere_cli.runs.run_directory import RunDir
    from molere_cli.runs.run_tables import POOL_SET, TEST_PREFIX, RunTable

__getattr__ = lazy_names(
    __name__,
    {
        "report.cells": "TextGrid explanation grids",
        "report.columns": "GAIN_DIGITS GAIN_UNITS NOT_AVAILABLE estimate_text verdict_text",
        "report.comparison": "Comparison Result compare_runs independent",
        "report.comparison_rows": "Row SeedPair seeds_text",
        "report.footnotes": "Footnotes",
        "report.measures": "MEASURES",
        "report.prediction_outcomes": "Tested",
        "report.records": "find_runs",
        "report.significance": "Verdict verdicts",
        "report.statistics": "Estimate GainKind estimate example_estimate",
        "report.table": "as_json render",
        "runs": "gallery_choice",
        "runs.run_directory": "RunDir",
        "runs.run_tables": "POOL_SET TEST_PREFIX RunTable",
    },
)

__all__ = [
    "GAIN_DIGITS",
    "GAIN_UNITS",
    "MEASURES",
    "NOT_AVAILABLE",
    "POOL_SET",
    "TEST_PREFIX",
    "Comparison",
    "Estimate",
    "Footnotes",
    "GainKind",
    "Result",
    "Row",
    "RunDir",
    "RunTable",
    "SeedPair",
    "Tested",
    "TextGrid",
    "Verdict",
    "as_json",
    "compare_runs",
    "estimate",
    "estimate_text",
    "example_estimate",
    "explanation",
    "find_runs",
    "gallery_choice",
    "grids",
    "independent",
    "render",
    "seeds_text",
    "verdict_text",
    "verdicts",
]
