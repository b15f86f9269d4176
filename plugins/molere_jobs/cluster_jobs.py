"""Many runs as commands of their own, for a scheduler or for this machine.

Each is one method with one seed, and goes on where it stopped if it is typed, or started, again.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from molere_cli import ConfigError
from molere_cli.commands import Schedule
from molere_jobs.as_flags import settings_as_flags

Cluster = Literal["slurm", "local"]


def independent_commands(schedule: Schedule) -> list[list[str]]:
    """One for each job, as arguments of `molere`; paths are absolute, so that they mean the same wherever
    they run.

    The ERM runs come first, since hardness scores are taken from them; a command that needs one that is not
    there yet waits for it, or trains it.

    Raises:
        ConfigError: the run has a path of its own, or the tuning set chooses among learning rates.
    """
    if any(job.out for job in schedule.jobs) or any(each.has_several_rates for each in schedule.searches):
        raise ConfigError(
            "molere submit makes a run of each method and seed; leave --out out, and give one --lr"
        )
    commands = []
    for job in sorted(schedule.jobs, key=lambda job: job.plan.config.method.method != "erm"):
        where = ["--runs", str(job.runs.absolute()), "--resume-unfinished", "--quiet"]
        # Its recipe is among its settings.
        commands.append(["train", *settings_as_flags(job.given.given), "--recipe", "scratch", *where])
    return commands


class Job:
    """A command as submitit runs it. One whose time is up, or that makes room for another, writes a
    checkpoint and is queued again."""

    def __init__(self, arguments: Sequence[str]) -> None:
        self._arguments = list(arguments)
        self._process: subprocess.Popen[bytes] | None = None

    def __call__(self) -> None:
        """Run it.

        Raises:
            RuntimeError: it has failed; submitit's log has its words.
        """
        command = [sys.executable, "-m", "molere_cli", *self._arguments]
        self._process = subprocess.Popen(command)  # noqa: S603 - a list, of our own making
        if code := self._process.wait():
            raise RuntimeError(f"`molere {self._arguments[0]}` ended with exit code {code}")

    def checkpoint(self) -> Any:
        """What is queued in its place."""
        import submitit

        if self._process is not None:
            os.kill(self._process.pid, signal.SIGTERM)
            # Not by its own `wait`, in the middle of which the signal has come.
            with suppress(ChildProcessError):
                os.waitpid(self._process.pid, 0)
        return submitit.helpers.DelayedSubmission(Job(self._arguments))


def submit(
    commands: Sequence[Sequence[str]], cluster: Cluster, folder: Path, *, options: dict[str, str]
) -> list[Any]:
    """Hand the commands over, one job each; submitit's jobs, whose logs lie in `folder`.

    Args:
        options: submitit's own parameters, as in `slurm_partition=gpu`; numbers as such.

    Raises:
        ConfigError: submitit is not installed, there is no Slurm, or an option is wrong.
    """
    if find_spec("submitit") is None:
        raise ConfigError(
            f"molere submit needs submitit for --to {cluster}; install it with `pip install 'molere[slurm]'`"
        )
    import submitit

    try:
        executor = submitit.AutoExecutor(folder=folder, cluster=cluster)
        executor.update_parameters(name="molere", **{k: _number(v) for k, v in options.items()})
        return [executor.submit(Job(arguments)) for arguments in commands]
    except (RuntimeError, NameError, ValueError, submitit.core.utils.FailedJobError) as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ConfigError(f"--to {cluster}: {first}") from error


def _number(text: str) -> int | str:
    return int(text) if text.isdecimal() else text
