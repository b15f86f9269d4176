"""A classifier's predictions on a set of examples, and the table they are kept in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from molere_cli.data.feed import Feed, FeedSettings, batches_in_order, make_feed
from molere_cli.engine.classifier import Classifier
from molere_cli.metrics import Predictions
from molere_cli.protocols import Examples
from molere_cli.run_dir import replacing


def predict_feed(classifier: Classifier, feed: Feed, groups: torch.Tensor | None = None) -> Predictions:
    """Logits for every example of a feed, in eval mode, unaugmented."""
    logits = [
        classifier.predict(batch.images).logits.cpu() for batch in feed.evaluation(batches_in_order(feed))
    ]
    return Predictions(torch.cat(logits), feed.labels.cpu(), groups)


def predict_sets(
    classifier: Classifier, sets: Mapping[str, Examples], settings: FeedSettings
) -> dict[str, Predictions]:
    """Predictions on several sets, by name."""
    plain = replace(settings, augment="none")
    return {
        name: predict_feed(classifier, make_feed(examples, plain), examples.groups)
        for name, examples in sets.items()
    }


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
