"""Learning to Split: its objective against scipy, its rounds, and what it finds."""

from __future__ import annotations

import json
from pathlib import Path

import molere_splits.learning as ls
import pyarrow.parquet as pq
import pytest
import torch
from scipy.special import expit, rel_entr
from torch import nn

from molere_cli import BackboneSpec, SplitRequest, hookimpl
from molere_cli.config.plan import make_plan
from molere_cli.data.source import load_dataset
from molere_cli.foundation.progress import NoProgress
from molere_cli.hardness.make_split import make_split
from molere_cli.training.build_engine import training_context
from molere_cli_tests.training import tiny_config


class LinearNet:
    """One linear layer on the mean of each channel: its logits are easy to work out by hand."""

    @hookimpl
    def register_backbones(self, register):
        register(BackboneSpec(name="linear_net", description="A linear layer.", build=self.build))

    def build(self, request):
        return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, request.num_classes))


def context_for(registry, **changes):
    config = tiny_config(**changes)
    return training_context(make_plan(config, registry), load_dataset(config.data, registry), None)


@pytest.fixture
def linear(registry):
    """A context of a linear network whose whole pool is one batch, unaugmented."""
    registry.add(LinearNet(), "linear_plugin")
    return context_for(registry, backbone="linear_net", batch_size=64, augment="none")


def val_probs(splitter, context):
    """P(validation) of every pool example, float64, from the weights of the linear layer."""
    (batch,) = context.feed.evaluation([torch.arange(64)])
    layer = splitter._network.module[2]
    means = batch.images.double().mean(dim=(2, 3)).numpy()
    logits = means @ layer.weight.detach().double().numpy().T + layer.bias.detach().double().numpy()
    return expit(logits[range(64), context.labels.numpy()])


@pytest.mark.parametrize("num_classes", [4, 6])
def test_the_objective_is_cross_entropy_and_kl_divergences_in_nats(linear, num_classes):
    """With 6 classes, two that no example has."""
    if num_classes == 6:
        linear = type(linear)(**{**vars(linear), "num_classes": 6})
    splitter = ls.Splitter(linear, delta=0.25)
    in_validation_N = torch.arange(64) % 5 == 0
    wrong_N = torch.arange(64) % 3 == 0
    p = val_probs(splitter, linear)
    labels = linear.labels.numpy()
    expected = rel_entr([0.25, 0.75], [p.mean(), 1 - p.mean()]).sum()
    gap = rel_entr(wrong_N.double().numpy(), p) + rel_entr(1 - wrong_N.double().numpy(), 1 - p)
    expected += gap[in_validation_N.numpy()].mean()
    for side in (p, 1 - p):
        smoothed = [(side[labels == c].sum() + 0.25) / (side.sum() + 1) for c in range(4)]
        expected += rel_entr([0.25] * 4, smoothed).sum()
    validation = ls.ValidationBatches(linear.feed, batch_size=64, seed=0)
    validation.set_positions(in_validation_N.nonzero().squeeze(1))
    found = splitter._epoch(validation, wrong_N, number=0, seed=0)
    assert found == pytest.approx(expected, rel=1e-4)


def test_one_splitter_serves_all_rounds_and_it_stops_after_five_that_gain_nothing(linear, monkeypatch):
    gaps = iter([0.1, 0.3, 0.2, 0.4, 0.4, 0.1, 0.0, 0.2, 0.3])
    seen, splitters, notes = [], set(), []

    def gap_of(context, in_validation_N, *, seed):
        seen.append(in_validation_N)
        return torch.zeros(64, dtype=torch.bool), next(gaps)

    monkeypatch.setattr(ls, "generalisation_gap", gap_of)
    monkeypatch.setattr(ls.Splitter, "train", lambda self, *args, **kwargs: splitters.add(self))
    request = SplitRequest(
        labels=linear.labels,
        indices=torch.arange(64),
        hardness=None,
        delta=0.25,
        generator=torch.Generator().manual_seed(0),
        training=linear,
        note=notes.append,
    )
    found = ls.choose_by_learning(request)
    assert len(seen) == len(notes) == 9
    assert torch.equal(found, seen[3])
    assert len({tuple(split.tolist()) for split in seen}) == 9
    assert len(splitters) == 1


