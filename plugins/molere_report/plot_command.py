"""`molere plot`: the gains of runs over ERM as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from molere_cli.commands import RunsDir, run_directories, say, show


def plot(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="RUN",
            help="Run directories; default: all under --runs.",
            show_default=False,
            autocompletion=run_directories,
        ),
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="The picture: .png, .svg or .pdf.")] = Path(
        "gains.png"
    ),
    gain: Annotated[
        Literal["points", "relative", "ratio"],
        typer.Option(
            "--gain", help="Gain over ERM: percentage points, percent of ERM's accuracy, or signed ratio."
        ),
    ] = "points",
    test_set: Annotated[str, typer.Option("--test-set", help="Test set to compare on.")] = "test",
    runs: RunsDir = Path("runs"),
) -> None:
    """Draw the gains over ERM with their intervals."""
    from molere_cli.report import compare_runs, find_runs
    from molere_report.charts import gains_chart
    from molere_report.drawing import check_chart_path, write_chart

    check_chart_path(out)
    comparison = compare_runs(paths or find_runs(runs), gain=gain, test_set=test_set)
    for warning in comparison.warnings:
        say(f"warning: {warning}", err=True)
    write_chart(gains_chart(comparison), out)
    show(str(out))
