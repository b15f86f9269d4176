"""`molere report`: runs as a page that can be passed on."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from molere_cli.commands import RunsDir, run_directories, say, show


def report(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="RUN",
            help="Run directories; default: all under --runs.",
            show_default=False,
            autocompletion=run_directories,
        ),
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="The page; it is overwritten.")] = Path(
        "report.html"
    ),
    gain: Annotated[
        Literal["points", "relative", "ratio"],
        typer.Option(
            "--gain", help="Gain over ERM: percentage points, percent of ERM's accuracy, or signed ratio."
        ),
    ] = "points",
    test_set: Annotated[
        str | None,
        typer.Option("--test-set", help="Test set that is looked into.", show_default="test"),
    ] = None,
    runs: RunsDir = Path("runs"),
) -> None:
    """Write a page: did it help, for whom, at what cost, and on which images?"""
    from molere_report.report_page import report as written

    command = shlex.join(["molere", *sys.argv[1:]])
    comparison = written(paths or (), runs=runs, out=out, gain=gain, test_set=test_set, command=command)
    for warning in comparison.warnings:
        say(f"warning: {warning}", err=True)
    show(str(out))
