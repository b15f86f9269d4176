"""Comparing runs with ERM: which runs, and the numbers of each row."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from molere_cli.report.charts import gains_chart
from molere_cli.report.comparison import Comparison, compare_runs
from molere_cli.report.drawing import check_chart_path, write_chart
from molere_cli.report.records import find_runs
from molere_cli.report.statistics import GainKind


def compare(
    paths: Sequence[Path],
    *,
    runs: Path,
    gain: GainKind = "points",
    test_set: str | None = "test",
    with_examples: bool = False,
    plot: Path | None = None,
) -> Comparison:
    """Compare the runs in `paths`, or all under `runs` if there are none, and draw the gains into `plot`.

    Args:
        test_set: the one to compare on; None: on each.
        with_examples: whether to read every run's predictions, which some columns need.

    Raises:
        RunError: there is no run, a path is none, none is finished, or none was tested on `test_set`.
        ConfigError: the ending of `plot` is no image format, or what draws charts is not installed.
    """
    if plot is not None:
        check_chart_path(plot)
    comparison = compare_runs(
        paths or find_runs(runs), gain=gain, test_set=test_set, with_examples=with_examples
    )
    if plot is not None:
        write_chart(gains_chart(comparison), plot)
    return comparison
