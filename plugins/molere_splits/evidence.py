"""What the pool itself says of its hard examples: rare, wrongly labelled, or neither.

An ERM classifier is trained on each half of the pool, and asked about the other half: together the price of
ERM once more. What an example's label is to a classifier that has not seen it tells wrong labels from hard
images: a wrong label is no likelier than any other class, that of a hard image is among the likely ones.
Where all but a few early errors are right, a shortcut would look like wrong labels; so there it is done again
with the errors drawn more often: with others of their kind, the labels of rare images become likelier, and
wrong ones do not. Neither tuning nor test data is used.

Shapes: N examples of the pool, C classes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from molere_cli import SplitRequest, TrainingContext, erm_epochs, predict_feed

# The bounds were set on tuning sets: docs/dev/experiments.md has what they were set by.
SOLVED = 0.95
MANY_WRONG = 0.15
LIKELIER = 0.5
TIMES_AS_OFTEN = 20.0
UNLIKELY_TENTHS = 3


@dataclass(frozen=True)
class Evidence:
    """What became of examples in the half that a classifier had not seen.

    num_errors: the early errors, at most delta of every class. others_right: the share of all others that are
    right, in [0, 1]. errors_rise: by how much the label of an early error rises among the classes once errors
    are drawn more often, on average over the errors and in standard errors of that; None where it was not
    asked. wrong_labels: the estimated share of the pool whose label is wrong.
    """

    num_errors: int
    others_right: float
    errors_rise: float | None
    wrong_labels: float

    @property
    def errors_are_rare(self) -> bool:
        """Whether the early errors are what a classifier could learn if there were more of them."""
        return self.errors_rise is not None and self.errors_rise >= LIKELIER

    @property
    def labels_are_wrong(self) -> bool:
        """Many labels are wrong, or the few errors of a task that is solved otherwise."""
        few = self.errors_rise is not None and not self.errors_are_rare
        return self.wrong_labels >= MANY_WRONG or few


def gather_evidence(request: SplitRequest, is_error_N: Tensor) -> Evidence:
    """Train on each half of every class, look at the other; where it is needed, once more with the errors
    drawn more often.

    Args:
        is_error_N: bool, the early errors.
    """
    context: TrainingContext = request.training
    in_first_N = _halves(request.labels, request.generator)
    place_N = _held_out_places(request, in_first_N, None)
    others_right = _mean(place_N[~is_error_N] == 0)
    wrong_labels = wrong_label_share(place_N, context.num_classes)
    rise = None
    if others_right >= SOLVED and wrong_labels < MANY_WRONG and is_error_N.any():
        weights_N = torch.where(is_error_N, TIMES_AS_OFTEN, 1.0)
        place_up_N = _held_out_places(request, in_first_N, weights_N)
        rise = in_standard_errors((place_N - place_up_N)[is_error_N])
    return Evidence(
        num_errors=int(is_error_N.sum()),
        others_right=others_right,
        errors_rise=rise,
        wrong_labels=wrong_labels,
    )


def _held_out_places(request: SplitRequest, in_first_N: Tensor, weights_N: Tensor | None) -> Tensor:
    """`label_places` of every example under the classifier of the half that it is not in."""
    context: TrainingContext = request.training
    places_N = torch.empty(len(in_first_N), dtype=torch.int64)
    how = "" if weights_N is None else ", early errors drawn more often"
    for number, trains_N in enumerate((in_first_N, ~in_first_N)):
        request.note(f"what to ask: ERM on half {number + 1} of 2 of the pool{how}")
        *_, classifier = erm_epochs(context, trains_N, weights=weights_N)
        places_N[~trains_N] = predict_feed(classifier, context.feed).label_place[~trains_N]
    return places_N


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


def in_standard_errors(differences: Tensor) -> float:
    """The mean of paired differences over its standard error: infinite where all are one number but 0, and 0
    where there are fewer than two."""
    from scipy.stats import ttest_1samp  # half a second to import

    if len(differences) < 2 or not differences.any():
        return 0.0
    if (differences == differences[0]).all():
        return math.copysign(math.inf, float(differences[0]))
    return float(ttest_1samp(differences.numpy(), 0).statistic)


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
