"""A classifier's predictions on a set of examples, and the table they are kept in."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from functools import partial

import torch

from molere_cli.data.feed import Feed, FeedSettings, batches_in_order, make_feed
from molere_cli.engine.classifier import Classifier
from molere_cli.engine.prediction_metrics import Predictions
from molere_cli.foundation.errors import TrainingError
from molere_cli.foundation.ranks import ALONE, Ranks
from molere_cli.foundation.stopping import stop_if_asked
from molere_cli.registry.specs import Examples


def predict_feed(
    classifier: Classifier,
    feed: Feed,
    groups: torch.Tensor | None = None,
    *,
    among_present: bool = False,
    ranks: Ranks = ALONE,
) -> Predictions:
    """What the classifier says of every example of a feed, in eval mode, unaugmented.

    Args:
        groups: of the examples, int64 (N,).
        among_present: whether it can choose among the classes of these examples alone.
        ranks: who ask this of the same classifier at once; each looks at its part, and all have the whole.

    Raises:
        TrainingError: there are no probabilities in it, since the classifier has diverged.
    """
    if len(feed) < ranks.size:
        ranks = ALONE
    parts, broken = [], torch.zeros(1, dtype=torch.int64)
    present_C: torch.Tensor | None = None
    for logits_BC, labels_B in predict_batches(classifier, feed, part=ranks.part(len(feed))):
        # Parameters may be finite where the running statistics of batch norm, which no loss sees, are not.
        broken += (~logits_BC.softmax(dim=1).isfinite().all(dim=1)).sum()
        if among_present:
            if present_C is None:
                present_C = torch.zeros(logits_BC.shape[1], dtype=torch.bool)
                present_C[feed.labels.cpu()] = True
            logits_BC = logits_BC.masked_fill(~present_C, -torch.inf)
        parts.append(Predictions.of_logits(logits_BC, labels_B))
    ranks.sum_([broken])
    if num_broken := int(broken):
        raise TrainingError(
            f"the classifier gives no finite probabilities for {num_broken:,} of {len(feed):,} "
            "examples: it has diverged; train with a lower --lr or with --clip-grad 1"
        )
    whole = Predictions.joined(parts).changed(partial(ranks.gathered, number=len(feed)))
    return replace(whole, groups=groups)


def predict_batches(
    classifier: Classifier, feed: Feed, *, part: slice = slice(None)
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Logits, float32 (B, C), and labels, int64 (B,), of every example of a feed, or of a part of it, in
    order, in eval mode, unaugmented; on the CPU. No more than a batch of them is kept."""
    for batch in feed.evaluation(batches_in_order(feed, part)):
        yield classifier.predict(batch.images).logits.cpu(), batch.labels.cpu()
        stop_if_asked()


def predict_sets(
    classifier: Classifier,
    sets: Mapping[str, Examples],
    settings: FeedSettings,
    *,
    among_present: Collection[str] = (),
    ranks: Ranks = ALONE,
) -> dict[str, Predictions]:
    """Predictions on several sets, by name.

    Args:
        among_present: names of those on which the classifier can choose among their own classes alone.
        ranks: as for `predict_feed`.
    """
    plain = settings.plain()
    return {
        name: predict_feed(
            classifier,
            make_feed(examples, plain),
            examples.groups,
            among_present=name in among_present,
            ranks=ranks,
        )
        for name, examples in sets.items()
    }
