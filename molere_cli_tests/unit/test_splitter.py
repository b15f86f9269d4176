"""The splitter's losses against hand-computed values, its membership rules, and what it finds."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.special import rel_entr
from torch.nn import functional as F

from molere_cli.foundation.errors import TrainingError
from molere_cli.methods.splitter import (
    FeaturesSplitter,
    balance_loss,
    gap_loss,
    membership,
    ratio_loss,
    val_loss_term,
)


def test_ratio_loss_is_the_kl_of_two_point_distributions():
    val_prob_B = torch.tensor([0.2, 0.7, 0.4, 0.1], dtype=torch.float64)
    expected = rel_entr([0.1, 0.9], [0.35, 0.65]).sum()
    assert ratio_loss(val_prob_B.logit(), delta=0.1).item() == pytest.approx(expected, rel=1e-12)


def test_ratio_loss_vanishes_at_delta():
    logits_B = torch.full((7,), 0.3, dtype=torch.float64).logit()
    assert ratio_loss(logits_B, delta=0.3).item() == pytest.approx(0, abs=1e-15)


@pytest.mark.parametrize("logit", [-300.0, 300.0])
def test_ratio_loss_is_finite_and_alive_when_all_probabilities_round_to_0_or_1(logit):
    logits_B = torch.full((5,), logit, requires_grad=True)
    loss = ratio_loss(logits_B, delta=0.1) - val_loss_term(logits_B, torch.arange(5.0))
    loss.backward()
    assert math.isfinite(loss.item())
    assert (logits_B.grad.sum() * logit) > 0


@pytest.mark.parametrize("labels", [[0, 0, 1, 2, 2, 1], [0, 0, 0, 2, 2, 2], [1, 1, 1, 1, 1, 1]])
def test_balance_loss_is_a_sum_of_kls_also_when_the_batch_lacks_classes(labels):
    val_prob = [0.2, 0.7, 0.4, 0.1, 0.9, 0.6]
    prior, smoothing = [0.5, 0.3, 0.2], 0.5
    expected = 0.0
    for membership_ in (val_prob, [1 - p for p in val_prob]):
        given = [
            (sum(p for p, y in zip(membership_, labels, strict=True) if y == c) + smoothing * prior[c])
            / (sum(membership_) + smoothing)
            for c in range(3)
        ]
        expected += rel_entr(prior, given).sum()
    found = balance_loss(
        torch.tensor(val_prob, dtype=torch.float64),
        torch.tensor(labels),
        torch.tensor(prior, dtype=torch.float64),
        smoothing=smoothing,
    )
    assert found.item() == pytest.approx(expected, rel=1e-12)


def test_balance_loss_keeps_its_gradient_when_the_batch_lacks_classes():
    val_prob_B = torch.tensor([0.9, 0.1, 0.2], requires_grad=True)
    loss = balance_loss(val_prob_B, torch.tensor([0, 1, 1]), torch.full((100,), 0.01))
    loss.backward()
    assert math.isfinite(loss.item())
    assert val_prob_B.grad.abs().min() > 1e-4
    # Class 0 is over-represented in validation, so descent takes its example out.
    assert val_prob_B.grad[0] > 0


def test_gap_loss_sends_right_ones_back_and_keeps_wrong_ones():
    logits_V = torch.zeros(2, requires_grad=True)
    gap_loss(logits_V, torch.tensor([True, False])).backward()
    assert logits_V.grad[0] < 0 < logits_V.grad[1]
    expected = -(math.log(0.5) + math.log(0.5)) / 2
    assert gap_loss(torch.zeros(2), torch.tensor([True, False])).item() == pytest.approx(expected)


def test_val_loss_term_is_the_weighted_mean():
    found = val_loss_term(torch.tensor([0.5, 0.25]).logit(), torch.tensor([1.0, 3.0]))
    assert found.item() == pytest.approx((0.5 * 1 + 0.25 * 3) / 0.75)


def test_threshold_membership_is_capped_at_delta_by_the_highest():
    val_prob_N = torch.tensor([0.6, 0.9, 0.1, 0.8, 0.7, 0.2, 0.2, 0.2, 0.2, 0.2])
    found = membership(val_prob_N.logit(), torch.zeros(10, dtype=torch.long), rule="threshold", delta=0.2)
    assert found.nonzero().squeeze(1).tolist() == [1, 3]


def test_an_empty_threshold_set_is_an_error_that_says_so():
    with pytest.raises(TrainingError, match=r"no example above 0\.5 .*--membership quota"):
        membership(
            torch.full((10,), 0.4).logit(), torch.zeros(10, dtype=torch.long), rule="threshold", delta=0.2
        )


def test_quota_membership_takes_the_highest_of_each_class():
    val_prob_N = torch.tensor([0.1, 0.2, 0.3, 0.4, 0.9, 0.8, 0.7, 0.6])
    labels_N = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1])
    found = membership(val_prob_N.logit(), labels_N, rule="quota", delta=0.25)
    assert found.nonzero().squeeze(1).tolist() == [3, 4]


@pytest.mark.parametrize("rule", ["quota", "threshold"])
def test_membership_tells_apart_what_a_probability_cannot(rule):
    val_logits_N = torch.arange(17.0, 31.0)
    assert val_logits_N.sigmoid().unique().tolist() == [1.0]
    found = membership(val_logits_N, torch.zeros(14, dtype=torch.long), rule=rule, delta=0.25)
    assert found.nonzero().squeeze(1).tolist() == [11, 12, 13]


def test_the_features_splitter_can_tell_a_wrong_label_from_a_right_one():
    """Features that show the true class, joined with the label: the mismatch is learnable."""
    torch.manual_seed(0)
    truth_N = torch.randint(0, 4, (400,))
    labels_N = torch.where(torch.rand(400) < 0.2, (truth_N + 1) % 4, truth_N)
    features_ND = F.one_hot(truth_N, 4).float() + 0.1 * torch.randn(400, 4)
    splitter = FeaturesSplitter(4, 4)
    optimizer = torch.optim.Adam(splitter.parameters(), lr=1e-2)
    for _ in range(200):
        loss = gap_loss(splitter(features_ND, labels_N), labels_N != truth_N)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    found = splitter(features_ND, labels_N) > 0
    assert (found == (labels_N != truth_N)).float().mean() > 0.99
