"""`molere train`: one run, or one a seed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from molere_cli.commands.flags import ConfigFile, Quiet, RunsDir, with_config_flags
from molere_cli.commands.output import say, show


@with_config_flags()
def train(
    *,
    flags: dict[str, Any],
    config: ConfigFile = None,
    seeds: Annotated[
        str | None, typer.Option("--seeds", help="Several runs in turn: 0-4 or 0,2,7.", show_default=False)
    ] = None,
    resume: Annotated[
        Path | None,
        typer.Option(
            "--resume", help="Go on with this unfinished run, as it was configured.", show_default=False
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Where the run goes; default: under --runs.", show_default=False),
    ] = None,
    runs: RunsDir = Path("runs"),
    as_json: Annotated[bool, typer.Option("--json", help="Print paths and final metrics as JSON.")] = False,
    quiet: Quiet = False,
) -> None:
    """Train by ERM, LRW, MOLERE or another method; `--method erm,lrw,mwn` trains one after the other."""
    from molere_cli.commands.console import progress_display
    from molere_cli.config.from_flags import swept
    from molere_cli.errors import ConfigError
    from molere_cli.files import json_text
    from molere_cli.registry.registry import load_plugins
    from molere_cli.tasks.seeds import parse_seeds, train_seeds
    from molere_cli.tasks.split import MadeSplits
    from molere_cli.tasks.train import resume_run

    registry = load_plugins()
    with progress_display(quiet=quiet) as progress:
        if resume is not None:
            if flags or config or seeds or out:
                raise ConfigError("--resume takes all settings from the run; leave the other flags out")
            finished = [resume_run(resume, registry, progress=progress)]
        else:
            several = swept(config, flags, registry)
            if seeds is not None and "seed" in flags:
                raise ConfigError("--seed and --seeds exclude each other")
            if out is not None and len(several) > 1:
                raise ConfigError("--out names one run, but there are several methods; leave it out")
            finished = []
            made: MadeSplits = {}
            for settings in several:
                numbers = parse_seeds(seeds) if seeds else [settings.machine.seed]
                finished += train_seeds(
                    settings, numbers, registry, runs=runs, out=out, made=made, progress=progress
                )
    if as_json:
        show(json_text([{"path": str(run.path), **run.metrics()[-1]} for run in finished], indent=2))
    else:
        for run in finished:
            say(str(run.path))
