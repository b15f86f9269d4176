"""MOLERE: train on hard samples by learned reweighting.

The commands as functions (`import molere_cli as molere`): `dataset`, `rank`, `train`, `compare`, `open_runs`.
The rest is what a plugin author imports. Nothing here imports torch; names that need it are loaded on first
use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from molere_cli.foundation.errors import (
    ConfigError,
    DataError,
    MolereError,
    PluginError,
    RunError,
    SplitError,
    TrainingError,
    shown,
)
from molere_cli.registry.hookspecs import hookimpl
from molere_cli.registry.specs import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    BackboneFamily,
    BackboneRequest,
    BackboneSpec,
    Dataset,
    DatasetCard,
    DatasetRequest,
    DatasetSpec,
    Examples,
    ImageReader,
    MethodSpec,
    Options,
    PretrainedInput,
    ReweighterInput,
    ReweighterRequest,
    ReweighterSpec,
    Selection,
    SplitRequest,
    SplitSpec,
    Tracker,
    TrackerRequest,
    TrackerSpec,
    TransformRequest,
    TransformSpec,
)

if TYPE_CHECKING:
    from molere_cli.api.comparing import compare
    from molere_cli.api.data import dataset
    from molere_cli.api.ranking import rank
    from molere_cli.api.runs import open_runs, train
    from molere_cli.data.csv_rows import CsvRow, csv_rows
    from molere_cli.data.feed import Batch, epoch_batches
    from molere_cli.data.folder_reader import FolderReader
    from molere_cli.data.holdout import split_off, stratified_holdout, subset
    from molere_cli.data.image_files import (
        inspect_picture,
        is_picture,
        picture_endings,
        picture_size,
        read_picture,
    )
    from molere_cli.data.names import ordered_names, plain_name
    from molere_cli.data.walk import Walk
    from molere_cli.data.wrapped_reader import WrappedReader
    from molere_cli.engine.hypergradient import alignment, hypergradient
    from molere_cli.engine.layers import classification_layer
    from molere_cli.engine.method import (
        Method,
        TrainingContext,
        num_steps,
        positions_of,
        stacked,
        training_positions,
    )
    from molere_cli.engine.prediction import predict_batches, predict_feed
    from molere_cli.engine.prediction_metrics import probabilistic_margin
    from molere_cli.engine.random_state import isolated_randomness
    from molere_cli.engine.step import Step
    from molere_cli.engine.validation_batches import ValidationBatches
    from molere_cli.foundation.randomness import derived_generator, derived_seed
    from molere_cli.methods.auxiliary import erm_epochs
    from molere_cli.methods.splitter import balance_loss, gap_loss, ratio_loss
    from molere_cli.splits.quota import select_by_quota

__version__ = "0.1.0"

_LAZY = {
    "train": "molere_cli.api.runs",
    "rank": "molere_cli.api.ranking",
    "open_runs": "molere_cli.api.runs",
    "dataset": "molere_cli.api.data",
    "compare": "molere_cli.api.comparing",
    "Batch": "molere_cli.data.feed",
    "CsvRow": "molere_cli.data.csv_rows",
    "FolderReader": "molere_cli.data.folder_reader",
    "Method": "molere_cli.engine.method",
    "Step": "molere_cli.engine.step",
    "TrainingContext": "molere_cli.engine.method",
    "ValidationBatches": "molere_cli.engine.validation_batches",
    "Walk": "molere_cli.data.walk",
    "WrappedReader": "molere_cli.data.wrapped_reader",
    "alignment": "molere_cli.engine.hypergradient",
    "balance_loss": "molere_cli.methods.splitter",
    "classification_layer": "molere_cli.engine.layers",
    "csv_rows": "molere_cli.data.csv_rows",
    "derived_generator": "molere_cli.foundation.randomness",
    "derived_seed": "molere_cli.foundation.randomness",
    "epoch_batches": "molere_cli.data.feed",
    "erm_epochs": "molere_cli.methods.auxiliary",
    "gap_loss": "molere_cli.methods.splitter",
    "hypergradient": "molere_cli.engine.hypergradient",
    "inspect_picture": "molere_cli.data.image_files",
    "is_picture": "molere_cli.data.image_files",
    "isolated_randomness": "molere_cli.engine.random_state",
    "num_steps": "molere_cli.engine.method",
    "ordered_names": "molere_cli.data.names",
    "picture_endings": "molere_cli.data.image_files",
    "picture_size": "molere_cli.data.image_files",
    "plain_name": "molere_cli.data.names",
    "positions_of": "molere_cli.engine.method",
    "predict_batches": "molere_cli.engine.prediction",
    "predict_feed": "molere_cli.engine.prediction",
    "probabilistic_margin": "molere_cli.engine.prediction_metrics",
    "ratio_loss": "molere_cli.methods.splitter",
    "read_picture": "molere_cli.data.image_files",
    "select_by_quota": "molere_cli.splits.quota",
    "split_off": "molere_cli.data.holdout",
    "stacked": "molere_cli.engine.method",
    "stratified_holdout": "molere_cli.data.holdout",
    "subset": "molere_cli.data.holdout",
    "training_positions": "molere_cli.engine.method",
}

__all__ = [
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "BackboneFamily",
    "BackboneRequest",
    "BackboneSpec",
    "Batch",
    "ConfigError",
    "CsvRow",
    "DataError",
    "Dataset",
    "DatasetCard",
    "DatasetRequest",
    "DatasetSpec",
    "Examples",
    "FolderReader",
    "ImageReader",
    "Method",
    "MethodSpec",
    "MolereError",
    "Options",
    "PluginError",
    "PretrainedInput",
    "ReweighterInput",
    "ReweighterRequest",
    "ReweighterSpec",
    "RunError",
    "Selection",
    "SplitError",
    "SplitRequest",
    "SplitSpec",
    "Step",
    "Tracker",
    "TrackerRequest",
    "TrackerSpec",
    "TrainingContext",
    "TrainingError",
    "TransformRequest",
    "TransformSpec",
    "ValidationBatches",
    "Walk",
    "WrappedReader",
    "__version__",
    "alignment",
    "balance_loss",
    "classification_layer",
    "compare",
    "csv_rows",
    "dataset",
    "derived_generator",
    "derived_seed",
    "epoch_batches",
    "erm_epochs",
    "gap_loss",
    "hookimpl",
    "hypergradient",
    "inspect_picture",
    "is_picture",
    "isolated_randomness",
    "num_steps",
    "open_runs",
    "ordered_names",
    "picture_endings",
    "picture_size",
    "plain_name",
    "positions_of",
    "predict_batches",
    "predict_feed",
    "probabilistic_margin",
    "rank",
    "ratio_loss",
    "read_picture",
    "select_by_quota",
    "shown",
    "split_off",
    "stacked",
    "stratified_holdout",
    "subset",
    "train",
    "training_positions",
]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_LAZY[name]), name)
