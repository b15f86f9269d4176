"""Summaries of predictions against scikit-learn and torchmetrics and by hand, in parts and as a whole."""

from __future__ import annotations

from dataclasses import fields

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import f1_score
from torchmetrics.functional.classification import multiclass_accuracy, multiclass_calibration_error

from molere_cli.engine.prediction_metrics import Predictions, group_accuracies, summarize


def predictions_of(predicted, labels, *, num_classes, groups=None) -> Predictions:
    """Logits whose largest entry is the class predicted."""
    logits = torch.zeros(len(labels), num_classes)
    logits[torch.arange(len(labels)), torch.tensor(predicted)] = 1.0
    return Predictions.of_logits(
        logits, torch.tensor(labels), None if groups is None else torch.tensor(groups)
    )


@given(pairs=st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=1, max_size=30))
def test_macro_f1_is_scikit_learns_over_the_classes_that_occur(pairs):
    predicted, labels = (list(side) for side in zip(*pairs, strict=True))
    expected = f1_score(labels, predicted, labels=sorted(set(labels)), average="macro", zero_division=0)
    summary = summarize(predictions_of(predicted, labels, num_classes=7))
    assert summary["macro_f1"] == pytest.approx(expected, abs=1e-6)


def test_a_class_without_examples_does_not_count_for_macro_f1_though_it_is_predicted():
    """Class 0: precision 1, recall 1/2; class 2 has no example."""
    summary = summarize(predictions_of([0, 2, 1, 1], [0, 0, 1, 1], num_classes=4))
    assert summary["macro_f1"] == pytest.approx((2 / 3 + 1) / 2)


def test_examples_of_no_group_do_not_count_for_the_worst_group():
    found = predictions_of([0, 1, 0, 0, 1], [0, 1, 1, 1, 0], num_classes=2, groups=[0, 0, 3, -1, -1])
    assert group_accuracies(found) == {0: 1.0, 3: 0.0}
    found = predictions_of([0, 1, 0, 0], [0, 1, 1, 1], num_classes=2, groups=[0, 0, -1, -1])
    assert summarize(found)["worst_group"] == 1.0
    assert summarize(found)["accuracy"] == 0.5


def test_without_any_group_there_is_no_worst_one():
    assert "worst_group" not in summarize(predictions_of([0], [0], num_classes=2, groups=[-1]))


# --- batch by batch


def drawn(num_examples, num_classes, *, spread=3.0):
    generator = torch.Generator().manual_seed(num_examples + num_classes)
    logits = spread * torch.randn(num_examples, num_classes, generator=generator)
    return logits, torch.randint(num_classes, (num_examples,), generator=generator)


@pytest.mark.parametrize("num_classes", [1, 2, 5, 6, 10, 1000])
@pytest.mark.parametrize("size", [1, 7, 64, 200])
def test_parts_together_are_the_whole_to_the_bit(num_classes, size):
    logits, labels = drawn(200, num_classes)
    whole = Predictions.of_logits(logits, labels)
    parts = [
        Predictions.of_logits(*pair) for pair in zip(logits.split(size), labels.split(size), strict=True)
    ]
    joined = Predictions.joined(parts)
    for field in fields(Predictions):
        ours, theirs = getattr(joined, field.name), getattr(whole, field.name)
        same = torch.equal(ours, theirs) if isinstance(ours, torch.Tensor) else ours == theirs
        assert same, field.name
    if num_classes > 1:
        assert summarize(joined) == summarize(whole)


@pytest.mark.parametrize("spread", [0.1, 3.0, 60.0, 0.0])
@pytest.mark.parametrize("num_classes", [2, 6, 100])
def test_calibration_and_top_5_are_torchmetrics_of_all_probabilities(num_classes, spread):
    logits, labels = drawn(999, num_classes, spread=spread)
    summary = summarize(Predictions.of_logits(logits, labels))
    expected = multiclass_calibration_error(logits.softmax(dim=1), labels, num_classes=num_classes, n_bins=15)
    assert summary["ece"] == pytest.approx(float(expected), abs=1e-7)
    if num_classes > 5:
        top = multiclass_accuracy(logits, labels, num_classes=num_classes, top_k=5, average="micro")
        assert summary["top5"] == float(top)
    else:
        assert "top5" not in summary
    probabilities = logits.double().softmax(dim=1)
    one_hot = torch.nn.functional.one_hot(labels, num_classes)
    brier = float((probabilities - one_hot).square().sum(dim=1).mean())
    assert summary["brier"] == pytest.approx(brier, abs=1e-6)


def test_a_class_that_is_as_likely_as_the_label_is_not_before_it():
    logits = torch.tensor([[0.0, 0.0, 0.0, 0.0], [3.0, 1.0, 1.0, 2.0]])
    assert Predictions.of_logits(logits, torch.tensor([2, 2])).label_place.tolist() == [0, 2]
