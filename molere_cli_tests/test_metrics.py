"""Summaries of predictions against scikit-learn and by hand."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import f1_score

from molere_cli.metrics import Predictions, group_accuracies, summarize


def predictions_of(predicted, labels, *, num_classes, groups=None) -> Predictions:
    """Logits whose largest entry is the class predicted."""
    logits = torch.zeros(len(labels), num_classes)
    logits[torch.arange(len(labels)), torch.tensor(predicted)] = 1.0
    return Predictions(logits, torch.tensor(labels), None if groups is None else torch.tensor(groups))


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
