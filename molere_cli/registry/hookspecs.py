"""The hooks a plugin may implement; each gets a `register` callback and calls it once per offer, and that for
commands an app."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pluggy

from molere_cli.registry.specs import (
    BackboneFamily,
    BackboneSpec,
    DatasetSpec,
    MethodSpec,
    ReweighterSpec,
    SplitSpec,
    TrackerSpec,
    TransformSpec,
)

if TYPE_CHECKING:
    import typer

PROJECT_NAME = "molere"

hookspec = pluggy.HookspecMarker(PROJECT_NAME)
hookimpl = pluggy.HookimplMarker(PROJECT_NAME)


@hookspec
def register_backbones(register: Callable[[BackboneSpec | BackboneFamily], None]) -> None:
    """Register backbones, singly or as a family."""


@hookspec
def register_datasets(register: Callable[[DatasetSpec], None]) -> None:
    """Register datasets."""


@hookspec
def register_transforms(register: Callable[[TransformSpec], None]) -> None:
    """Register transforms of datasets."""


@hookspec
def register_splits(register: Callable[[SplitSpec], None]) -> None:
    """Register split strategies."""


@hookspec
def register_reweighters(register: Callable[[ReweighterSpec], None]) -> None:
    """Register reweighters."""


@hookspec
def register_methods(register: Callable[[MethodSpec], None]) -> None:
    """Register methods."""


@hookspec
def register_trackers(register: Callable[[TrackerSpec], None]) -> None:
    """Register trackers."""


@hookspec
def register_commands(app: typer.Typer) -> None:
    """Add commands to `molere`; only the command line calls this."""
