"""What the pool itself says of its hard examples: rare, wrongly labelled, or neither.

An ERM classifier is trained on each half of the pool, and asked about the other half: together the price of
ERM once more. What an example's label is to a classifier that has not seen it tells wrong labels from hard
images: a wrong label is no likelier than any other class, that of a hard image is among the likely ones.
Neither tuning nor test data is used.

Shapes: N examples of the pool, C classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from molere_cli import SplitRequest, TrainingContext, erm_epochs, predict_feed

# The bounds were set on tuning sets: docs/results.md says on which, and how often they were right elsewhere.
SOLVED = 0.95
AT_CHANCE = 0.85
MANY_WRONG = 0.15
UNLIKELY_TENTHS = 3


@dataclass(frozen=True)
class Evidence:
    """What became of examples in the half that a classifier had not seen.

    num_errors: the early errors, at most delta of every class. errors_right, others_right: the share of these
    and of all others that are right, in [0, 1]. errors_place: where the label of an early error stands among
    all classes by falling probability, on average; 0 = first, 1 = as at random. wrong_labels: the estimated
    share of the pool whose label is wrong.
    """

    num_errors: int
    errors_right: float
    others_right: float
    errors_place: float
    wrong_labels: float

    @property
    def labels_are_wrong(self) -> bool:
        """Many labels are wrong, or the few errors of a task that is solved otherwise."""
        errors_are_at_random = self.num_errors > 0 and self.errors_place >= AT_CHANCE
        return self.wrong_labels >= MANY_WRONG or (self.is_solved and errors_are_at_random)

    @property
    def is_solved(self) -> bool:
        """Whether a classifier gets nearly everything right but the early errors."""
        return self.others_right >= SOLVED


def gather_evidence(request: SplitRequest, is_error_N: Tensor) -> Evidence:
    """Train on each half of every class, look at the other.

    Args:
        is_error_N: bool, the early errors.
    """
    context: TrainingContext = request.training
    labels_N = request.labels
    in_first_N = _halves(labels_N, request.generator)
    logits_NC = torch.empty(len(labels_N), context.num_classes)
    for number, trains_N in enumerate((in_first_N, ~in_first_N)):
        request.note(f"auto: ERM on half {number + 1} of 2 of the pool, to see what the other half needs")
        *_, classifier = erm_epochs(context, trains_N)
        logits_NC[~trains_N] = predict_feed(classifier, context.feed).logits[~trains_N].float()
    place_N = label_places(logits_NC, labels_N)
    right_N = place_N == 0
    return Evidence(
        num_errors=int(is_error_N.sum()),
        errors_right=_mean(right_N[is_error_N]),
        others_right=_mean(right_N[~is_error_N]),
        errors_place=_mean(place_N[is_error_N]) / ((context.num_classes - 1) / 2),
        wrong_labels=wrong_label_share(place_N, context.num_classes),
    )


def label_places(logits_NC: Tensor, labels_N: Tensor) -> Tensor:
    """How many classes are likelier than the label, int64 (N,)."""
    label_logits_N1 = logits_NC.gather(1, labels_N[:, None])
    return (logits_NC > label_logits_N1).sum(dim=1)


def wrong_label_share(place_N: Tensor, num_classes: int) -> float:
    """An estimate of the share of wrong labels, in [0, 1], from `label_places` of held-out examples.

    A right label is hardly ever among the unlikeliest 30% of the classes; a wrong one is there as often as
    chance has it. So the share there, divided by the share of the classes, estimates that of wrong labels (as
    Storey 2002 estimates the share of true null hypotheses from large p-values). 0 with fewer than four
    classes, where the one cannot be told from the other.
    """
    num_unlikely = UNLIKELY_TENTHS * num_classes // 10
    if num_unlikely == 0:
        return 0.0
    return min(1.0, _mean(place_N >= num_classes - num_unlikely) * num_classes / num_unlikely)


def _mean(values: Tensor) -> float:
    return float(values.double().mean()) if len(values) else 0.0


def _halves(labels_N: Tensor, generator: torch.Generator) -> Tensor:
    """Half of every class at random, bool (N,); of an odd number the larger half, or the smaller, in turn."""
    in_first_N = torch.zeros(len(labels_N), dtype=torch.bool)
    for turn, label in enumerate(labels_N.unique().tolist()):
        positions = (labels_N == label).nonzero().squeeze(1)
        positions = positions[torch.randperm(len(positions), generator=generator)]
        in_first_N[positions[turn % 2 :: 2]] = True
    return in_first_N
