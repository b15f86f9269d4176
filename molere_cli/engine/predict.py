"""A classifier's predictions on a set of examples, and the table they are kept in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch

from molere_cli.data.feed import Feed, FeedSettings, batches_in_order, make_feed
from molere_cli.engine.classifier import Classifier
from molere_cli.errors import TrainingError
from molere_cli.metrics import Predictions
from molere_cli.registry.specs import Examples
from molere_cli.stopping import stop_if_asked


def predict_feed(classifier: Classifier, feed: Feed, groups: torch.Tensor | None = None) -> Predictions:
    """Logits for every example of a feed, in eval mode, unaugmented.

    Raises:
        TrainingError: there are no probabilities in them, since the classifier has diverged.
    """
    batches = []
    for batch in feed.evaluation(batches_in_order(feed)):
        batches.append(classifier.predict(batch.images).logits.cpu())
        stop_if_asked()
    logits_NC = torch.cat(batches)
    # Parameters may be finite where the running statistics of batch norm, which no loss sees, are not.
    num_broken = int((~logits_NC.softmax(dim=1).isfinite().all(dim=1)).sum())
    if num_broken:
        raise TrainingError(
            f"the classifier gives no finite probabilities for {num_broken:,} of {len(logits_NC):,} "
            "examples: it has diverged; train with a lower --lr or with --clip-grad 1"
        )
    return Predictions(logits_NC, feed.labels.cpu(), groups)


def predict_sets(
    classifier: Classifier, sets: Mapping[str, Examples], settings: FeedSettings
) -> dict[str, Predictions]:
    """Predictions on several sets, by name."""
    plain = replace(settings, augment="none")
    return {
        name: predict_feed(classifier, make_feed(examples, plain), examples.groups)
        for name, examples in sets.items()
    }
