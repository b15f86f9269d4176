"""A page made of run directories."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from molere_cli.commands import write_text
from molere_cli.report import Comparison, GainKind, compare_runs, find_runs
from molere_report.drawing import check_extra
from molere_report.page_content import build_page
from molere_report.render import render_page


def report(
    paths: Sequence[Path],
    *,
    runs: Path,
    out: Path,
    command: str,
    gain: GainKind = "points",
    test_set: str | None = None,
) -> Comparison:
    """Write the page of the runs in `paths`, or of all under `runs` if there are none, into `out`.

    Args:
        test_set: the one that is looked into; None: `test`, or the first that there is.
        command: what the page says that it was made by.

    Raises:
        ConfigError: what makes pages is not installed.
        RunError: there is no run, a path is none, none is finished, or none was tested on `test_set`.
        WriteError: the system refuses.
    """
    check_extra("a report")
    found = paths or find_runs(runs)
    comparison = compare_runs(found, gain=gain, test_set=None)
    if test_set is not None:
        compare_runs(found, gain=gain, test_set=test_set)  # raises for a set that no run was tested on
    page = build_page(comparison, test_set=test_set or "test", command=command)
    write_text(out, render_page(page))
    return comparison
