"""What a run writes beside its checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from molere_cli.data.feed import FeedSettings
from molere_cli.data.origins import origins
from molere_cli.files import replacing
from molere_cli.metrics import Predictions
from molere_cli.registry.specs import Examples
from molere_cli.splits.artefact import Split, SplitInfo
from molere_cli.tasks.build import Engine
from molere_cli.tasks.provenance import versions

INT64 = pa.int64()


def write_predictions(
    predictions: Mapping[str, Predictions], sets: Mapping[str, Examples], path: Path
) -> None:
    """One Parquet file, a row a test example: test_set, index, and what `_of_examples` has."""
    tables = []
    for name, found in predictions.items():
        examples = sets[name]
        size = len(examples)
        indices = torch.arange(size) if examples.indices is None else examples.indices
        in_set = pa.array([name] * size).dictionary_encode()
        tables.append(pa.table({"test_set": in_set, **_of_examples(found, examples, indices)}))
    with replacing(path) as temporary:
        pq.write_table(pa.concat_tables(tables), temporary)


def pool_table(engine: Engine, pool: Predictions, in_validation: Tensor | None) -> pa.Table:
    """Per pool example: what `_of_examples` has, clean_label (null: as it came); aum, early_aum, el2n,
    forgetting, weight and mean_weight (null: never trained on); in_validation."""
    record, examples = engine.loop.pool_record, engine.data.dataset.pool
    kept = {
        name: pa.array(getattr(record, name).cpu().numpy(), from_pandas=True)
        for name in ("aum", "early_aum", "el2n", "forgetting", "weight", "mean_weight")
    }
    return pa.table(
        {
            **_of_examples(pool, examples, engine.data.pool_indices),
            "clean_label": _or_nulls(examples.clean_labels, len(examples)),
            **kept,
            "in_validation": _or_nulls(in_validation, len(examples), pa.bool_()),
        }
    )


def _of_examples(found: Predictions, examples: Examples, indices: Tensor) -> dict[str, pa.Array]:
    """index and label; prediction with its probability, second, the next likely class, with its own (null
    where there is one class); label_probability, margin, loss in nats; group (null without groups); path, as
    `origins` has it."""
    likeliest = found.likeliest
    one_class = likeliest.classes.shape[1] < 2
    return {
        "index": pa.array(indices.numpy()),
        "label": pa.array(found.labels.numpy()),
        "prediction": pa.array(found.predicted.numpy()),
        "probability": pa.array(likeliest.values[:, 0].numpy()),
        "second": _or_nulls(None if one_class else likeliest.classes[:, 1], len(examples)),
        "second_probability": _or_nulls(
            None if one_class else likeliest.values[:, 1], len(examples), pa.float32()
        ),
        "label_probability": pa.array(found.label_probabilities.numpy()),
        "margin": pa.array(found.margins.numpy()),
        "loss": pa.array(found.losses.numpy()),
        "group": _or_nulls(examples.groups, len(examples)),
        "path": pa.array(origins(examples), pa.string()),
    }


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


def describe_input(settings: FeedSettings) -> dict[str, Any]:
    """What `environment.json` says of how images become the network's input."""
    return {
        "image_size": list(settings.image_size),
        "crop_mode": settings.crop_mode,
        "mean": list(settings.mean),
        "std": list(settings.std),
    }


def split_provenance(info: SplitInfo) -> dict[str, Any]:
    """What `environment.json` says of the split; a strategy has its argument with it, as in `--split`."""
    return {
        "strategy": info.strategy if info.argument is None else f"{info.strategy}:{info.argument}",
        "score": info.score_name,
        "delta": info.delta,
        "share": info.share,
        "finding": info.finding,
        "diagnosis": None if info.diagnosis is None else info.diagnosis.as_json(),
        "seed": info.seed,
        "erm_run": info.erm_run,
    }
