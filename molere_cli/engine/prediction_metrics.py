"""What is measured about predictions: per example, and over a test set.

Shapes: B or N examples, C classes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from statistics import fmean, median
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

ECE_BINS = 15


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


@dataclass(frozen=True, kw_only=True, eq=False)
class Predictions:
    """What a classifier says about N examples, on the CPU; (N,) each, int64 or float32.

    predicted: the likeliest class, with its probability; second: the next likely, with its own (-1 and 0
    where there is one class). label_probability, margin (probabilistic), loss (cross-entropy in nats) are of
    the label. squared_error: the squared distance of all probabilities from the label. label_place: how many
    classes are likelier than the label. in_top5: bool, None with fewer than six classes. groups: None
    without, -1 for an example of none.
    """

    labels: Tensor
    predicted: Tensor
    probability: Tensor
    second: Tensor
    second_probability: Tensor
    label_probability: Tensor
    margin: Tensor
    loss: Tensor
    squared_error: Tensor
    label_place: Tensor
    in_top5: Tensor | None
    num_classes: int
    groups: Tensor | None = None

    @classmethod
    def of_logits(cls, logits_NC: Tensor, labels_N: Tensor, groups_N: Tensor | None = None) -> Predictions:
        """From logits, float32 (N, C)."""
        predicted_N, probabilities_NC = logits_NC.argmax(dim=1), logits_NC.softmax(dim=1)
        num_classes = logits_NC.shape[1]
        if num_classes > 1:
            second_N = probabilities_NC.scatter(1, predicted_N[:, None], -1.0).argmax(dim=1)
            second_probability_N = _of_class(probabilities_NC, second_N)
        else:
            second_N, second_probability_N = torch.full_like(labels_N, -1), logits_NC.new_zeros(len(labels_N))
        in_top5_N = None
        if num_classes > 5:
            in_top5_N = (logits_NC.topk(5, dim=1).indices == labels_N[:, None]).any(dim=1)
        return cls(
            labels=labels_N,
            predicted=predicted_N,
            probability=_of_class(probabilities_NC, predicted_N),
            second=second_N,
            second_probability=second_probability_N,
            label_probability=_of_class(probabilities_NC, labels_N),
            margin=probabilistic_margin(logits_NC, labels_N),
            loss=F.cross_entropy(logits_NC, labels_N, reduction="none"),
            squared_error=error_norm(logits_NC, labels_N).double().square(),
            label_place=(logits_NC > logits_NC.gather(1, labels_N[:, None])).sum(dim=1),
            in_top5=in_top5_N,
            num_classes=num_classes,
            groups=groups_N,
        )

    @classmethod
    def joined(cls, parts: Sequence[Predictions]) -> Predictions:
        """Of all examples of some parts, one at least, in their order."""

        def together(name: str) -> Any:
            values = [getattr(part, name) for part in parts]
            return torch.cat(values) if isinstance(values[0], Tensor) else values[0]

        return cls(**{field.name: together(field.name) for field in fields(cls)})

    def changed(self, change: Callable[[Tensor], Tensor]) -> Predictions:
        """With something done to each of the tensors."""

        def of(name: str) -> Any:
            value = getattr(self, name)
            return change(value) if isinstance(value, Tensor) else value

        return Predictions(**{field.name: of(field.name) for field in fields(self)})


def _of_class(values_NC: Tensor, classes_N: Tensor) -> Tensor:
    return values_NC.gather(1, classes_N[:, None]).squeeze(1)


def summarize(predictions: Predictions) -> dict[str, float]:
    """Accuracy, top-5 accuracy (from six classes on), balanced accuracy, macro F1, worst class and group,
    mean and median margin, NLL, ECE (15 bins), Brier score.

    What is of classes is of those that have examples here: the mean of their accuracies, the lowest, the
    mean of their F1 (as in WILDS, arXiv 2012.07421). The Brier score is the squared distance of all
    probabilities from the label, in [0, 2] (Brier 1950).
    """
    # Here, since it takes seconds to import, in which a run could have told of its user's mistake.
    from torchmetrics.functional.classification import binary_calibration_error

    by_class = [accuracy for accuracy in class_accuracies(predictions) if not math.isnan(accuracy)]
    right_N = predictions.predicted == predictions.labels
    summary = {
        "accuracy": float(right_N.double().mean()),
        "balanced_accuracy": fmean(by_class),
        "worst_class": min(by_class),
        "macro_f1": _macro_f1(predictions),
        "margin": float(predictions.margin.double().mean()),
        "median_margin": median(predictions.margin.tolist()),
        "nll": float(predictions.loss.double().mean()),
        "brier": float(predictions.squared_error.mean()),
        # The error of the predicted class's probability, whatever the number of classes.
        "ece": float(binary_calibration_error(predictions.probability, right_N.long(), n_bins=ECE_BINS)),
    }
    if predictions.in_top5 is not None:
        summary["top5"] = float(predictions.in_top5.float().mean())
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
    labels_N, num_classes = predictions.labels, predictions.num_classes
    totals_C = labels_N.bincount(minlength=num_classes)
    correct_C = labels_N[predictions.predicted == labels_N].bincount(minlength=num_classes)
    return [float(value) for value in correct_C.double() / totals_C.double()]


def _macro_f1(predictions: Predictions) -> float:
    from torchmetrics.functional.classification import multiclass_f1_score

    f1_C = multiclass_f1_score(
        predictions.predicted,
        predictions.labels,
        num_classes=predictions.num_classes,
        average="none",
    )
    return float(f1_C[predictions.labels.unique()].double().mean())


def _accuracy(predictions: Predictions, mask_N: Tensor) -> float:
    correct_N = predictions.predicted == predictions.labels
    return float(correct_N[mask_N].double().mean())
