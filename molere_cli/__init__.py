"""MOLERE: train on hard samples by learned reweighting.

The commands as functions (`import molere_cli as molere`): `dataset`, `rank`, `train`, `compare`, `open_runs`.
The rest is what a plugin author imports. Nothing here imports torch; names that need it are loaded on first
use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from molere_cli.foundation.errors import (
    ConfigError,
    DataError,
    MolereError,
    PluginError,
    RunError,
    SplitError,
    TrainingError,
)
from molere_cli.foundation.lazy_names import lazy_names
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
    SplitRequest,
    SplitSpec,
    TargetSet,
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
    from molere_cli.data.encoded_reader import EncodedReader
    from molere_cli.data.feed import Batch, epoch_batches
    from molere_cli.data.folder_reader import FolderReader
    from molere_cli.data.holdout import split_off, stratified_holdout, subset
    from molere_cli.data.names import ordered_names, plain_name
    from molere_cli.data.walk import Walk
    from molere_cli.data.wrapped_reader import WrappedReader
    from molere_cli.engine.hypergradient import alignment, hypergradient
    from molere_cli.engine.method import Method, TrainingContext
    from molere_cli.engine.prediction import predict_batches, predict_feed
    from molere_cli.engine.prediction_metrics import probabilistic_margin
    from molere_cli.engine.random_state import isolated_randomness
    from molere_cli.engine.step import Step
    from molere_cli.engine.validation_batches import ValidationBatches
    from molere_cli.foundation.randomness import derived_generator, derived_seed
    from molere_cli.methods.auxiliary import erm_epochs
    from molere_cli.methods.splitter import splitter_loss
    from molere_cli.splits.quota import select_by_quota

__version__ = "0.1.0"

__getattr__ = lazy_names(
    __name__,
    {
        "api.comparing": "compare",
        "api.data": "dataset",
        "api.ranking": "rank",
        "api.runs": "open_runs train",
        "data.csv_rows": "CsvRow csv_rows",
        "data.encoded_reader": "EncodedReader",
        "data.feed": "Batch epoch_batches",
        "data.folder_reader": "FolderReader",
        "data.holdout": "split_off stratified_holdout subset",
        "data.names": "ordered_names plain_name",
        "data.walk": "Walk",
        "data.wrapped_reader": "WrappedReader",
        "engine.hypergradient": "alignment hypergradient",
        "engine.method": "Method TrainingContext",
        "engine.prediction": "predict_batches predict_feed",
        "engine.prediction_metrics": "probabilistic_margin",
        "engine.random_state": "isolated_randomness",
        "engine.step": "Step",
        "engine.validation_batches": "ValidationBatches",
        "foundation.randomness": "derived_generator derived_seed",
        "methods.auxiliary": "erm_epochs",
        "methods.splitter": "splitter_loss",
        "splits.quota": "select_by_quota",
    },
)

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
    "EncodedReader",
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
    "SplitError",
    "SplitRequest",
    "SplitSpec",
    "Step",
    "TargetSet",
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
    "compare",
    "csv_rows",
    "dataset",
    "derived_generator",
    "derived_seed",
    "epoch_batches",
    "erm_epochs",
    "hookimpl",
    "hypergradient",
    "isolated_randomness",
    "open_runs",
    "ordered_names",
    "plain_name",
    "predict_batches",
    "predict_feed",
    "probabilistic_margin",
    "rank",
    "select_by_quota",
    "split_off",
    "splitter_loss",
    "stratified_holdout",
    "subset",
    "train",
]
