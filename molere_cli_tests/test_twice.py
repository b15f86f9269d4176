"""Training twice: what the second pass takes from the first, and nothing else."""

from __future__ import annotations

import pyarrow.parquet as pq
import pytest
import torch

from molere_cli.progress import NoProgress
from molere_cli.training import resume_run
from molere_cli_tests.conftest import TINY_SIZE
from molere_cli_tests.test_training import (
    KilledAfter,
    assert_same_tensors,
    engine_for,
    tensors_of,
    tiny_config,
    train_one,
    without_times,
)

QUARTER = torch.arange(TINY_SIZE) % 4 == torch.arange(TINY_SIZE) // 16
RUNS = {
    "lrw-twice": {"method": "lrw-twice", "split": "random", "delta": 0.25},
    "lrw-twice-removed": {"method": "lrw-twice", "split": "random", "delta": 0.25, "train_on": "train"},
    "molere-twice": {"method": "molere-twice", "delta": 0.25, "splitter_interval": 2},
    "molere-twice-removed": {"method": "molere-twice", "delta": 0.25, "train_on": "train"},
}
FAST = {"reweighter_lr": 0.5}


def split_of(changes):
    return QUARTER if changes["method"].startswith("lrw") else None


def passed_once(changes, registry, **more):
    """The method without its second pass, and every weight it gave: position to weights, in float64."""
    once = {**changes, **FAST, **more, "method": changes["method"].removesuffix("-twice")}
    engine = engine_for(tiny_config(**once), registry, split_of(changes))
    method, given = engine.loop.method, {position: [] for position in range(TINY_SIZE)}
    weights_of = method.weights

    def recorded(step):
        weights_B = weights_of(step)
        for number, position in enumerate(step.batch.positions.tolist()):
            given[position].append(1.0 if weights_B is None else float(weights_B[number]))
        return weights_B

    method.weights = recorded
    list(engine.loop.epochs())
    return engine, given


def geometric_means(given) -> torch.Tensor:
    logs = [torch.tensor(weights, dtype=torch.float64).log() for weights in given.values()]
    return torch.stack([each.mean().exp() for each in logs])


def test_the_mean_weight_is_the_geometric_mean_over_the_passes(registry):
    engine, given = passed_once(RUNS["lrw-twice"], registry)
    wanted_N = geometric_means(given)
    assert wanted_N.max() / wanted_N.min() > 1.5
    assert torch.allclose(engine.loop.pool_record.mean_weight.double(), wanted_N, rtol=1e-5)


def test_the_mean_weight_of_what_never_trained_is_nan_and_null_on_disk(registry, tmp_path):
    run = train_one(tiny_config(**{**RUNS["lrw-twice-removed"], "method": "lrw"}), registry, tmp_path)
    table = pq.read_table(run.pool_path)
    assert [weight is None for weight in table["mean_weight"].to_pylist()] == table[
        "in_validation"
    ].to_pylist()


@pytest.mark.parametrize("name", RUNS)
def test_the_second_pass_is_erm_with_the_mean_weights_of_the_first(name, registry):
    changes = RUNS[name]
    first, given = passed_once(changes, registry)
    in_validation = first.loop.method.in_validation()
    removed = changes.get("train_on") == "train"
    trains_N = ~in_validation if removed else torch.ones(TINY_SIZE, dtype=torch.bool)
    weights_N = geometric_means(given)
    weights_N = (weights_N / weights_N[trains_N].mean()).float()

    again = engine_for(
        tiny_config(train_on="train" if removed else "all"), registry, in_validation if removed else None
    )
    again.loop.method.weights = lambda step: weights_N[step.batch.positions]
    list(again.loop.epochs())

    twice = engine_for(tiny_config(**changes, **FAST), registry, split_of(changes))
    list(twice.loop.epochs())
    assert torch.equal(twice.loop.method.in_validation(), in_validation)
    for (key, ours), theirs in zip(
        twice.classifier.module.state_dict().items(),
        again.classifier.module.state_dict().values(),
        strict=True,
    ):
        assert torch.allclose(ours.double(), theirs.double(), rtol=1e-3, atol=1e-5), key
    given_N = twice.loop.pool_record.weight
    assert torch.equal(given_N.isnan(), ~trains_N)
    assert torch.allclose(given_N[trains_N], weights_N[trains_N], rtol=1e-4)


@pytest.mark.parametrize("name", ["lrw-twice", "molere-twice-removed"])
def test_a_killed_run_resumes_to_the_same_bits(name, registry, tmp_path):
    config = tiny_config(**RUNS[name])
    whole = train_one(config, registry, tmp_path / "whole")
    killer = KilledAfter(2, label_part=name)
    killer.method = config.method
    with pytest.raises(KeyboardInterrupt):
        train_one(config, registry, tmp_path / "cut", progress=killer)
    (unfinished,) = (tmp_path / "cut").iterdir()
    resumed = resume_run(unfinished, registry, progress=NoProgress())
    assert resumed.is_done
    assert_same_tensors(tensors_of(whole), tensors_of(resumed))
    assert without_times(whole.metrics()) == without_times(resumed.metrics())
    assert (whole.path / "pool.parquet").read_bytes() == (resumed.path / "pool.parquet").read_bytes()


def test_the_first_pass_leaves_the_global_random_state_alone_and_is_told_of(registry, tmp_path):
    class Notes(NoProgress):
        def __init__(self):
            self.told = []

        def note(self, message):
            self.told.append(message)

    progress, state = Notes(), torch.get_rng_state()
    train_one(tiny_config(**RUNS["molere-twice"], epochs=2), registry, tmp_path, progress=progress)
    assert torch.equal(state, torch.get_rng_state())
    assert [message.partition(":")[0] for message in progress.told] == ["first pass", "second pass"]
