"""The `molere` command, and the one place that turns a MolereError into a sentence."""

from __future__ import annotations

import sys
import warnings
from typing import Annotated

import typer

from molere_cli import __version__
from molere_cli.commands.compare import compare
from molere_cli.commands.demo import demo
from molere_cli.commands.evaluate import evaluate
from molere_cli.commands.plugins import plugins
from molere_cli.commands.split import split
from molere_cli.commands.train import train
from molere_cli.errors import MolereError
from molere_cli.registry.offers import PluginWarning

app = typer.Typer(
    name="molere",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Find the hard examples of a dataset, and train on them by learned reweighting.",
)
app.command()(train)
app.command()(split)
app.command("eval")(evaluate)
app.command()(compare)
app.command()(plugins)
app.command()(demo)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """Find the hard examples of a dataset, and train on them by learned reweighting."""


def main() -> None:
    """Run the command line; a user's mistake becomes one sentence on stderr and exit code 1."""
    warnings.showwarning = _show_warning
    try:
        app(prog_name="molere")
    except MolereError as error:
        typer.echo(f"molere: {error}", err=True)
        sys.exit(1)


def _show_warning(message: Warning | str, category: type[Warning], *place: object, **_rest: object) -> None:
    prefix = "warning" if category is PluginWarning else category.__name__
    typer.echo(f"{prefix}: {message}", err=True)


if __name__ == "__main__":
    main()
