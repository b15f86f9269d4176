"""The flags that say which runs are meant, for `molere train` and for commands that hand runs out."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from molere_cli.commands.flags import ConfigFile, RunsDir, with_config_flags
from molere_cli.config.run_config import field_of
from molere_cli.config.sections import ClassifierSettings
from molere_cli.foundation.errors import ConfigError

if TYPE_CHECKING:
    from molere_cli.api.run_schedule import Schedule
    from molere_cli.config.run_config import RunConfig
    from molere_cli.registry.registry import Registry


@dataclass(frozen=True, kw_only=True)
class RunFlags:
    """What was given of them; `flags` are the settings, by name."""

    flags: dict[str, Any]
    config: ConfigFile = None
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
    ] = None
    seeds: Annotated[
        str | None, typer.Option("--seeds", help="Several runs in turn: 0-4 or 0,2,7.", show_default=False)
    ] = None
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
    ] = None
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Where the run goes; default: under --runs.", show_default=False),
    ] = None
    runs: RunsDir = Path("runs")

    def schedule(self, registry: Registry, *, note: Callable[[str], None]) -> Schedule:
        """The runs, planned.

        Args:
            note: told in one sentence which flags were skipped for which method.

        Raises:
            MolereError: a flag is wrong, or does not go with another one.
        """
        from molere_cli.api.run_schedule import make_schedule, parse_rates, parse_seeds
        from molere_cli.config.from_flags import swept
        from molere_cli.config.paths import with_absolute_paths
        from molere_cli.training.process_group import joined_ranks
        from molere_cli.training.told_to_all import same_configs

        rates = parse_rates(self.lr) if self.lr is not None else []
        flags = self.flags if len(rates) != 1 else {**self.flags, "lr": rates.pop()}
        if self.seeds is not None and "seed" in flags:
            raise ConfigError("--seed and --seeds exclude each other")

        def configs() -> list[RunConfig]:
            found = swept(self.config, flags, registry, recipe=self.recipe or "auto", note=note)
            return [with_absolute_paths(config, registry) for config in found]

        return make_schedule(
            same_configs(joined_ranks(), configs),
            registry,
            seeds=parse_seeds(self.seeds) if self.seeds else None,
            rates=rates,
            runs=self.runs,
            out=self.out,
        )


def with_run_flags(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command these flags and one for every setting; it receives them as `asked`."""
    fields = inspect.signature(RunFlags, eval_str=True).parameters
    own = inspect.signature(command, eval_str=True).parameters

    @functools.wraps(command)
    def wrapped(**values: Any) -> None:
        asked = RunFlags(**{name: values.pop(name) for name in fields})
        command(asked=asked, **values)

    every = [*fields.values(), *(each for name, each in own.items() if name != "asked")]
    wrapped.__signature__ = inspect.Signature(every)  # type: ignore[attr-defined]
    return with_config_flags(without=("lr",))(wrapped)
