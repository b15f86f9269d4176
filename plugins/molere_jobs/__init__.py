"""Many runs as jobs of their own, printed as commands or handed to a scheduler: the command `submit`."""

from __future__ import annotations

import typer

from molere_cli import hookimpl
from molere_cli.commands import ShortHelp, examples


@hookimpl
def register_commands(app: typer.Typer) -> None:
    from molere_jobs.submit_command import submit

    first = "molere submit --method erm,lrw --seeds 0-9"
    app.command(cls=ShortHelp, epilog=examples(first, f"{first} --to slurm"))(submit)
