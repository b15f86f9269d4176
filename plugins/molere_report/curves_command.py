"""`molere curves`: how the metrics of runs went, in lines of text."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from molere_cli.commands import RunsDir, run_directories, show, show_table, stdout_encoding


def curves(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="RUN",
            help="Run directories, finished or not; default: all under --runs.",
            show_default=False,
            autocompletion=run_directories,
        ),
    ] = None,
    metrics: Annotated[
        str,
        typer.Option(
            "--metrics", help="Names with commas between, as in 'train/*'; a * stands for anything."
        ),
    ] = "train/loss,*/accuracy",
    width: Annotated[int, typer.Option("--width", help="Characters of a curve.", min=2, max=1000)] = 40,
    runs: RunsDir = Path("runs"),
    as_json: Annotated[bool, typer.Option("--json", help="Print epochs and values as JSON.")] = False,
) -> None:
    """Show how metrics went over the epochs, each as a line, with its first, lowest, highest, last value."""
    from molere_cli.commands import json_text
    from molere_cli.report import find_runs
    from molere_report.training_curves import curves_of, line_of

    found = curves_of(paths or find_runs(runs), metrics.split(","))
    if as_json:
        show(json_text([curve.as_json() for curve in found], indent=2))
        return
    encoding = stdout_encoding()
    rows = [
        [
            curve.metric,
            str(curve.run),
            line_of(curve.values, width=width, encoding=encoding),
            *(f"{value:.4g}" for value in (curve.values[0], min(curve.values), max(curve.values))),
            f"{curve.values[-1]:.4g}",
            str(curve.epochs[-1] + 1),
        ]
        for curve in found
    ]
    headings = ["metric", "run", "over the epochs", "first", "lowest", "highest", "last", "epochs"]
    show_table("", headings, rows, num_texts=3)
