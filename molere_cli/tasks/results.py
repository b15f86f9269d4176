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
from molere_cli.files import replacing
from molere_cli.metrics import Predictions
from molere_cli.registry.specs import Examples
from molere_cli.splits.artefact import Split, SplitInfo
from molere_cli.tasks.build import Engine
from molere_cli.tasks.provenance import versions


def write_predictions(
    predictions: Mapping[str, Predictions], sets: Mapping[str, Examples], path: Path
) -> None:
    """One Parquet file: test_set, index, label, prediction, margin, loss, group (null without groups)."""
    tables = [_table(name, found, sets[name]) for name, found in predictions.items()]
    with replacing(path) as temporary:
        pq.write_table(pa.concat_tables(tables), temporary)


def _table(name: str, found: Predictions, examples: Examples) -> pa.Table:
    size = len(found.labels)
    indices = torch.arange(size) if examples.indices is None else examples.indices
    groups = pa.nulls(size, pa.int64()) if found.groups is None else pa.array(found.groups.numpy())
    return pa.table(
        {
            "test_set": pa.array([name] * size).dictionary_encode(),
            "index": indices.numpy(),
            "label": found.labels.numpy(),
            "prediction": found.predicted.numpy(),
            "margin": found.margins.numpy(),
            "loss": found.losses.numpy(),
            "group": groups,
        }
    )


def pool_table(engine: Engine, pool: Predictions, in_validation: Tensor | None) -> pa.Table:
    """Per pool example: index, label, clean_label (null: as it came), margin, loss; aum, early_aum, el2n,
    forgetting, weight and mean_weight (null: never trained on); in_validation."""
    record, clean = engine.loop.pool_record, engine.data.dataset.pool.clean_labels
    size = len(pool.labels)
    return pa.table(
        {
            "index": engine.data.pool_indices.numpy(),
            "label": pool.labels.numpy(),
            "clean_label": pa.nulls(size, pa.int64()) if clean is None else pa.array(clean.numpy()),
            "margin": pool.margins.numpy(),
            "loss": pool.losses.numpy(),
            "aum": pa.array(record.aum.cpu().numpy(), from_pandas=True),
            "early_aum": pa.array(record.early_aum.cpu().numpy(), from_pandas=True),
            "el2n": pa.array(record.el2n.cpu().numpy(), from_pandas=True),
            "forgetting": pa.array(record.forgetting.cpu().numpy(), from_pandas=True),
            "weight": pa.array(record.weight.cpu().numpy(), from_pandas=True),
            "mean_weight": pa.array(record.mean_weight.cpu().numpy(), from_pandas=True),
            "in_validation": pa.nulls(size, pa.bool_())
            if in_validation is None
            else pa.array(in_validation.numpy()),
        }
    )


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
        "seed": info.seed,
        "erm_run": info.erm_run,
    }
