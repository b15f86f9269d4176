"""Solved classification layers: right to the optimum, blind to what is held out, and left alone by steps."""

from __future__ import annotations

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from molere_heads import linear_head
from molere_heads.linear_head import Axes, fit, folds_of, log_probabilities, out_of_fold, tuned_l2
from molere_heads.rare import scores, tilted
from molere_heads.robust import discriminants, suspects
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from molere_cli.foundation.errors import ConfigError, TrainingError
from molere_cli_tests.training import (
    KilledAfter,
    Notebook,
    assert_same_tensors,
    tensors_of,
    tiny_config,
    train_methods,
    train_one,
    without_times,
)


def problem(*, number=300, dims=20, classes=4, seed=0):
    """Features whose first axes tell the class, and labels."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, classes, number)
    features = generator.normal(size=(number, dims)) * np.linspace(3, 0.1, dims)
    features[:, :classes] += 7 * np.eye(classes)[labels]
    return features.astype(np.float32) + 5, labels


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("weighted", [False, True])
def test_the_gradient_at_the_solution_is_zero(classes, weighted):
    features, labels = problem(classes=classes)
    x = Axes.of(features)(features)
    weights = np.random.default_rng(1).uniform(0.1, 50, len(x)).astype(np.float32) if weighted else None
    head = fit(x, labels, classes, l2=30.0, weights_N=weights)
    weight = torch.tensor(head.weight_AC, dtype=torch.float64, requires_grad=True)
    bias = torch.tensor(head.bias_C, dtype=torch.float64, requires_grad=True)
    inputs, targets = torch.tensor(x, dtype=torch.float64), torch.tensor(labels)
    losses = torch.nn.functional.cross_entropy(inputs @ weight + bias, targets, reduction="none")
    given = torch.ones(len(x), dtype=torch.float64) if weights is None else torch.tensor(weights).double()
    loss = (given / given.mean() * losses).mean() + 30.0 / (2 * len(x)) * weight.square().sum()
    for gradient in torch.autograd.grad(loss, [weight, bias]):
        assert float(gradient.abs().max()) < 2e-4


def test_a_head_on_features_is_the_head_on_axes():
    features, labels = problem(dims=40)
    axes = Axes.of(features[:30])  # fewer examples than dimensions
    x = axes(features[:30])
    assert x.shape[1] == 29
    assert np.square(x).sum(axis=1).mean() == pytest.approx(100, rel=1e-3)
    head = fit(x, labels[:30], 4, l2=10.0)
    np.testing.assert_allclose(
        head.on_features(axes).logits(features), head.logits(axes(features)), rtol=1e-3, atol=1e-3
    )


def test_out_of_fold_logits_owe_nothing_to_their_own_fold():
    features, labels = problem()
    folds = folds_of(labels, seed=0)
    before = out_of_fold(features, labels, 4, folds, l2=30.0)
    changed = labels.copy()
    changed[folds == 2] = (labels[folds == 2] + 1) % 4
    after = out_of_fold(features, changed, 4, folds, l2=30.0)
    np.testing.assert_array_equal(before[folds == 2], after[folds == 2])
    assert (before[folds != 2] != after[folds != 2]).any()


def test_folds_hold_every_class_in_proportion_and_each_example_once():
    labels = np.repeat([0, 1, 2], [50, 25, 1])
    folds = folds_of(labels, seed=3)
    assert np.bincount(folds).tolist() == [16, 15, 15, 15, 15] or sorted(np.bincount(folds)) == [15] * 4 + [
        16
    ]
    for label, number in ((0, 10), (1, 5)):
        assert np.bincount(folds[labels == label]).tolist() == [number] * 5
    assert (folds != folds_of(labels, seed=4)).any()


def test_the_l2_is_that_of_the_lowest_loss_out_of_fold():
    features, labels = problem(number=60, dims=50)
    x, folds = Axes.of(features)(features), folds_of(labels, seed=0)
    losses = {
        l2: -log_probabilities(out_of_fold(x, labels, 4, folds, l2=l2))[np.arange(60), labels].mean()
        for l2 in (1.0, 30.0, 3000.0)
    }
    l2, logits = tuned_l2(x, labels, 4, folds, list(losses))
    assert losses[l2] == min(losses.values())
    np.testing.assert_array_equal(logits, out_of_fold(x, labels, 4, folds, l2=l2))


def test_a_class_of_one_example_and_a_class_of_none_get_a_head():
    features, labels = problem()
    labels = np.where(labels == 3, 1, labels)
    labels[7] = 2
    labels[(labels == 2) & (np.arange(300) != 7)] = 0
    x, folds = Axes.of(features)(features), folds_of(labels, seed=0)
    l2, logits = tuned_l2(x, labels, 5, folds)
    assert np.isfinite(logits).all() and logits.shape == (300, 5)
    head = fit(x, labels, 5, l2=l2)
    assert set(head.logits(x).argmax(axis=1)) <= {0, 1, 2}


@pytest.mark.parametrize("fraction", [0.2, 0.65, 0.9])
def test_mistakes_carry_the_fraction_of_the_weight_that_was_asked_for(fraction):
    features, labels = problem()
    x = Axes.of(features)(features)
    probability, mistaken = scores(x, labels, 4, folds_of(labels, seed=0))
    assert 0 < mistaken.mean() < 0.2
    weights = tilted(probability, mistaken, fraction)
    assert weights[mistaken].sum() / weights.sum() == pytest.approx(fraction, abs=1e-3)
    assert weights.mean() == pytest.approx(1, abs=1e-5)
    order = np.argsort(probability)
    assert (np.diff(weights[order]) <= 1e-6).all()


def test_without_mistakes_or_with_too_many_all_weights_are_one():
    probability = np.linspace(0.1, 0.9, 10).astype(np.float32)
    assert tilted(probability, np.zeros(10, dtype=bool), 0.65) is None
    assert tilted(probability, np.arange(10) < 7, 0.65) is None


def head(**changes):
    return tiny_config(**{"freeze_backbone": True, "method": "logreg", "epochs": 3, **changes})


@pytest.mark.parametrize("method", ["logreg", "logreg-robust", "logreg-rare", "logreg-balanced"])
def test_no_step_moves_the_head(method, registry, tmp_path):
    """Whatever the optimizer does to weights without a gradient."""
    once = train_one(head(method=method, epochs=1), registry, tmp_path / "once")
    often = train_one(
        head(method=method, epochs=5, lr=1.0, weight_decay=0.5, momentum=0.9), registry, tmp_path / "often"
    )
    assert_same_tensors(tensors_of(once), tensors_of(often))
    assert once.metrics()[-1]["test/accuracy"] > 0.9


def test_a_stopped_run_goes_on_to_the_same_bits(registry, tmp_path):
    config = head(method="logreg-rare")
    whole = train_one(config, registry, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train_one(config, registry, tmp_path / "runs", KilledAfter(1, label_part="logreg-rare", step=1))
    outcome = train_methods(
        [config], [0], registry, runs=tmp_path / "runs", resume_unfinished=True, progress=Notebook()
    )
    (run,) = outcome.finished
    assert_same_tensors(tensors_of(run), tensors_of(whole))
    assert without_times(run.metrics()) == without_times(whole.metrics())


def test_the_price_is_told_and_weights_are_recorded(registry, tmp_path):
    notebook = Notebook()
    config = head(method="logreg-rare", label_noise="uniform", noise_rate=0.2)
    run = train_one(config, registry, tmp_path / "runs", notebook)
    metrics = run.metrics()[-1]
    told = f"costs {metrics['head/price']:.1f} points of held-out accuracy"
    assert sum(told in note for note in notebook.notes) == 1
    table = pq.read_table(run.path / "pool.parquet")
    weights = table["weight"].to_numpy()
    assert weights.mean() == pytest.approx(1, abs=1e-4) and weights.max() > 2 * weights.min()


def test_weights_seem_to_gain_nothing_where_labels_are_chance(registry):
    """Nested folds: with scores that had seen the fold, accuracy out of fold would rise by many points."""
    from molere_heads.rare import RareHead

    features, _ = problem(number=400)
    labels = np.random.default_rng(5).integers(0, 2, 400)
    x, folds = Axes.of(features)(features), folds_of(labels, seed=0)
    method = RareHead.__new__(RareHead)
    method.context = type("Context", (), {"num_classes": 2})
    method.options = type("Options", (), {"fraction": 0.9})
    assert abs(method._price(x, labels, folds)) < 8


def test_balanced_logits_are_less_the_log_of_frequencies(registry, tmp_path):
    plain, balanced = (
        tensors_of(train_one(head(method=method, class_skew=5.0), registry, tmp_path / method))
        for method in ("logreg", "logreg-balanced")
    )
    (bias,) = (name for name in plain if name.endswith("6.bias"))
    difference = (plain[bias] - balanced[bias]).double().exp()
    assert float(difference.sum()) == pytest.approx(1, abs=1e-4)
    assert float(difference.max() / difference.min()) > 2


@pytest.mark.parametrize(
    "changes", [{"freeze_backbone": False}, {"cache_features": False}, {"augment": "crop-flip"}]
)
def test_without_features_it_says_what_it_needs(changes, registry, tmp_path):
    with pytest.raises(ConfigError, match="works on the features of a frozen backbone; add --recipe probe"):
        train_one(head(**changes), registry, tmp_path / "runs")
    assert not (tmp_path / "runs").exists() or not list((tmp_path / "runs").glob("tiny*"))


def test_suspects_are_the_planted_labels():
    features, labels = problem(number=600)
    wrong = np.random.default_rng(2).permutation(600)[:90]
    given = labels.copy()
    given[wrong] = (labels[wrong] + 1) % 4
    x = Axes.of(features)(features)
    _, logits = tuned_l2(x, given, 4, folds_of(given, seed=0))
    found = suspects(np.exp(log_probabilities(logits)), given)
    planted = np.isin(np.arange(600), wrong)
    assert found[planted].mean() > 0.8 and found[~planted].mean() < 0.1


def test_a_class_does_not_vanish_by_suspicion():
    """Its logit would be that of a class without examples."""
    probabilities = np.array([[0.9, 0.1]] * 6 + [[0.1, 0.9]] * 2 + [[0.8, 0.2]] * 2, np.float32)
    labels = np.array([0] * 8 + [1] * 2)
    found = suspects(probabilities, labels)
    assert found[6:8].all() and not found[8:].any()


@pytest.mark.parametrize("classes", [2, 4])
def test_discriminants_are_scikit_learns(classes):
    features, labels = problem(classes=classes)
    x = Axes.of(features)(features)
    head = discriminants(x, labels, classes, shrinkage=0.3)
    model = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=0.3).fit(x, labels)
    np.testing.assert_allclose(
        np.exp(log_probabilities(head.logits(x))), model.predict_proba(x), rtol=1e-3, atol=1e-4
    )


def test_a_head_that_does_not_converge_is_a_sentence(monkeypatch):
    monkeypatch.setattr(linear_head, "MAX_ITERATIONS", 2)
    features, labels = problem()
    with pytest.raises(TrainingError, match="has not converged under an L2 of 1e-06; try a higher one"):
        fit(Axes.of(features)(features), labels, 4, l2=1e-6)


def test_single_examples_of_every_class_are_a_sentence():
    with pytest.raises(TrainingError, match="no class has two examples"):
        folds_of(np.arange(4), seed=0)


def test_dfr_gives_every_group_of_a_class_the_same_weight_together(in_tmp, molere):
    flags = "--dataset colour-digits --limit-train 300 --freeze-backbone --epochs 1 --device cpu --quiet"
    assert molere(f"train --method dfr {flags} --out run").code == 0
    table = pq.read_table("run/pool.parquet")
    cells = {}
    for label, group, weight in zip(
        *(table[name].to_pylist() for name in ("label", "group", "weight")), strict=True
    ):
        cells.setdefault((label, group), []).append(weight)
    totals = [sum(weights) for weights in cells.values()]
    assert len(totals) > 10 and totals == pytest.approx([300 / len(totals)] * len(totals), rel=1e-4)
    without = molere("train --method dfr --dataset digits --freeze-backbone --epochs 1 --device cpu --quiet")
    assert without.code == 1 and "weighs by groups, which this pool has not" in without.err
