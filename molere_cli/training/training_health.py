"""When weights collapse or training falls apart: a sentence for the user."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

COLLAPSE_CHECK_UPDATES = 100
NEARLY_EQUAL = 0.03
"""Standard deviation of an epoch's weights, as a part of their mean, below which they hardly do anything."""

HARM_EPOCHS = 3

HARM_SHARE = 2 / 3


def harm_of(records: Sequence[Mapping[str, float]]) -> str | None:
    """A sentence if the weights make training worse, by the records of all epochs so far; None if not."""
    # Training accuracy counts each example once, whatever its weight, and rises or stays under weights that
    # help. In sane runs it dips by up to a sixth while they settle; a third, for several epochs, is a
    # classifier that unlearns much of the pool. Their spread is measured by the effective sample size, which
    # knows no scale.
    best = max(range(len(records)), key=lambda epoch: records[epoch]["train/accuracy"])
    then, recent = records[best], records[best + 1 :][-HARM_EPOCHS:]
    now = recent[-1] if recent else then
    has_fallen = len(recent) == HARM_EPOCHS and all(
        record["train/accuracy"] < HARM_SHARE * then["train/accuracy"] for record in recent
    )
    ess_then, ess_now = (record.get("weights/ess", 1.0) for record in (then, now))
    if not has_fallen or ess_now >= ess_then:
        return None
    return (
        f"training accuracy has fallen from {100 * then['train/accuracy']:.0f}% in epoch {best + 1} to "
        f"{100 * now['train/accuracy']:.0f}% in epoch {len(records)}, while the weights have spread "
        f"(effective sample size {100 * ess_then:.0f}% then, {100 * ess_now:.0f}% now): they make training "
        "worse; lower the learning rate of the weights, or use another split or --method erm"
    )


def collapse_of(metrics: Mapping[str, float], *, is_last: bool = False) -> str | None:
    """A sentence if a reweighter's weights of an epoch are all near 0, or nearly equal after many updates or
    the last epoch; None if they are well, or no reweighter's."""
    if "reweighter/updates" not in metrics:
        return None
    num_updates = metrics["reweighter/updates"]
    mean = metrics.get("weights/mean", 1.0)
    if mean < 1e-3:
        return "the weights have collapsed towards 0; use --weight-normalization mean"
    spread = metrics["weights/std"] / mean
    if (is_last or num_updates >= COLLAPSE_CHECK_UPDATES) and spread < NEARLY_EQUAL:
        return (
            f"the weights are nearly equal after {num_updates:.0f} "
            f"meta-update{'s' * (num_updates != 1)} (their spread is {spread:.2g} of their mean): this run "
            "is ERM on the examples that train; raise --reweighter-lr or use --hypergradient-scale batch"
        )
    return None
