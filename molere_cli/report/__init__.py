"""Comparing finished runs, and what plugins need that read and show them. No torch is imported."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from molere_cli.report.cells import Grid, explanation, grids
    from molere_cli.report.columns import GAIN_DIGITS, GAIN_UNITS, NOT_AVAILABLE, estimate_text, verdict_text
    from molere_cli.report.comparison import Comparison, Result, compare_runs, independent
    from molere_cli.report.comparison_rows import Row, SeedPair, seeds_text
    from molere_cli.report.footnotes import Footnotes
    from molere_cli.report.measures import MEASURES
    from molere_cli.report.prediction_outcomes import NO_GROUP, Detailed, detailed_examples
    from molere_cli.report.records import RunRecord, find_runs, load_runs
    from molere_cli.report.significance import Verdict, verdicts
    from molere_cli.report.statistics import (
        Estimate,
        GainKind,
        Spread,
        crossed_estimate,
        estimate,
        example_estimate,
    )
    from molere_cli.report.table import Format, as_json, render
    from molere_cli.runs import gallery_choice
    from molere_cli.runs.run_directory import RunDir
    from molere_cli.runs.run_tables import POOL_SET, TEST_PREFIX, RunTable

_LAZY = {
    "GAIN_DIGITS": "molere_cli.report.columns",
    "GAIN_UNITS": "molere_cli.report.columns",
    "MEASURES": "molere_cli.report.measures",
    "NOT_AVAILABLE": "molere_cli.report.columns",
    "NO_GROUP": "molere_cli.report.prediction_outcomes",
    "POOL_SET": "molere_cli.runs.run_tables",
    "TEST_PREFIX": "molere_cli.runs.run_tables",
    "Comparison": "molere_cli.report.comparison",
    "Detailed": "molere_cli.report.prediction_outcomes",
    "Estimate": "molere_cli.report.statistics",
    "Footnotes": "molere_cli.report.footnotes",
    "Format": "molere_cli.report.table",
    "GainKind": "molere_cli.report.statistics",
    "Grid": "molere_cli.report.cells",
    "Result": "molere_cli.report.comparison",
    "Row": "molere_cli.report.comparison_rows",
    "RunDir": "molere_cli.runs.run_directory",
    "RunRecord": "molere_cli.report.records",
    "RunTable": "molere_cli.runs.run_tables",
    "SeedPair": "molere_cli.report.comparison_rows",
    "Spread": "molere_cli.report.statistics",
    "Verdict": "molere_cli.report.significance",
    "as_json": "molere_cli.report.table",
    "compare_runs": "molere_cli.report.comparison",
    "crossed_estimate": "molere_cli.report.statistics",
    "detailed_examples": "molere_cli.report.prediction_outcomes",
    "estimate": "molere_cli.report.statistics",
    "estimate_text": "molere_cli.report.columns",
    "example_estimate": "molere_cli.report.statistics",
    "explanation": "molere_cli.report.cells",
    "find_runs": "molere_cli.report.records",
    "gallery_choice": "molere_cli.runs.gallery_choice",
    "grids": "molere_cli.report.cells",
    "independent": "molere_cli.report.comparison",
    "load_runs": "molere_cli.report.records",
    "render": "molere_cli.report.table",
    "seeds_text": "molere_cli.report.comparison_rows",
    "verdict_text": "molere_cli.report.columns",
    "verdicts": "molere_cli.report.significance",
}

__all__ = [
    "GAIN_DIGITS",
    "GAIN_UNITS",
    "MEASURES",
    "NOT_AVAILABLE",
    "NO_GROUP",
    "POOL_SET",
    "TEST_PREFIX",
    "Comparison",
    "Detailed",
    "Estimate",
    "Footnotes",
    "Format",
    "GainKind",
    "Grid",
    "Result",
    "Row",
    "RunDir",
    "RunRecord",
    "RunTable",
    "SeedPair",
    "Spread",
    "Verdict",
    "as_json",
    "compare_runs",
    "crossed_estimate",
    "detailed_examples",
    "estimate",
    "estimate_text",
    "example_estimate",
    "explanation",
    "find_runs",
    "gallery_choice",
    "grids",
    "independent",
    "load_runs",
    "render",
    "seeds_text",
    "verdict_text",
    "verdicts",
]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = importlib.import_module(_LAZY[name])
    return module if _LAZY[name].endswith(f".{name}") else getattr(module, name)
