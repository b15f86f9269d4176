"""What the page shows of one dataset and backbone: plain records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from molere_report.hard_examples_section import (
    Chart,
    Hard,
    Weights,
)
from molere_report.html_table import Table
from molere_report.subgroups_section import RowSubgroups
from molere_report.suspicion import Suspicion


@dataclass(frozen=True, kw_only=True, eq=False)
class StudyView:
    """All that the page shows of one dataset and backbone."""

    title: str
    test_set: str
    tables: Sequence[tuple[str, Table]]
    gains: Chart | None
    subgroups: Sequence[RowSubgroups]
    hard: Hard | None
    sizes: Chart | None
    weights: Sequence[Weights]
    suspects: Suspicion | None
    findings: Sequence[str]
    classes: Sequence[Table]
    calibration: Chart | None
    curves: Sequence[Chart]
    cost: Table
