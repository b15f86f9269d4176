"""What is measured about predictions: per example, and over a test set.

Shapes: B or N examples, C classes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean, median
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F


def probabilistic_margin(logits_BC: Tensor, labels_B: Tensor) -> Tensor:
    """p_y - max over c != y of p_c, in [-1, 1]; low = hard. Float of the logits' dtype, (B,)."""
    probabilities_BC = logits_BC.softmax(dim=1)
    own_B = probabilities_BC.gather(1, labels_B[:, None]).squeeze(1)
    others_BC = probabilities_BC.scatter(1, labels_B[:, None], -1.0)
    return own_B - others_BC.max(dim=1).values


def error_norm(logits_BC: Tensor, labels_B: Tensor) -> Tensor:
    """|| softmax(z) - onehot(y) ||_2, in [0, sqrt 2]; high = hard. Float of the logits' dtype, (B,)."""
    one_hot_BC = F.one_hot(labels_B, logits_BC.shape[1]).to(logits_BC.dtype)
    norms_B: Tensor = torch.linalg.vector_norm(logits_BC.softmax(dim=1) - one_hot_BC, dim=1)
    return norms_B


class Likeliest(NamedTuple):
    """values: probabilities, float32 (N, K), the highest first; classes: int64 (N, K)."""

    values: Tensor
    classes: Tensor


@dataclass(frozen=True, eq=False)
class Predictions:
    """What a classifier says about N examples, on the CPU; logits float32 (N, C), labels int64 (N,)."""

    logits: Tensor
    labels: Tensor
    groups: Tensor | None = None

    @property
    def predicted(self) -> Tensor:
        """int64 (N,)."""
        return self.logits.argmax(dim=1)

    @property
    def likeliest(self) -> Likeliest:
        """The two likeliest classes of each example, `predicted` first; one where there is one."""
        probabilities_NC = self.logits.softmax(dim=1)
        rest_NC = probabilities_NC.scatter(1, self.predicted[:, None], -1.0)
        classes = torch.stack([self.predicted, rest_NC.argmax(dim=1)], dim=1)[:, : self.logits.shape[1]]
        return Likeliest(probabilities_NC.gather(1, classes), classes)

    @property
    def label_probabilities(self) -> Tensor:
        """float32 (N,)."""
        return self.logits.softmax(dim=1).gather(1, self.labels[:, None]).squeeze(1)

    @property
    def margins(self) -> Tensor:
        """Probabilistic margins, float32 (N,)."""
        return probabilistic_margin(self.logits, self.labels)

    @property
    def losses(self) -> Tensor:
        """Cross-entropy of each example in nats, float32 (N,)."""
        return F.cross_entropy(self.logits, self.labels, reduction="none")


def among_present(predictions: Predictions) -> Predictions:
    """The predictions of a classifier that can choose among the classes of these examples alone."""
    present_C = torch.zeros(predictions.logits.shape[1], dtype=torch.bool)
    present_C[predictions.labels] = True
    return replace(predictions, logits=predictions.logits.masked_fill(~present_C, -torch.inf))


def summarize(predictions: Predictions) -> dict[str, float]:
    """Accuracy, top-5 accuracy (from six classes on), balanced accuracy, macro F1, worst class and group,
    mean and median margin, NLL, ECE (15 bins), Brier score.

    What is of classes is of those that have examples here: the mean of their accuracies, the lowest, the
    mean of their F1 (as in WILDS, arXiv 2012.07421). The Brier score is the squared distance of all
    probabilities from the label, in [0, 2] (Brier 1950).
    """
    # Here, since it takes seconds to import, in which a run could have told of its user's mistake.
    from torchmetrics.functional.classification import multiclass_accuracy, multiclass_calibration_error

    by_class = [accuracy for accuracy in class_accuracies(predictions) if not math.isnan(accuracy)]
    logits_NC, labels_N = predictions.logits, predictions.labels
    num_classes = logits_NC.shape[1]
    summary = {
        "accuracy": _accuracy(predictions, torch.ones_like(labels_N, dtype=torch.bool)),
        "balanced_accuracy": fmean(by_class),
        "worst_class": min(by_class),
        "macro_f1": _macro_f1(predictions),
        "margin": float(predictions.margins.double().mean()),
        "median_margin": median(predictions.margins.tolist()),
        "nll": float(predictions.losses.double().mean()),
        "brier": float(error_norm(logits_NC, labels_N).double().square().mean()),
        "ece": float(
            multiclass_calibration_error(
                logits_NC.softmax(dim=1), labels_N, num_classes=num_classes, n_bins=15
            )
        ),
    }
    if num_classes > 5:
        summary["top5"] = float(
            multiclass_accuracy(logits_NC, labels_N, num_classes=num_classes, top_k=5, average="micro")
        )
    if predictions.groups is not None and (by_group := group_accuracies(predictions)):
        summary["worst_group"] = min(by_group.values())
    return summary


def group_accuracies(predictions: Predictions) -> dict[int, float]:
    """Accuracy in each group that occurs; examples of no group (-1) count for none."""
    assert predictions.groups is not None
    groups_N = predictions.groups
    occurring = groups_N[groups_N >= 0].unique()
    return {int(group): _accuracy(predictions, groups_N == group) for group in occurring}


def named_group_accuracies(predictions: Predictions, names: Sequence[str]) -> dict[str, float]:
    """Accuracy in each group that occurs, by name, the worst first; a group without a name has its number."""
    ordered = sorted(group_accuracies(predictions).items(), key=lambda item: item[1])
    return {names[group] if group < len(names) else str(group): accuracy for group, accuracy in ordered}


def class_accuracies(predictions: Predictions) -> list[float]:
    """Accuracy on each class, nan for one without examples; C values."""
    labels_N, num_classes = predictions.labels, predictions.logits.shape[1]
    totals_C = labels_N.bincount(minlength=num_classes)
    correct_C = labels_N[predictions.predicted == labels_N].bincount(minlength=num_classes)
    return [float(value) for value in correct_C.double() / totals_C.double()]


def _macro_f1(predictions: Predictions) -> float:
    from torchmetrics.functional.classification import multiclass_f1_score

    f1_C = multiclass_f1_score(
        predictions.predicted,
        predictions.labels,
        num_classes=predictions.logits.shape[1],
        average="none",
    )
    return float(f1_C[predictions.labels.unique()].double().mean())


def _accuracy(predictions: Predictions, mask_N: Tensor) -> float:
    correct_N = predictions.predicted == predictions.labels
    return float(correct_N[mask_N].double().mean())
