"""`molere train`: one run, or one a seed."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from molere_cli.commands.completion import run_directories, trackers
from molere_cli.commands.flags import Quiet
from molere_cli.commands.output import say, show
from molere_cli.commands.run_flags import RunFlags, with_run_flags
from molere_cli.foundation.errors import ConfigError
from molere_cli.foundation.progress import Progress
from molere_cli.foundation.stopping import Stopped

if TYPE_CHECKING:
    from molere_cli.api.run_schedule import Outcome, Schedule

OF_A_RESUME = {"epochs", "checkpoint_every"}


@with_run_flags
def train(
    *,
    asked: RunFlags,
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
    from molere_cli.api.run_schedule import Outcome, run_schedule
    from molere_cli.commands.console import progress_display
    from molere_cli.registry.registry import load_plugins
    from molere_cli.training.process_group import is_started_again, joined_ranks
    from molere_cli.training.resume_run import resume_run

    registry, ranks = load_plugins(), joined_ranks()
    with progress_display(quiet=quiet) as display:
        progress: Progress = display
        if track is not None and ranks.is_first:
            progress = Tracked(display, registry.trackers.get(track), out=OUT)
        if resume is not None:
            others = (asked.config, asked.lr, asked.seeds, asked.out, asked.recipe)
            if asked.flags.keys() - OF_A_RESUME or any((*others, resume_unfinished, print_config, dry_run)):
                raise ConfigError(
                    "--resume takes all settings from the run but --epochs and --checkpoint-every; leave "
                    "the other flags out"
                )
            outcome = Outcome([resume_run(resume, registry, **asked.flags, progress=progress)])
        else:
            schedule = asked.schedule(registry, note=progress.note)
            if (print_config or dry_run) and not ranks.is_first:
                return
            if print_config:
                show(schedule_as_toml(schedule, lr=asked.lr, seeds=asked.seeds))
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

    if len(schedule.searches) > 1:
        raise ConfigError("--print-config shows the settings of one method; give --method one")
    (search,) = schedule.searches
    lr = lr if search.has_several_rates else None
    given = {"lr": lr, "seeds": seeds}
    flags = " ".join(f"--{name} {value}" for name, value in given.items() if value is not None)
    without = [name for name, value in (("lr", lr), ("seed", seeds)) if value is not None]
    text = settings_as_toml(schedule.jobs[0].plan.settings, without=without)
    head = f"# {len(schedule.jobs)} runs: molere train --config FILE {flags}\n" if flags else ""
    return head + text


def next_step(finished: Sequence[Path]) -> str | None:
    """What to type next, in a line: a comparison, once there is something beside these runs or among them."""
    from molere_cli.commands.plugin_commands import plugin_commands
    from molere_cli.registry.registry import load_plugins
    from molere_cli.runs.find_runs import finished_runs

    if not finished:
        return None
    folder = finished[-1].parent
    if len(finished_runs(folder)) > 1:
        return f"next: molere compare {shlex.quote(str(folder))}/*"
    if "hardest" not in plugin_commands(load_plugins()):
        return None
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
