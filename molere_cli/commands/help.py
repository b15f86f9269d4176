"""How a command's help is shown: what most people need, by `--help-all` the rest, and two examples."""

from __future__ import annotations

import re
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

COMMON = (
    *("dataset", "method", "split", "strategy", "delta", "backbone", "recipe", "init_from", "epochs"),
    *("batch_size", "lr", "augment", "image_size", "tuning", "select", "seeds", "device", "config", "runs"),
    *("erm", "out", "as_json", "resume", "resume_unfinished", "dry_run", "to", "help", "help_all"),
)
"""What `--help` shows of a command that has a flag for every setting, in this order."""
NOT_OF_RUNS = {"strategy", "out", "as_json"}

EXAMPLES = {
    "train": (
        "molere train --method erm,lrw --seeds 0-4 --epochs 20",
        "molere train --dataset folder:photos --backbone resnet18 --image-size 64 --epochs 5",
    ),
    "split": (
        "molere split --strategy hard --delta 0.1",
        "molere split --strategy auto --dataset colour-digits --out auto.parquet",
    ),
    "eval": ("molere eval", "molere eval runs/digits-erm-s0 --on corrupted:gaussian_noise:3"),
    "compare": ("molere compare runs/*", "molere compare runs/* --format markdown --columns n,accuracy,gain"),
    "predict": (
        "molere predict runs/digits-erm-s0 new",
        "molere predict runs/digits-erm-s0 new --csv found.csv",
    ),
    "plugins": ("molere plugins", "molere plugins backbones --filter 'vit*'"),
    "cache": ("molere cache", "molere cache --clear"),
}
"""Two of every command, as typed."""


def examples(*commands: str) -> str:
    """The end of a command's help (`epilog`): how it is typed, a line each."""
    return "\n\n".join(["Examples:", *(f"  {command}" for command in commands)])


class ShortHelp(TyperCommand):
    """A command whose `--help` leaves out what few people need."""

    shows_all = False
    _in_help = False

    @property
    def is_short(self) -> bool:
        """Whether its help leaves something out."""
        return not self.shows_all and any(parameter.name == "help_all" for parameter in self.params)

    def get_params(self, ctx: Any) -> list[Any]:
        """All of them; while help is made, those that it shows."""
        found = super().get_params(ctx)
        if not self._in_help or not self.is_short:
            return found
        by_name = {parameter.name: parameter for parameter in found}
        names = [name for name in COMMON if not (self.name in ("train", "submit") and name in NOT_OF_RUNS)]
        return [by_name[name] for name in names if name in by_name]

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Print it."""
        self._in_help = True
        shown = self.get_params(ctx)
        before = [(parameter.rich_help_panel, parameter.help) for parameter in shown]
        try:
            if self.is_short:
                for parameter in shown:
                    parameter.rich_help_panel = "Common options"
                    parameter.help = first_sentence(parameter.help or "")
            super().format_help(ctx, formatter)
        finally:
            self._in_help = False
            for parameter, (panel, text) in zip(shown, before, strict=True):
                parameter.rich_help_panel, parameter.help = panel, text


def first_sentence(text: str) -> str:
    """Of a flag's help, with its default."""
    whole, bracket, default = text.partition(" (default: ")
    return re.split(r"[;.] ", whole)[0].rstrip(".") + "." + bracket + default.rstrip(".")


def _show_all(context: typer.Context, wanted: bool) -> None:
    if wanted:
        command: Any = context.command
        command.shows_all = True
        try:
            command.get_help(context)
        finally:
            command.shows_all = False
        raise typer.Exit


HelpAll = Annotated[
    bool,
    typer.Option(
        "--help-all", help="Show every flag.", is_eager=True, callback=_show_all, show_default=False
    ),
]
