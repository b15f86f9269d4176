"""Multinomial logistic regression on features: fitted, tuned and asked out of fold.

Features are centred, turned to their leading principal axes and scaled to a mean squared norm of `NORM`, so
that an L2 means the same on those of any backbone. scikit-learn solves.

Shapes: N examples, D features, A axes, C classes, F folds.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold

from molere_cli import TrainingError

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]

MAX_AXES = 256
NORM = 100.0
L2S = (10.0, 30.0, 100.0, 300.0)
NUM_FOLDS = 5
MAX_ITERATIONS = 1000
ABSENT = -1e4
"""The logit of a class without an example to learn from."""


@dataclass(frozen=True, eq=False)
class Axes:
    """A change of coordinates: (x - mean_D) @ turn_DA."""

    mean_D: Floats
    turn_DA: Floats

    @classmethod
    def of(cls, features_ND: Floats) -> Axes:
        """That of some features; of fewer examples than axes as many as there are less one."""
        num_axes = max(1, min(MAX_AXES, features_ND.shape[1], len(features_ND) - 1))
        found = PCA(num_axes, svd_solver="covariance_eigh").fit(features_ND)
        scale = np.sqrt(NORM / max(float(features_ND.var(axis=0).sum()), 1e-12))
        return cls(found.mean_.astype(np.float32), (found.components_.T * scale).astype(np.float32))

    def __call__(self, features_ND: Floats) -> Floats:
        return np.asarray((features_ND - self.mean_D) @ self.turn_DA, np.float32)


@dataclass(frozen=True, eq=False)
class Head:
    """Logits are x @ weight_AC + bias_C."""

    weight_AC: Floats
    bias_C: Floats

    def logits(self, x_NA: Floats) -> Floats:
        return x_NA @ self.weight_AC + self.bias_C

    def on_features(self, axes: Axes) -> Head:
        """The same head on the features themselves."""
        weight_DC = axes.turn_DA @ self.weight_AC
        return Head(weight_DC, self.bias_C - axes.mean_D @ weight_DC)


def fit(
    x_NA: Floats, labels_N: Ints, num_classes: int, *, l2: float, weights_N: Floats | None = None
) -> Head:
    """argmin (1/N) sum_i w_i CE_i + l2 / (2 N) |W|^2, with weights of mean 1 (default: all 1), a free bias.

    Raises:
        TrainingError: the solver does not converge.
    """
    present = np.unique(labels_N)
    weight_AC = np.zeros((x_NA.shape[1], num_classes), np.float32)
    bias_C = np.full(num_classes, ABSENT, np.float32)
    if len(present) == 1:
        bias_C[present] = 0
        return Head(weight_AC, bias_C)
    # Of two classes scikit-learn learns the difference d of the columns; they, d/2 and -d/2, have half its
    # squared norm.
    of_two = len(present) == 2
    model = LogisticRegression(C=(2 if of_two else 1) / l2, max_iter=MAX_ITERATIONS, tol=1e-4)
    weights_N = None if weights_N is None else weights_N / weights_N.mean()
    # In float32 a line search may end before the gradient is small; float64 has the digits for it.
    if not any(_converges(model, x, labels_N, weights_N) for x in (x_NA, x_NA.astype(np.float64))):
        raise TrainingError(
            f"the classification layer has not converged under an L2 of {l2:g}; try a higher one, say "
            "--method-option l2=300"
        )
    coefficients, intercepts = model.coef_, model.intercept_
    if of_two:
        coefficients = np.concatenate([-coefficients, coefficients]) / 2
        intercepts = np.concatenate([-intercepts, intercepts]) / 2
    weight_AC[:, present] = coefficients.T
    bias_C[present] = intercepts
    return Head(weight_AC, bias_C)


def _converges(
    model: LogisticRegression, x_NA: NDArray[Any], labels_N: Ints, weights_N: Floats | None
) -> bool:
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        model.fit(x_NA, labels_N, sample_weight=weights_N)
    # L-BFGS-B says that all is well once a line search has met infinity.
    is_finite = bool(np.isfinite(model.coef_).all() and np.isfinite(model.intercept_).all())
    return is_finite and not any(issubclass(each.category, ConvergenceWarning) for each in told)


def folds_of(labels_N: Ints, *, seed: int) -> Ints:
    """The fold of every example, class by class in proportion; a small class is in fewer folds.

    Raises:
        TrainingError: no class has two examples.
    """
    num_folds = min(NUM_FOLDS, len(labels_N))
    folds_N = np.zeros(len(labels_N), np.int64)
    largest = int(np.bincount(labels_N).max())
    if largest < 2:
        raise TrainingError("no class has two examples to train on, so that nothing can be asked out of fold")
    splitter = StratifiedKFold(min(num_folds, max(2, largest)), shuffle=True, random_state=seed % 2**32)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The least populated class", category=UserWarning)
        for fold, (_, held) in enumerate(splitter.split(labels_N, labels_N)):
            folds_N[held] = fold
    return folds_N


def out_of_fold(
    x_NA: Floats,
    labels_N: Ints,
    num_classes: int,
    folds_N: Ints,
    *,
    l2: float,
    weights_N: Floats | None = None,
) -> Floats:
    """Logits (N, C) of every example by the head of the folds that it is not in."""
    logits_NC = np.zeros((len(x_NA), num_classes), np.float32)
    for fold in np.unique(folds_N):
        held = folds_N == fold
        weights = None if weights_N is None else weights_N[~held]
        head = fit(x_NA[~held], labels_N[~held], num_classes, l2=l2, weights_N=weights)
        logits_NC[held] = head.logits(x_NA[held])
    return logits_NC


def log_probabilities(logits_NC: Floats) -> Floats:
    """Logs of the softmax."""
    return np.asarray(logits_NC - logsumexp(logits_NC, axis=1, keepdims=True), np.float32)


def tuned_l2(
    x_NA: Floats, labels_N: Ints, num_classes: int, folds_N: Ints, l2s: Sequence[float] = L2S
) -> tuple[float, Floats]:
    """The L2 of the lowest mean out-of-fold loss, and the out-of-fold logits under it.

    A class without an example in a fold's training part counts as a probability of 1e-9.
    """
    found: tuple[float, float, Floats] | None = None
    rows = np.arange(len(labels_N))
    for l2 in l2s:
        logits_NC = out_of_fold(x_NA, labels_N, num_classes, folds_N, l2=l2)
        loss = -float(np.maximum(log_probabilities(logits_NC)[rows, labels_N], np.log(1e-9)).mean())
        if found is None or loss < found[0]:
            found = loss, l2, logits_NC
    assert found is not None
    return found[1], found[2]
