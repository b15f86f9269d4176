"""`molere train`: one run, or one a seed."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from molere_cli.commands.completion import run_directories, trackers
from molere_cli.commands.flags import ConfigFile, Quiet, RunsDir, with_config_flags
from molere_cli.commands.output import say, show
from molere_cli.config.run_config import field_of
from molere_cli.config.sections import ClassifierSettings
from molere_cli.foundation.progress import Progress
from molere_cli.foundation.stopping import Stopped

if TYPE_CHECKING:
    from molere_cli.api.run_schedule import Outcome, Schedule
    from molere_cli.config.run_config import RunConfig

OF_A_RESUME = {"epochs", "checkpoint_every"}


@with_config_flags(without=("lr",))
def train(
    *,
    flags: dict[str, Any],
    config: ConfigFile = None,
    lr: Annotated[
        str | None,
        typer.Option(
            "--lr",
            help=(
                f"{field_of('lr').description} Of several, 0.01,0.03,0.1, --select best keeps the one that "
                f"the tuning set chooses. (default: {field_of('lr').default})"
            ),
            rich_help_panel=ClassifierSettings.panel,
            show_default=False,
        ),
    ] = None,
    seeds: Annotated[
        str | None, typer.Option("--seeds", help="Several runs in turn: 0-4 or 0,2,7.", show_default=False)
    ] = None,
    resume: Annotated[
        Path | None,
        typer.Option(
            "--resume",
            help="Go on with this unfinished run, as configured; with more --epochs, also a finished one.",
            show_default=False,
            autocompletion=run_directories,
        ),
    ] = None,
    resume_unfinished: Annotated[
        bool,
        typer.Option(
            "--resume-unfinished",
            help="Skip runs that are finished with these settings, and go on with those that are not.",
        ),
    ] = False,
    recipe: Annotated[
        Literal["auto", "scratch", "finetune", "probe"] | None,
        typer.Option(
            "--recipe",
            help=(
                "Settings for scratch, finetune or probe, below file and flags; probe trains the "
                "classification layer alone; auto: by whether there are pretrained weights. (default: auto)"
            ),
            metavar="NAME",
            show_default=False,
        ),
    ] = None,
    print_config: Annotated[
        bool,
        typer.Option("--print-config", help="Print the settings as TOML, for --config, and train nothing."),
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Say what would be trained, in how many steps, and from a few timed ones how long it takes.",
        ),
    ] = False,
    print_commands: Annotated[
        bool,
        typer.Option("--print-commands", help="Print a command for each method and seed, and train nothing."),
    ] = False,
    submit: Annotated[
        Literal["slurm", "local"] | None,
        typer.Option(
            "--submit",
            help="Hand these commands to Slurm (by submitit), or start them here, all at once; end at once.",
            show_default=False,
        ),
    ] = None,
    submit_option: Annotated[
        list[str] | None,
        typer.Option(
            "--submit-option",
            metavar="KEY=VALUE",
            help="Parameter of submitit, as in slurm_partition=gpu or timeout_min=600.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Where the run goes; default: under --runs.", show_default=False),
    ] = None,
    runs: RunsDir = Path("runs"),
    track: Annotated[
        str | None,
        typer.Option(
            "--track",
            help="Show the metrics by this tracker as they come.",
            show_default=False,
            autocompletion=trackers,
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print paths and final metrics as JSON.")] = False,
    quiet: Quiet = False,
) -> None:
    """Train by ERM, LRW, MOLERE or another method; `--method erm,lrw,mwn` trains one after the other."""
    from molere_cli.api.live_tracking import OUT, Tracked
    from molere_cli.api.run_schedule import Outcome, make_schedule, parse_rates, parse_seeds, run_schedule
    from molere_cli.commands.console import progress_display
    from molere_cli.config.from_flags import swept
    from molere_cli.config.paths import with_absolute_paths
    from molere_cli.foundation.errors import ConfigError
    from molere_cli.registry.registry import load_plugins
    from molere_cli.training.process_group import is_started_again, joined_ranks
    from molere_cli.training.resume_run import resume_run
    from molere_cli.training.told_to_all import same_configs

    rates = parse_rates(lr) if lr is not None else []
    if len(rates) == 1:
        flags["lr"], rates = rates[0], []
    registry, ranks = load_plugins(), joined_ranks()
    with progress_display(quiet=quiet) as display:
        progress: Progress = display
        if track is not None and ranks.is_first:
            progress = Tracked(display, registry.trackers.get(track), out=OUT)
        if resume is not None:
            others = (config, seeds, out, resume_unfinished, recipe, rates, submit, submit_option)
            if flags.keys() - OF_A_RESUME or any((*others, print_config, print_commands, dry_run)):
                raise ConfigError(
                    "--resume takes all settings from the run but --epochs and --checkpoint-every; leave "
                    "the other flags out"
                )
            outcome = Outcome([resume_run(resume, registry, **flags, progress=progress)])
        else:
            if seeds is not None and "seed" in flags:
                raise ConfigError("--seed and --seeds exclude each other")
            if submit_option and submit is None:
                raise ConfigError("--submit-option goes with --submit")

            def configs() -> list[RunConfig]:
                found = swept(config, flags, registry, recipe=recipe or "auto", note=progress.note)
                return [with_absolute_paths(one, registry) for one in found]

            schedule = make_schedule(
                same_configs(ranks, configs),
                registry,
                seeds=parse_seeds(seeds) if seeds else None,
                rates=rates,
                runs=runs,
                out=out,
            )
            if (print_config or print_commands or submit is not None or dry_run) and not ranks.is_first:
                return
            if print_config:
                show(schedule_as_toml(schedule, lr=lr if rates else None, seeds=seeds))
                return
            if print_commands or submit is not None:
                hand_out(schedule, track=track, to=submit, options=submit_option)
                return
            if dry_run:
                from molere_cli.api.cost_estimate import estimates
                from molere_cli.commands.estimate_table import show_estimates

                show_estimates(estimates(schedule), as_json=as_json)
                return
            # A process had died: what it had written is gone on with.
            resume_unfinished = resume_unfinished or is_started_again()
            with also_by_the_same_command(resume_unfinished):
                outcome = run_schedule(schedule, resume_unfinished=resume_unfinished, progress=progress)
    if ranks.is_first:
        _show(outcome, as_json=as_json, quiet=quiet)
    outcome.check()


def _show(outcome: Outcome, *, as_json: bool, quiet: bool) -> None:
    if as_json:
        from molere_cli.foundation.files import json_text

        rows = [{"path": str(run.path), **run.metrics()[-1]} for run in outcome.finished]
        show(json_text(rows, indent=2))
        return
    if not quiet and (hint := next_step([run.path for run in outcome.finished])):
        say(hint, err=True)
    for run in outcome.finished:
        say(str(run.path))


def schedule_as_toml(schedule: Schedule, *, lr: str | None, seeds: str | None) -> str:
    """The settings in effect of a schedule's method, for `--config`; rates and seeds stay flags, since a file
    holds one of each.

    Raises:
        ConfigError: there are several methods.
    """
    from molere_cli.config.as_toml import settings_as_toml
    from molere_cli.foundation.errors import ConfigError

    if len(schedule.searches) > 1:
        raise ConfigError("--print-config shows the settings of one method; give --method one")
    given = {"lr": lr, "seeds": seeds}
    flags = " ".join(f"--{name} {value}" for name, value in given.items() if value is not None)
    without = [name for name, value in (("lr", lr), ("seed", seeds)) if value is not None]
    text = settings_as_toml(schedule.jobs[0].plan.settings, without=without)
    head = f"# {len(schedule.jobs)} runs: molere train --config FILE {flags}\n" if flags else ""
    return head + text


def hand_out(
    schedule: Schedule,
    *,
    track: str | None,
    to: Literal["slurm", "local"] | None,
    options: list[str] | None,
) -> None:
    """A command for each method and seed: printed, or submitted."""
    from molere_cli.api.cluster_jobs import independent_commands, submit
    from molere_cli.commands.flags import key_values

    commands = independent_commands(schedule)
    if track is not None:
        commands = [[*command, "--track", track] for command in commands]
    if to is None:
        for command in commands:
            say(shlex.join(["molere", *command]))
        return
    folder = schedule.runs / ".jobs"
    jobs = submit(commands, to, folder, options=key_values("submit_option", options or []))
    for job in jobs:
        say(str(job.job_id))
    say(
        f"{len(jobs)} jobs, with their logs in {folder}; `molere compare --runs "
        f"{shlex.quote(str(schedule.runs))}` shows what is finished",
        err=True,
    )


def next_step(finished: Sequence[Path]) -> str | None:
    """What to type next, in a line: a comparison, once there is something beside these runs or among them."""
    from molere_cli.runs.find_runs import finished_runs

    if not finished:
        return None
    folder = finished[-1].parent
    if len(finished_runs(folder)) > 1:
        return f"next: molere compare {shlex.quote(str(folder))}/*"
    return f"next: molere hardest {shlex.quote(str(finished[-1]))}"


@contextmanager
def also_by_the_same_command(resume_unfinished: bool) -> Iterator[None]:
    """A run that a signal stops may have been one of several, or on the way: say what goes on with all."""
    try:
        yield
    except Stopped as stopped:
        if stopped.sentence is None:
            raise
        flag = "" if resume_unfinished else " with --resume-unfinished"
        sentence = f"{stopped.sentence}; the same command{flag} goes on with all of it"
        raise Stopped(stopped.number, sentence) from None
