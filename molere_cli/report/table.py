"""A comparison as text: a table for a terminal, Markdown, CSV or JSON."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Any, Literal

from molere_cli.foundation.files import json_text
from molere_cli.foundation.plain_text import harmless
from molere_cli.foundation.text_table import table_text
from molere_cli.report.cells import TextGrid, explanation, grids
from molere_cli.report.comparison import Comparison, Result
from molere_cli.report.comparison_rows import seeds_text
from molere_cli.report.footnotes import Footnotes
from molere_cli.report.latex import as_latex
from molere_cli.report.measures import MEASURES
from molere_cli.report.significance import Verdict
from molere_cli.report.statistics import Estimate, Spread

Format = Literal["table", "markdown", "csv", "json", "latex"]


def render(
    comparison: Comparison,
    format: Format = "table",
    *,
    columns: Sequence[str] | None = None,
    width: int | None = None,
    encoding: str = "utf-8",
) -> str:
    """A comparison as text without a final newline.

    Args:
        columns: names of the columns that `table`, `markdown` and `latex` show; the others hold all numbers.
        width: columns of the terminal, for `table`; None: as wide as the table is.
        encoding: of what reads it, for `table`, which is laid out in characters that this has.

    Raises:
        ConfigError: there is no such column.
    """
    if format == "json":
        return json_text([as_json(result, comparison) for result in comparison.results], indent=2)
    if format == "csv":
        return as_csv(comparison)
    footnotes = Footnotes()
    tables = grids(comparison, footnotes, columns=columns)
    if format == "latex":
        return as_latex(tables, [explanation(comparison), *footnotes.lines()])
    notes = [explanation(comparison), *(harmless(line) for line in footnotes.lines())]
    if format == "markdown":
        return "\n\n".join([*(as_markdown(grid) for grid in tables), *notes])
    texts = [
        table_text(grid.title, grid.headings, grid.rows, width=width, encoding=encoding) for grid in tables
    ]
    return "\n\n".join([*texts, "\n".join(notes)])


def as_markdown(grid: TextGrid) -> str:
    """A grid as a Markdown table under its title."""
    rule = ["---", *("---:" for _ in grid.headings[1:])]
    lines = [_markdown_line(cells) for cells in (grid.headings, rule, *grid.rows)]
    return "\n".join([f"**{harmless(grid.title)}**", "", *lines])


def as_csv(comparison: Comparison) -> str:
    """A header and a line a row; empty where there is no number, units as in `as_json`."""
    rows = [
        {name: harmless(value) if isinstance(value, str) else value for name, value in row.items()}
        for row in (_flat(result, comparison) for result in comparison.results)
    ]
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().rstrip("\n")


def as_json(result: Result, comparison: Comparison) -> dict[str, Any]:
    """A row as plain data: accuracies in [0, 1], the gain as `gain_kind` says, times in seconds.

    The gains of other measures are in percentage points, or in the unit of what is no fraction.
    """
    row, test_set = result.row, result.test_set
    return {
        **_names(result, comparison),
        "settings": dict(row.settings),
        "accuracy": _spread(result.accuracy),
        "gain": _estimate(result.gain),
        "verdict": _verdict(result.verdict),
        "margin_gain": _estimate(result.gain_in("margin")),
        "worst_group": _spread(result.spread_of("worst_group")),
        "worst_group_gain": _estimate(result.gain_in("worst_group")),
        "measured": {
            name: {**(_spread(found.spread) or {}), "gain": _estimate(found.gain)}
            for name, found in result.measured.items()
        },
        "effective_sample_size": _spread(result.effective_sample_size),
        "seconds": result.seconds,
        "peak_memory_mib": result.peak_memory,
        "seeds": [seed for _data_seed, seed in row.runs],
        "runs": [
            {
                "path": str(run.path),
                "data_seed": run.data_seed,
                "seed": run.seed,
                "accuracy": run.results[f"{test_set}/accuracy"],
                "gain": result.gains.get(pair),
                "seconds": run.seconds,
                "peak_memory_mib": run.peak_memory,
            }
            for pair, run in row.runs.items()
        ],
        "notes": list(result.notes),
    }


def _names(result: Result, comparison: Comparison) -> dict[str, Any]:
    return {
        "dataset": result.row.dataset,
        "backbone": result.row.backbone,
        "label": result.row.label,
        "baseline": result.baseline.label if result.baseline else None,
        "test_set": result.test_set,
        "gain_kind": comparison.gain_kind,
    }


def _flat(result: Result, comparison: Comparison) -> dict[str, Any]:
    return {
        **_names(result, comparison),
        "num_runs": len(result.row.runs),
        "seeds": seeds_text(result.row.runs),
        **_prefixed("accuracy", _spread(result.accuracy) or {}),
        **_prefixed("gain", _estimate(result.gain) or EMPTY_ESTIMATE),
        **_prefixed("verdict", _verdict(result.verdict) or EMPTY_VERDICT),
        **{
            key: value
            for name in MEASURES
            if name != "accuracy"
            for key, value in {
                **_prefixed(name, _spread(result.spread_of(name)) or EMPTY_SPREAD),
                **_prefixed(f"{name}_gain", _estimate(result.gain_in(name)) or EMPTY_ESTIMATE),
            }.items()
        },
        **_prefixed("effective_sample_size", _spread(result.effective_sample_size) or EMPTY_SPREAD),
        "seconds": result.seconds,
        "peak_memory_mib": result.peak_memory,
        "notes": "; ".join(result.notes),
    }


EMPTY_SPREAD: dict[str, Any] = {"mean": None, "std": None}
EMPTY_ESTIMATE: dict[str, Any] = {"mean": None, "low": None, "high": None, "num_pairs": None}
EMPTY_VERDICT: dict[str, Any] = {"word": None, "p": None, "p_adjusted": None, "more": None}


def _spread(spread: Spread | None) -> dict[str, Any] | None:
    return {"mean": spread.mean, "std": spread.std} if spread else None


def _estimate(estimate: Estimate | None) -> dict[str, Any] | None:
    if estimate is None:
        return None
    return {
        "mean": estimate.mean,
        "low": estimate.low,
        "high": estimate.high,
        "num_pairs": estimate.num_pairs,
    }


def _verdict(verdict: Verdict | None) -> dict[str, Any] | None:
    if verdict is None:
        return None
    return {
        "word": verdict.word,
        "p": verdict.p_value,
        "p_adjusted": verdict.p_adjusted,
        "more": verdict.more,
    }


def _prefixed(prefix: str, values: dict[str, Any]) -> dict[str, Any]:
    return {f"{prefix}_{key}": value for key, value in values.items()}


def _markdown_line(cells: Any) -> str:
    return "| " + " | ".join(harmless(cell).replace("|", r"\|") for cell in cells) + " |"
