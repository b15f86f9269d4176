"""`molere compare`: runs as a table, with their gain over ERM."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from molere_cli.commands.flags import RunsDir
from molere_cli.commands.output import say, show, stdout_encoding, stdout_width


def compare(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(metavar="RUN", help="Run directories; default: all under --runs.", show_default=False),
    ] = None,
    gain: Annotated[
        Literal["points", "relative", "ratio"],
        typer.Option(
            "--gain", help="Gain over ERM: percentage points, percent of ERM's accuracy, or signed ratio."
        ),
    ] = "points",
    output: Annotated[
        Literal["table", "markdown", "csv", "json"], typer.Option("--format", help="What to print.")
    ] = "table",
    plot: Annotated[
        Path | None,
        typer.Option("--plot", help="Draw the gains into this file (.png, .svg, .pdf).", show_default=False),
    ] = None,
    test_set: Annotated[str, typer.Option("--test-set", help="Test set to compare on.")] = "test",
    runs: RunsDir = Path("runs"),
) -> None:
    """Compare runs with ERM, seed by seed."""
    from molere_cli.report import render
    from molere_cli.tasks.compare import compare as compared

    comparison = compared(paths or (), runs=runs, gain=gain, test_set=test_set, plot=plot)
    for warning in comparison.warnings:
        say(f"warning: {warning}", err=True)
    if plot is not None:
        say(f"wrote {plot}", err=True)
    show(render(comparison, output, width=stdout_width(), encoding=stdout_encoding()))
