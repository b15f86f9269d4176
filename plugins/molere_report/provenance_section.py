"""The section on where the numbers come from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from molere_cli.report import seeds_text
from molere_report.html_table import Table
from molere_report.study import Study, first_run

VERSIONS = ("molere", "commit", "python", "torch", "torchvision", "timm", "cpu", "gpu", "device", "precision")
MOST_SETTINGS = 60


def provenance(found: Sequence[Study]) -> list[Table]:
    """The command of each row, in what the rows of a table differ, and with what they were made."""
    tables = []
    for study in found:
        environments = {result.row.label: first_run(result.row).environment() for result in study.results}
        commands = [
            (
                result.row.label,
                seeds_text(result.row.runs),
                str(environments[result.row.label].get("command", "")),
                str(first_run(result.row).path),
            )
            for result in study.results
        ]
        headings = ("method", "seeds", "command of the first run", "its directory")
        tables.append(Table(f"Commands: {study.title}", headings, commands))
        tables += _differences(study)
        tables.append(_versions(study, environments))
    return tables


def _differences(study: Study) -> list[Table]:
    settings = {result.row.label: result.row.settings for result in study.results}
    names = sorted({name for each in settings.values() for name in each})
    rows = []
    for name in names:
        values = [_text(each, name) for each in settings.values()]
        if len(set(values)) > 1:
            rows.append((name, *values))
    if not rows:
        return []
    notes = [f"and {len(rows) - MOST_SETTINGS} more settings"] if len(rows) > MOST_SETTINGS else []
    title = f"Settings in which the rows differ: {study.title}"
    return [Table(title, ("setting", *settings), rows[:MOST_SETTINGS], notes)]


def _versions(study: Study, environments: dict[str, dict[str, Any]]) -> Table:
    rows = [
        (label, *(_shown(environment.get(name)) for name in VERSIONS))
        for label, environment in environments.items()
    ]
    return Table(f"Made with: {study.title}", ("method", *VERSIONS), rows)


def _text(settings: Any, name: str) -> str:
    return _shown(settings[name]) if name in settings else "-"


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return str(value.get("name", value))
    return "-" if value is None else str(value)
