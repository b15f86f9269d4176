"""Most weight on what an underfit head gets wrong out of fold: for rare groups, where shortcuts fail.

After automatic feature reweighting (AFR; Qiu et al., ICML 2023, arXiv 2306.11074), which weighs the examples
of a part held out by exp(-gamma p). Here p is out of fold, and gamma follows from how much of all weight the
mistakes are to carry, so that it means the same at every rate of mistakes.

Shapes: N examples, C classes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy.optimize import brentq

from molere_cli import Options
from molere_heads.linear_head import Floats, Ints, fit, log_probabilities, out_of_fold, tuned_l2
from molere_heads.solved_head import Solution, SolvedHead

SCORING_L2 = 100.0
"""Strong, so that mistakes are those of a head that has learned what most examples have in common."""
WEIGHTED_L2 = 50.0
MAX_GAMMA = 60.0


class RareOptions(Options):
    """Options of `logreg-rare`."""

    fraction: float = Field(
        0.65, gt=0, lt=1, description="How much of all weight the out-of-fold mistakes carry together."
    )


class RareHead(SolvedHead):
    """The head on weights by which mistakes carry `fraction` of all weight; the price in held-out accuracy is
    measured and said."""

    options: RareOptions

    def solve(self, x_NA: Floats, labels_N: Ints, folds_N: Ints) -> Solution:
        num_classes, fraction = self.context.num_classes, self.options.fraction
        probability_N, mistaken_N = scores(x_NA, labels_N, num_classes, folds_N)
        weights_N = tilted(probability_N, mistaken_N, fraction)
        mistaken = float(mistaken_N.mean())
        price = self._price(x_NA, labels_N, folds_N)
        if weights_N is None:
            why = "no example is" if not mistaken else f"{mistaken:.0%} are"
            self.context.note(
                f"logreg-rare gives all examples the weight 1: {why} mistaken out of fold, so that there is "
                f"nothing to give {fraction:.0%} of the weight to"
            )
        else:
            self.context.note(
                f"{fraction:.0%} of the weight on the {mistaken:.1%} that are mistaken out of fold costs "
                f"{price:.1f} points of held-out accuracy"
            )
        head = fit(x_NA, labels_N, num_classes, l2=WEIGHTED_L2, weights_N=weights_N)
        return Solution(head, weights_N, price=price, mistaken=mistaken)

    def _price(self, x_NA: Floats, labels_N: Ints, folds_N: Ints) -> float:
        """Points of out-of-fold accuracy that the weights cost.

        The weights of what trains a fold's head come from folds within: by scores that had seen the fold,
        weights would seem to gain, on clean data too.
        """
        num_classes = self.context.num_classes
        _, plain_NC = tuned_l2(x_NA, labels_N, num_classes, folds_N)
        right_N = np.zeros(len(labels_N), dtype=bool)
        for fold in np.unique(folds_N):
            held = folds_N == fold
            inner_N = np.unique(folds_N[~held], return_inverse=True)[1]
            x, labels = x_NA[~held], labels_N[~held]
            weights = tilted(*scores(x, labels, num_classes, inner_N), self.options.fraction)
            head = fit(x, labels, num_classes, l2=WEIGHTED_L2, weights_N=weights)
            right_N[held] = head.logits(x_NA[held]).argmax(axis=1) == labels_N[held]
        return 100 * float(np.mean(plain_NC.argmax(axis=1) == labels_N) - right_N.mean())


def scores(x_NA: Floats, labels_N: Ints, num_classes: int, folds_N: Ints) -> tuple[Floats, NDArray[np.bool_]]:
    """Of every example out of fold: the probability of its label, and whether another class is likelier."""
    logits_NC = out_of_fold(x_NA, labels_N, num_classes, folds_N, l2=SCORING_L2)
    own_N = log_probabilities(logits_NC)[np.arange(len(labels_N)), labels_N]
    return np.exp(own_N), logits_NC.argmax(axis=1) != labels_N


def tilted(probability_N: Floats, mistaken_N: NDArray[np.bool_], fraction: float) -> Floats | None:
    """exp(-gamma p), of mean 1, with the gamma by which the mistaken carry `fraction` of all weight; None
    where none is mistaken, or so many that they carry as much already."""
    if not mistaken_N.any() or mistaken_N.mean() >= fraction:
        return None
    distance_N = probability_N - probability_N.min()

    def excess(gamma: float) -> float:
        weights_N = np.exp(-gamma * distance_N)
        return float(weights_N[mistaken_N].sum() / weights_N.sum()) - fraction

    gamma = MAX_GAMMA if excess(MAX_GAMMA) < 0 else brentq(excess, 0, MAX_GAMMA)
    weights_N = np.exp(-gamma * distance_N)
    return np.asarray(weights_N / weights_N.mean(), np.float32)
