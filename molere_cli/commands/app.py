"""The `molere` command, and the one place that turns a MolereError into a sentence."""

from __future__ import annotations

import atexit
import functools
import gc
import os
import traceback
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from molere_cli import __version__
from molere_cli.commands.cache import cache
from molere_cli.commands.compare import compare
from molere_cli.commands.evaluate import evaluate
from molere_cli.commands.help import EXAMPLES, ShortHelp, examples
from molere_cli.commands.output import ready_streams, say, silence, written_out
from molere_cli.commands.plugin_commands import CORE_COMMANDS, plugin_commands
from molere_cli.commands.plugins import plugins
from molere_cli.commands.predict import predict
from molere_cli.commands.split import split
from molere_cli.commands.train import train
from molere_cli.foundation.allocator import keep_freed_memory
from molere_cli.foundation.errors import ConfigError, MolereError, PluginError
from molere_cli.foundation.plain_text import harmless
from molere_cli.foundation.stopping import Ended, signals_heeded
from molere_cli.registry.entries import PluginWarning
from molere_cli.registry.registry import load_plugins

TRAIN = {"train", "split"}
"""Commands that several processes run together; under torchrun the others are the first one's alone."""
UsageError: Any = typer.BadParameter.__base__
"""What Typer raises for wrong usage; it has no name of its own in Typer."""

SUBMIT = "{} is gone: molere submit takes the flags of molere train, and --to print, slurm or local"
GONE = {
    "split --diagnose": "--diagnose is gone: molere split --strategy auto asks the pool what its hard "
    "examples are, says so in a sentence, and chooses by that",
    **{f"train {flag}": SUBMIT.format(flag) for flag in ("--print-commands", "--submit", "--submit-option")},
}
"""What is said of flags that are no more."""


class Root(TyperGroup):
    """The command whose complaints about its arguments show them as harmless text.

    Plugins are asked for commands when one is wanted that is not of the core, or the list of all.
    """

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        return super().get_command(ctx, cmd_name) or self._all_commands().get(cmd_name)

    def list_commands(self, ctx: Any) -> list[str]:
        return list(self._all_commands())

    def _all_commands(self) -> Any:
        if self._without_plugins:
            self._without_plugins = False
            for name, added in plugin_commands(load_plugins()).items():
                self.add_command(added.command, name)
        return self.commands

    _without_plugins = True

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except UsageError as error:
            if gone := GONE.get(f"{ctx.invoked_subcommand} {getattr(error, 'option_name', '')}"):
                raise ConfigError(gone) from error
            error.message = harmless(error.message)
            raise


app = typer.Typer(
    name="molere",
    cls=Root,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Find the hard examples of a dataset, and train on them by learned reweighting.",
)
core_commands: tuple[Callable[..., None], ...] = (
    *(train, split, evaluate, compare, predict, plugins, cache),
)
for name, function in zip(CORE_COMMANDS, core_commands, strict=True):
    app.command(name, cls=ShortHelp, epilog=examples(*EXAMPLES[name]))(function)


def _version(wanted: bool) -> None:
    if wanted:
        say(__version__)
        raise typer.Exit


class Shown:
    """How much of an error is shown."""

    traceback = False


@app.callback()
def root(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", callback=_version, is_eager=True)
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show where an error comes from: molere --debug train ...")
    ] = False,
) -> None:
    """Find the hard examples of a dataset, and train on them by learned reweighting."""
    context.ensure_object(Shown).traceback = debug
    if _is_one_of_several() and context.invoked_subcommand not in TRAIN:
        from molere_cli.training.process_group import leave_to_first

        if leave_to_first():
            raise typer.Exit
    try:
        Path.cwd()  # torch ends the process where there is none
    except OSError as error:
        raise ConfigError(
            f"the working directory cannot be used ({error.strerror}); change to another one"
        ) from error


def main() -> None:
    """Run the command line; a user's mistake becomes one sentence on stderr and exit code 1, and so does a
    signal, with 128 plus its number."""
    ready_streams()
    warnings.showwarning = warning_display()
    # At its end the interpreter would spend a second or two on the search for unused objects among torch's
    # hundreds of thousands, although the system takes all of them back at once.
    atexit.register(gc.freeze)
    keep_freed_memory()
    with written_out():
        if _is_one_of_several():
            _run_with_others()
        else:
            _run(Shown())


def _is_one_of_several() -> bool:
    return "TORCHELASTIC_RUN_ID" in os.environ and os.environ.get("WORLD_SIZE", "1") != "1"


def _run_with_others() -> None:
    """Under torchrun: all processes run the command line, and the first one prints."""
    from molere_cli.training.process_group import in_company

    if os.environ["RANK"] != "0":
        silence()
    with in_company() as ranks:
        _run(Shown(), at_end=ranks.meet)


def _run(shown: Shown, *, at_end: Callable[[], None] = lambda: None) -> None:
    """Run the command line, and tell what has ended it.

    Args:
        at_end: called if all went well.

    Raises:
        SystemExit: always, with the exit code.
    """
    try:
        with signals_heeded():
            _call(shown, at_end)
    except Ended as ended:
        if ended.sentence is not None:
            with suppress(OSError):  # of a terminal that has been closed
                say(f"molere: {ended.sentence}", err=True)
        raise
    except MolereError as error:
        if shown.traceback:
            traceback.print_exception(error)
        of_a_plugin = isinstance(error, PluginError) and error.__cause__ is not None
        hint = " (molere --debug shows where)" if of_a_plugin and not shown.traceback else ""
        say(f"molere: {error}{hint}", err=True)
        raise Ended(1, str(error)) from None


def _call(shown: Shown, at_end: Callable[[], None]) -> None:
    try:
        app(prog_name="molere", obj=shown)
    except SystemExit as end:
        if not end.code:
            at_end()
        raise


def warning_display() -> Callable[..., None]:
    """What shows a warning as one line, once for every text: Python's own count of which have been shown
    starts anew whenever a library changes the filters."""

    @functools.cache
    def echo(line: str) -> None:
        say(line, err=True)

    def show(message: Warning | str, category: type[Warning], *_place: object, **_rest: object) -> None:
        echo(f"{'warning' if category is PluginWarning else category.__name__}: {message}")

    return show
