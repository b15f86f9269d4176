"""What the pool says of its hard examples, and which split follows."""

from __future__ import annotations

import math

import molere_splits.target_selection as target_selection
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from molere_splits.evidence import Evidence, in_standard_errors, wrong_label_share

from molere_cli import SplitRequest
from molere_cli.data.source import load_dataset
from molere_cli.engine.prediction_metrics import Predictions
from molere_cli.foundation.progress import NoProgress
from molere_cli.hardness.make_split import make_split
from molere_cli_tests.training import tiny_config


@given(
    st.lists(st.lists(st.integers(-9, 9), min_size=5, max_size=5, unique=True), min_size=1, max_size=9),
    st.data(),
)
def test_the_place_of_a_label_is_where_sorting_puts_it(rows, data):
    labels = [data.draw(st.integers(0, 4)) for _ in rows]
    expected = [sorted(row, reverse=True).index(row[label]) for row, label in zip(rows, labels, strict=True)]
    found = Predictions.of_logits(torch.tensor(rows).float(), torch.tensor(labels))
    assert found.label_place.tolist() == expected


@pytest.mark.parametrize("num_classes", [4, 10, 100])
@pytest.mark.parametrize("wrong", [0.0, 0.1, 0.4])
def test_the_share_of_wrong_labels_is_estimated_from_unlikely_places(num_classes, wrong):
    generator = torch.Generator().manual_seed(0)
    is_wrong_N = torch.rand(50_000, generator=generator) < wrong
    # A wrong label is anywhere but first, a right one is among the first half.
    at_random_N = torch.randint(1, num_classes, (50_000,), generator=generator)
    likely_N = torch.randint(0, num_classes // 2, (50_000,), generator=generator)
    place_N = torch.where(is_wrong_N, at_random_N, likely_N)
    anywhere_but_first = num_classes / (num_classes - 1)
    assert wrong_label_share(place_N, num_classes) == pytest.approx(wrong * anywhere_but_first, abs=0.012)


@pytest.mark.parametrize("num_classes", [2, 3])
def test_with_few_classes_no_label_is_called_wrong(num_classes):
    assert wrong_label_share(torch.ones(10).long(), num_classes) == 0


def evidence(**changes) -> Evidence:
    values = {
        "num_errors": 4,
        "others_right": 0.99,
        "errors_rise": 2.0,
        "wrong_labels": 0.02,
    }
    return Evidence(**{**values, **changes})


def choose(strategy, monkeypatch, found: Evidence):
    """What `auto` or `learnable` makes of evidence; of each class of 20, the second half is easy, and 3 are
    early errors."""
    monkeypatch.setattr(target_selection, "gather_evidence", lambda request, errors: found)
    hardness = torch.cat([torch.linspace(0.29, -0.9, 20)] * 2).double()
    request = SplitRequest(
        labels=torch.arange(40) // 20,
        indices=torch.arange(40),
        hardness=hardness,
        hardness_by={"aum": hardness}.__getitem__,
        delta=0.1,
        generator=torch.Generator().manual_seed(0),
    )
    return request, strategy(request)


def test_wrong_labels_are_skipped_and_not_made_up_for(monkeypatch):
    request, found = choose(
        target_selection.choose_auto, monkeypatch, evidence(wrong_labels=0.5, errors_rise=None)
    )
    assert found.represented_fraction == 0.5
    assert not found.keeps_base_weight
    assert found.score == "aum"
    assert found.in_validation.sum() == 4
    assert (found.in_validation.nonzero() % 20 >= 10).all()
    assert request.labels[found.in_validation].tolist() == [0, 0, 1, 1]
    assert "about 50% of the labels seem to be wrong" in found.finding


def test_errors_at_random_of_a_solved_task_are_wrong_labels_too(monkeypatch):
    _, found = choose(
        target_selection.choose_auto, monkeypatch, evidence(errors_rise=-1.0, wrong_labels=0.05)
    )
    assert found.represented_fraction == 0.95


def test_where_no_label_is_wrong_none_is_said_to_be(monkeypatch):
    _, found = choose(target_selection.choose_auto, monkeypatch, evidence(errors_rise=-1.0, wrong_labels=0.0))
    assert found.represented_fraction == 1
    assert found.finding.startswith("hardly a label seems to be wrong")


def test_errors_of_a_solved_task_are_asked_for_beside_the_rest(monkeypatch):
    _, found = choose(target_selection.choose_auto, monkeypatch, evidence())
    assert found.in_validation.nonzero().flatten().tolist() == [0, 1, 20, 21]
    assert found.represented_fraction == 0.1
    assert found.keeps_base_weight
    assert "rare rather than wrong" in found.finding


@pytest.mark.parametrize(
    ("differences", "expected"),
    [
        ([], 0.0),
        ([3], 0.0),
        ([0, 0, 0], 0.0),
        ([2, 2, 2], math.inf),
        ([-1, -1], -math.inf),
        ([1, 2, 3], 2 / (1 / math.sqrt(3))),
    ],
)
def test_a_rise_is_counted_in_standard_errors_of_its_mean(differences, expected):
    found = in_standard_errors(torch.tensor(differences, dtype=torch.int64))
    assert found == pytest.approx(expected)


def test_without_evidence_nothing_is_asked_that_erm_does_not_do(monkeypatch):
    _, found = choose(target_selection.choose_auto, monkeypatch, evidence(errors_rise=None))
    assert found.represented_fraction == 1
    assert found.in_validation.sum() == 4
    assert "nothing speaks against ERM" in found.finding


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"dataset": "colour-digits"}, "rare rather than wrong"),
        ({"dataset": "digits", "label_noise": "uniform"}, "of the labels seem to be wrong"),
    ],
)
def test_auto_finds_out_on_real_digits(registry, tmp_path, settings, sentence):
    config = tiny_config(**{"backbone": "small_cnn", "epochs": 20, **settings}, method="lrw", split="auto")
    data = load_dataset(config.data, registry)
    split = make_split(config, registry, data, erm=None, runs=tmp_path, progress=NoProgress())
    assert sentence in split.info.finding
