"""MOLERE: train on hard samples by learned reweighting.

This is what a plugin author imports. Nothing here imports torch; the few names that need it are
loaded on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from molere_cli.errors import DataError, MolereError, SplitError, TrainingError
from molere_cli.hookspecs import hookimpl
from molere_cli.protocols import (
    BackboneFamily,
    BackboneRequest,
    BackboneSpec,
    Dataset,
    DatasetRequest,
    DatasetSpec,
    Examples,
    ImageReader,
    MethodSpec,
    Options,
    ReweighterInput,
    ReweighterRequest,
    ReweighterSpec,
    SplitRequest,
    SplitSpec,
)

if TYPE_CHECKING:
    from molere_cli.data.holdout import split_off, stratified_holdout
    from molere_cli.engine.hypergradient import alignment
    from molere_cli.engine.methods import Method, Step, TrainingContext
    from molere_cli.splits.quota import select_by_quota

__version__ = "0.1.0"

_LAZY = {
    "Method": "molere_cli.engine.methods",
    "Step": "molere_cli.engine.methods",
    "TrainingContext": "molere_cli.engine.methods",
    "alignment": "molere_cli.engine.hypergradient",
    "select_by_quota": "molere_cli.splits.quota",
    "split_off": "molere_cli.data.holdout",
    "stratified_holdout": "molere_cli.data.holdout",
}

__all__ = [
    "BackboneFamily",
    "BackboneRequest",
    "BackboneSpec",
    "DataError",
    "Dataset",
    "DatasetRequest",
    "DatasetSpec",
    "Examples",
    "ImageReader",
    "Method",
    "MethodSpec",
    "MolereError",
    "Options",
    "ReweighterInput",
    "ReweighterRequest",
    "ReweighterSpec",
    "SplitError",
    "SplitRequest",
    "SplitSpec",
    "Step",
    "TrainingContext",
    "TrainingError",
    "__version__",
    "alignment",
    "hookimpl",
    "select_by_quota",
    "split_off",
    "stratified_holdout",
]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_LAZY[name]), name)
