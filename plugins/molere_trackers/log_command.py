"""`molere log`: the metrics of runs, shown by a tracker."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from molere_cli.commands import RunsDir, run_directories, say


def log(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="RUN",
            help="Run directories; default: all under --runs.",
            show_default=False,
            autocompletion=run_directories,
        ),
    ] = None,
    to: Annotated[str, typer.Option("--to", help="Tracker; `molere plugins trackers` lists them.")] = (
        "tensorboard"
    ),
    out: Annotated[Path, typer.Option("--out", help="Folder for trackers that write files.")] = Path(
        "tracked"
    ),
    runs: RunsDir = Path("runs"),
) -> None:
    """Show what runs have recorded by a tracker, whenever that is wanted."""
    from molere_cli.commands import load_plugins
    from molere_cli.report import find_runs
    from molere_trackers.replay import replay

    shown = replay(paths or find_runs(runs), to, load_plugins(), out=out)
    say(f"{len(shown)} runs shown by {to}" + (f" in {out}" if out.exists() else ""))
