"""What a run writes beside its checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray
from torch import Tensor

from molere_cli.data.origins import origins
from molere_cli.data.thumbnails import thumbnail
from molere_cli.engine.prediction_metrics import Predictions
from molere_cli.foundation.stopping import stop_if_asked
from molere_cli.registry.specs import Examples
from molere_cli.runs import gallery_choice
from molere_cli.runs.run_directory import RunDir
from molere_cli.runs.run_tables import (
    POOL_SET,
    TEST_PREFIX,
    RunTable,
    write_pool,
    write_predictions,
    write_thumbnails,
)
from molere_cli.splits.split_file import HELD_OUT, HeldOut, Split, SplitInfo
from molere_cli.training.build_engine import Engine
from molere_cli.training.run_environment import versions

INT64 = pa.int64()


def write_test_results(
    predictions: Mapping[str, Predictions], sets: Mapping[str, Examples], path: Path
) -> None:
    """Write what a classifier says of every test set's examples into `path`, `predictions.parquet`."""
    tables = {}
    for name, found in predictions.items():
        examples = sets[name]
        indices = torch.arange(len(examples)) if examples.indices is None else examples.indices
        tables[name] = _of_examples(found, examples, indices)
    write_predictions(tables, path)


def write_pool_results(
    engine: Engine, pool: Predictions, in_validation: Tensor | None, held_out: HeldOut | None, path: Path
) -> None:
    """Write what the classifier and its training say of every pool example into `path`, `pool.parquet`."""
    record, examples = engine.loop.pool_record, engine.data.dataset.pool
    kept = {
        name: pa.array(getattr(record, name).cpu().numpy(), from_pandas=True)
        for name in ("aum", "early_aum", "el2n", "forgetting", "weight", "mean_weight")
    }
    columns = {
        **_of_examples(pool, examples, engine.data.pool_indices),
        "clean_label": _or_nulls(examples.clean_labels, len(examples)),
        **kept,
        "in_validation": _or_nulls(in_validation, len(examples), pa.bool_()),
        **{
            field.name: _or_nulls(values, len(examples), field.type)
            for field, values in zip(HELD_OUT, held_out.columns if held_out else [None] * 3, strict=True)
        },
    }
    write_pool(columns, path)


def _of_examples(found: Predictions, examples: Examples, indices: Tensor) -> dict[str, pa.Array]:
    """The columns that both tables have."""
    one_class = found.num_classes < 2
    return {
        "index": pa.array(indices.numpy()),
        "label": pa.array(found.labels.numpy()),
        "prediction": pa.array(found.predicted.numpy()),
        "probability": pa.array(found.probability.numpy()),
        "second": _or_nulls(None if one_class else found.second, len(examples)),
        "second_probability": _or_nulls(
            None if one_class else found.second_probability, len(examples), pa.float32()
        ),
        "label_probability": pa.array(found.label_probability.numpy()),
        "margin": pa.array(found.margin.numpy()),
        "loss": pa.array(found.loss.numpy()),
        "group": _groups(examples),
        "path": pa.array(origins(examples), pa.string()),
    }


def _groups(examples: Examples) -> pa.Array:
    groups = _or_nulls(examples.groups, len(examples))
    return pc.if_else(pc.less(groups, 0), None, groups)


def write_run_thumbnails(run: RunDir, pool: Examples, tests: Mapping[str, Examples]) -> None:
    """Write small pictures of the images of a run that are worth a look (`report.picks`), once its tables are
    there."""
    tables = {POOL_SET: _pictures(pool, _of_pool(run))}
    for name, examples in tests.items():
        table = RunTable.predictions(run).read(["label", "prediction", "margin"], test_set=name)
        label, prediction, margin = (column.to_numpy() for column in table.columns)
        rows = gallery_choice.nearly_right(label, prediction, margin, num_sets=len(tests))
        tables[f"{TEST_PREFIX}{name}"] = _pictures(examples, gallery_choice.together([rows]))
    write_thumbnails(tables, run.thumbnails_path)


def _of_pool(run: RunDir) -> NDArray[np.int64]:
    table = RunTable.pool(run).read(["label", "aum", "mean_weight"])
    label, aum, weight = (column.to_numpy() for column in table.columns)
    return gallery_choice.together(
        [*gallery_choice.hardest_and_easiest(label, aum), *gallery_choice.raised_and_lowered(weight)]
    )


def _pictures(examples: Examples, rows: NDArray[np.int64]) -> dict[str, pa.Array]:
    pictures = []
    for row in rows.tolist():
        images = examples.images
        pictures.append(thumbnail(images[row] if isinstance(images, Tensor) else images.read(row)))
        stop_if_asked()
    indices = np.arange(len(examples)) if examples.indices is None else examples.indices.numpy()
    return {"index": pa.array(indices[rows]), "webp": pa.array(pictures, pa.binary())}


def _or_nulls(values: Tensor | None, size: int, kind: pa.DataType = INT64) -> pa.Array:
    return pa.nulls(size, kind) if values is None else pa.array(values.numpy())


def learned_split(engine: Engine, in_validation: Tensor) -> Split:
    """The split that a method ended on, as an artefact."""
    config = engine.plan.config
    info = SplitInfo(
        dataset=config.data.dataset,
        fingerprint=engine.data.fingerprint,
        strategy=config.method.method,
        delta=config.split.delta,
        seed=config.machine.seed,
        score_name=None,
        erm_run=None,
        versions=versions(),
    )
    return Split(
        labels=engine.data.dataset.pool.labels,
        in_validation=in_validation,
        score=None,
        indices=engine.data.pool_indices,
        info=info,
    )


def split_provenance(info: SplitInfo) -> dict[str, Any]:
    """What `environment.json` says of the split; a strategy has its argument with it, as in `--split`."""
    return {
        "strategy": info.strategy if info.argument is None else f"{info.strategy}:{info.argument}",
        "score": info.score_name,
        "delta": info.delta,
        "share": info.represented_fraction,
        "finding": info.finding,
        "seed": info.seed,
        "erm_run": info.erm_run,
    }
