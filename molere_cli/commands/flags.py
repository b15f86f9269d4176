"""The flags that commands share: one for every field of the run's configuration."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import typer
from pydantic.fields import FieldInfo

from molere_cli.commands import completion
from molere_cli.commands.help import HelpAll
from molere_cli.config.run_config import OWNERS, RENAMED, SECTIONS, field_of, flag_name
from molere_cli.config.sections import Section
from molere_cli.foundation.errors import ConfigError

Average = Annotated[
    bool,
    typer.Option("--ema", help="The moving average of the weights, of a run with `train --ema`."),
]
RunsDir = Annotated[Path, typer.Option("--runs", help="Folder of run directories.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but warnings and results.")]
ConfigFile = Annotated[
    Path | None,
    typer.Option("--config", help="TOML or JSON file of settings; flags go over it.", show_default=False),
]


def with_config_flags(
    sections: Collection[type[Section]] = tuple(SECTIONS.values()), *, without: Collection[str] = ()
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command a flag for every setting of some sections; it receives those given as `flags`.

    Args:
        without: settings that the command offers under another name, or not at all.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        fields = [name for name, section in OWNERS.items() if section in sections and name not in without]
        old = [name for name, new in RENAMED.items() if new in fields]

        @functools.wraps(command)
        def wrapped(**values: Any) -> None:
            del values["help_all"]  # its callback has shown it
            given = {name: values.pop(name) for name in (*fields, *old)}
            command(flags=_parsed({k: v for k, v in given.items() if v not in (None, [])}), **values)

        own = inspect.signature(command, eval_str=True).parameters.values()
        parameters = [p for p in own if p.name != "flags"] + [_parameter(name) for name in fields]
        parameters += [_old_parameter(name) for name in old]
        parameters.append(_keyword("help_all", HelpAll, default=False))
        wrapped.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        wrapped.__annotations__ = {p.name: p.annotation for p in parameters}
        return wrapped

    return decorate


def _parameter(name: str) -> inspect.Parameter:
    info = field_of(name)
    is_options = get_origin(info.annotation) is dict
    flag = flag_name(name)
    option = typer.Option(
        # A file or a recipe may say yes.
        f"{flag}/--no-{flag.removeprefix('--')}" if info.annotation is bool else flag,
        help=_help(info, show_default=not is_options),
        rich_help_panel=OWNERS[name].panel,
        metavar="KEY=VALUE" if is_options else None,
        show_default=False,
        autocompletion=completion.OF_SETTINGS.get(name),
    )
    kind: Any = list[str] if is_options else _optional(info.annotation)
    return _keyword(name, Annotated[kind, option], default=None)


def _old_parameter(name: str) -> inspect.Parameter:
    """A flag's old spelling, which helps do not show."""
    kind = _optional(field_of(RENAMED[name]).annotation)
    return _keyword(name, Annotated[kind, typer.Option(flag_name(name), hidden=True)], default=None)


def _keyword(name: str, annotation: Any, *, default: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _help(info: FieldInfo, *, show_default: bool) -> str:
    text = info.description or ""
    if not show_default or info.default is None or isinstance(info.default, bool):
        return f"{text} (default: yes)" if info.default is True else text
    return f"{text} (default: {info.default})"


def _optional(annotation: Any) -> Any:
    if get_origin(annotation) is Literal or type(None) not in get_args(annotation):
        return annotation | None
    return annotation


def _parsed(given: dict[str, Any]) -> dict[str, Any]:
    return {
        name: key_values(name, value) if isinstance(value, list) else value for name, value in given.items()
    }


def key_values(name: str, pairs: list[str]) -> dict[str, str]:
    """`["rho=0.9"]` as `{"rho": "0.9"}`; `name` is the field it was given for."""
    values = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise ConfigError(f"{flag_name(name)} {pair!r} is not of the form KEY=VALUE")
        values[key] = value
    return values