def test_a_draw_follows_the_probabilities_within_the_share_of_every_class(linear):
    """Of two sorts of examples, one has odds of 9, the other of 1/9; half are drawn from each class."""
    splitter = ls.Splitter(linear, delta=0.25)
    likely_N = torch.arange(64) < 16
    logits_NC = torch.where(likely_N, 2.0, -2.0)[:, None].expand(64, 4)
    splitter._network.predict = lambda images: type("Output", (), {"logits": logits_NC})()
    generator = torch.Generator().manual_seed(0)
    draws = torch.stack([splitter.draw(generator) for _ in range(200)])
    assert all(linear.labels[draw].bincount().tolist() == [4] * 4 for draw in draws)
    share = draws[:, likely_N].double().mean()
    assert 0.7 < share < 0.95


@pytest.mark.parametrize(
    ("losses", "converged"),
    [
        ([1.0] * 5, False),
        ([1.0] * 6, True),
        ([1.0] * 5 + [0.9985], False),
        ([9.0] + [1.0] * 5 + [0.9995], True),
    ],
)
def test_convergence_is_judged_by_the_five_losses_before(losses, converged):
    assert ls.has_converged(losses) == converged


def test_the_predictor_is_measured_on_examples_that_it_never_saw(linear, monkeypatch):
    trained, in_validation_N = [], torch.arange(64) < 16
    original = ls.erm_epochs

    def spied(context, trains_N):
        trained.append(trains_N)
        return original(context, trains_N)

    monkeypatch.setattr(ls, "erm_epochs", spied)
    wrong_N, gap = ls.generalisation_gap(linear, in_validation_N, seed=3)
    (trains_N,) = trained
    held_N = ~trains_N & ~in_validation_N
    assert (int(trains_N.sum()), int(held_N.sum())) == (32, 16)
    assert not (trains_N & in_validation_N).any()
    right_N = ~wrong_N
    expected = right_N[held_N].double().mean() - right_N[in_validation_N].double().mean()
    assert gap == pytest.approx(float(expected))


def test_the_split_file_names_the_strategy_and_needs_no_run(molere, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(ls, "MAX_ROUNDS", 2)
    monkeypatch.setattr(ls, "MAX_EPOCHS", 1)
    line = "split --strategy ls --delta 0.2 --limit-train 100 --epochs 1 --precision fp32 --quiet"
    paths = [molere(line).last_line for _ in range(2)]
    first, second = (pq.read_table(path) for path in paths)
    assert first.equals(second)
    assert sum(first["in_validation"].to_pylist()) == 20
    assert json.loads(first.schema.metadata[b"molere"])["strategy"] == "ls"
    assert not Path("runs").exists()


@pytest.mark.long
@pytest.mark.slow
def test_it_finds_a_wider_gap_than_a_random_split_and_gathers_planted_wrong_labels(registry):
    """The gap is measured by predictors of another seed, which had no part in the search."""
    settings = {"dataset": "digits", "backbone": "small_cnn", "limit_train": 500, "epochs": 10, "delta": 0.2}
    noisy = {"label_noise": "uniform", "noise_rate": 0.2}
    config = tiny_config(**settings, **noisy, split="ls")
    data = load_dataset(config.data, registry)
    pool = data.dataset.pool
    splits = {
        name: make_split(
            config.updated(split=name), registry, data, erm=None, runs=Path(), progress=NoProgress()
        ).in_validation
        for name in ("ls", "random")
    }
    other = training_context(
        make_plan(tiny_config(**settings_of_erm(settings, noisy), seed=7), registry), data, None
    )
    gaps = {name: ls.generalisation_gap(other, split, seed=7)[1] for name, split in splits.items()}
    assert gaps["ls"] > gaps["random"] + 0.2
    wrong_N = pool.labels != pool.clean_labels
    shares = {name: wrong_N[split].double().mean() for name, split in splits.items()}
    assert shares["ls"] > 2 * shares["random"]


def settings_of_erm(*settings):
    return {key: value for part in settings for key, value in part.items() if key != "delta"}
