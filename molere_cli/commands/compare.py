"""`molere compare`: runs as a table, with their gain over ERM."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from molere_cli.commands.completion import run_directories
from molere_cli.commands.flags import RunsDir
from molere_cli.commands.output import say, show, stdout_encoding, stdout_width
from molere_cli.foundation.errors import ConfigError


def compare(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="RUN",
            help="Run directories; default: all under --runs.",
            show_default=False,
            autocompletion=run_directories,
        ),
    ] = None,
    gain: Annotated[
        Literal["points", "relative", "ratio"],
        typer.Option(
            "--gain", help="Gain over ERM: percentage points, percent of ERM's accuracy, or signed ratio."
        ),
    ] = "points",
    output: Annotated[
        Literal["table", "markdown", "csv", "json", "latex"],
        typer.Option("--format", help="What to print; csv and json hold all numbers, whatever the columns."),
    ] = "table",
    columns: Annotated[
        str | None,
        typer.Option(
            "--columns",
            help="Columns of a table, as in accuracy,gain,verdict,p,nll,nll_gain,ess.",
            show_default="by what there is",
        ),
    ] = None,
    by: Annotated[
        Literal["test-set"] | None,
        typer.Option("--by", help="A table for every test set in place of one.", show_default=False),
    ] = None,
    test_set: Annotated[
        str | None, typer.Option("--test-set", help="Test set to compare on.", show_default="test")
    ] = None,
    runs: RunsDir = Path("runs"),
) -> None:
    """Compare runs with ERM, seed by seed."""
    from molere_cli.config.paths import comma_separated
    from molere_cli.report import compare_runs, find_runs, render
    from molere_cli.report.columns import OF_EXAMPLES

    if by is not None and test_set is not None:
        raise ConfigError("--by test-set compares on every test set; leave --test-set out")
    chosen = None if by is not None else test_set or "test"
    names = None if columns is None else comma_separated(columns)
    with_examples = not OF_EXAMPLES.isdisjoint(names or ())
    comparison = compare_runs(
        paths or find_runs(runs), gain=gain, test_set=chosen, with_examples=with_examples
    )
    text = render(comparison, output, columns=names, width=stdout_width(), encoding=stdout_encoding())
    for warning in comparison.warnings:
        say(f"warning: {warning}", err=True)
    show(text)
