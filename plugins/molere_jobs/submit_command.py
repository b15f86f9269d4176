"""`molere submit`: a job for each method and seed."""

from __future__ import annotations

import shlex
from typing import Annotated, Literal

import typer

from molere_cli import ConfigError
from molere_cli.commands import Quiet, RunFlags, key_values, say, with_run_flags


@with_run_flags
def submit(
    *,
    asked: RunFlags,
    to: Annotated[
        Literal["print", "slurm", "local"],
        typer.Option(
            "--to",
            help="Print the commands, hand them to Slurm (by submitit), or start them here, all at once.",
        ),
    ] = "print",
    submit_option: Annotated[
        list[str] | None,
        typer.Option(
            "--submit-option",
            metavar="KEY=VALUE",
            help="Parameter of submitit, as in slurm_partition=gpu or timeout_min=600.",
            show_default=False,
        ),
    ] = None,
    track: Annotated[
        str | None,
        typer.Option("--track", help="As of `molere train`, for every job.", show_default=False),
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Make a command of `molere train` for each method and seed: print them, or submit them and end."""
    from molere_cli.commands import Notes, load_plugins
    from molere_jobs.cluster_jobs import independent_commands
    from molere_jobs.cluster_jobs import submit as submitted

    if submit_option and to == "print":
        raise ConfigError("--submit-option goes with --to slurm or --to local")
    registry = load_plugins()
    if track is not None:
        registry.trackers.get(track)  # or there is none of that name
    schedule = asked.schedule(registry, note=Notes().note)
    commands = independent_commands(schedule)
    if track is not None:
        commands = [[*command, "--track", track] for command in commands]
    if to == "print":
        for command in commands:
            say(shlex.join(["molere", *command]))
        return
    folder = schedule.runs / ".jobs"
    jobs = submitted(commands, to, folder, options=key_values("submit_option", submit_option or []))
    for job in jobs:
        say(str(job.job_id))
    if not quiet:
        compare = f"molere compare --runs {shlex.quote(str(schedule.runs))}"
        say(f"{len(jobs)} jobs, with their logs in {folder}; `{compare}` shows what is finished", err=True)
