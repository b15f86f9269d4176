"""A committee for wrong labels that is one head: heads that wrong labels pull in different ways, averaged.

The mean of the members' logits ranks classes as the geometric mean of their probabilities does, and a mean of
linear heads is a linear head.

Shapes: N examples, C classes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from molere_heads.linear_head import ABSENT, Floats, Head, Ints, fit, log_probabilities, tuned_l2
from molere_heads.solved_head import HeadOptions, Solution, SolvedHead

SHRINKAGES = (0.03, 0.1, 0.3, 0.6)


class RobustHead(SolvedHead):
    """The mean of three heads: the plain one, the plain one without the suspects, and shrunk linear
    discriminants, which fit means and one covariance, whatever single labels say."""

    options: HeadOptions

    def solve(self, x_NA: Floats, labels_N: Ints, folds_N: Ints) -> Solution:
        num_classes = self.context.num_classes
        l2s = {} if self.options.l2 is None else {"l2s": [self.options.l2]}
        l2, logits_NC = tuned_l2(x_NA, labels_N, num_classes, folds_N, **l2s)
        suspect_N = suspects(np.exp(log_probabilities(logits_NC)), labels_N)
        heads = [
            fit(x_NA, labels_N, num_classes, l2=l2),
            fit(x_NA[~suspect_N], labels_N[~suspect_N], num_classes, l2=l2),
            discriminants(
                x_NA, labels_N, num_classes, shrinkage=_shrinkage(x_NA, labels_N, num_classes, folds_N)
            ),
        ]
        mean = Head(
            np.mean([head.weight_AC for head in heads], axis=0),
            np.mean([head.bias_C for head in heads], axis=0),
        )
        accuracy = float(np.mean(logits_NC.argmax(axis=1) == labels_N))
        return Solution(mean, l2=l2, out_of_fold_accuracy=accuracy, suspects=float(suspect_N.mean()))


def suspects(probabilities_NC: Floats, labels_N: Ints) -> NDArray[np.bool_]:
    """Examples whose label looks wrong, bool (N,): of those for which another class is likelier out of fold,
    the clearest, at most as many as the confident joint (Northcutt et al. 2021, arXiv 1911.00068) counts.

    It counts a classifier's own mistakes too, so that it is no estimate of how many labels are wrong. A class
    of which nothing would be left keeps all of its examples.
    """
    rows, num_classes = np.arange(len(labels_N)), probabilities_NC.shape[1]
    own_N = probabilities_NC[rows, labels_N]
    counts_C = np.bincount(labels_N, minlength=num_classes)
    # A class is confidently likely where it is as likely as it is for its own examples on average.
    threshold_C = np.bincount(labels_N, weights=own_N, minlength=num_classes) / np.maximum(counts_C, 1)
    threshold_C = np.where(counts_C > 0, threshold_C, np.inf)
    confident_NC = np.where(probabilities_NC >= threshold_C, probabilities_NC, -1.0)
    counted_N = confident_NC.max(axis=1) >= 0
    off_N = counted_N & (confident_NC.argmax(axis=1) != labels_N)
    # By class, as a fraction of those counted, and of all of that class then.
    share_C = np.bincount(labels_N[off_N], minlength=num_classes) / np.maximum(
        np.bincount(labels_N[counted_N], minlength=num_classes), 1
    )
    number = round(float((share_C * counts_C).sum()))
    others_NC = probabilities_NC.copy()
    others_NC[rows, labels_N] = -1.0
    margin_N = own_N - others_NC.max(axis=1)
    found_N = np.zeros(len(labels_N), dtype=bool)
    found_N[np.argsort(margin_N)[:number]] = True
    found_N &= margin_N < 0
    is_gone_C = np.bincount(labels_N[found_N], minlength=num_classes) == counts_C
    return np.asarray(found_N & ~is_gone_C[labels_N])


def discriminants(x_NA: Floats, labels_N: Ints, num_classes: int, *, shrinkage: float) -> Head:
    """Linear discriminants with a covariance shrunk towards a multiple of the identity, as a head."""
    present = np.unique(labels_N)
    weight_AC = np.zeros((x_NA.shape[1], num_classes), np.float32)
    bias_C = np.full(num_classes, ABSENT, np.float32)
    if len(present) == 1:
        bias_C[present] = 0
        return Head(weight_AC, bias_C)
    model = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=shrinkage).fit(x_NA, labels_N)
    coefficients, intercepts = model.coef_, model.intercept_
    if len(present) == 2:
        coefficients = np.concatenate([-coefficients, coefficients]) / 2
        intercepts = np.concatenate([-intercepts, intercepts]) / 2
    weight_AC[:, present], bias_C[present] = coefficients.T, intercepts
    return Head(weight_AC, bias_C)


def _shrinkage(x_NA: Floats, labels_N: Ints, num_classes: int, folds_N: Ints) -> float:
    """That of the highest accuracy out of fold."""

    def accuracy(shrinkage: float) -> float:
        right_N = np.zeros(len(labels_N), dtype=bool)
        for fold in np.unique(folds_N):
            held = folds_N == fold
            head = discriminants(x_NA[~held], labels_N[~held], num_classes, shrinkage=shrinkage)
            right_N[held] = head.logits(x_NA[held]).argmax(axis=1) == labels_N[held]
        return float(right_N.mean())

    return max(SHRINKAGES, key=accuracy)
