"""Training twice: what the second pass takes from the first, and nothing else."""

from __future__ import annotations

import pyarrow.parquet as pq
import pytest
import torch

from molere_cli import ConfigError
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
    """Of all weights of each example, float64 (N,); nan without any."""
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
def test_the_second_pass_is_the_first_again_from_its_mean_weights(name, registry):
    changes = RUNS[name]
    _first, given = passed_once(changes, registry)
    wanted_N = geometric_means(given).float()

    again = engine_for(
        tiny_config(
            **{**changes, **FAST, "method": changes["method"].removesuffix("-twice")}, warmup_epochs=0
        ),
        registry,
        split_of(changes),
    )
    (log_weights_N,) = again.loop.method._reweighting.reweighter.parameters()
    with torch.no_grad():
        log_weights_N.copy_(wanted_N.log().nan_to_num(nan=0.0))
    list(again.loop.epochs())

    twice = engine_for(tiny_config(**changes, **FAST), registry, split_of(changes))
    list(twice.loop.epochs())
    assert torch.equal(twice.loop.method.in_validation(), again.loop.method.in_validation())
    ours, theirs = twice.classifier.module.state_dict(), again.classifier.module.state_dict()
    for key, tensor in ours.items():
        assert torch.allclose(tensor.double(), theirs[key].double(), rtol=1e-3, atol=1e-4), key
    given_N, wanted_N = twice.loop.pool_record.weight, again.loop.pool_record.weight
    assert torch.equal(given_N.isnan(), wanted_N.isnan())
    assert torch.allclose(given_N, wanted_N, rtol=1e-3, equal_nan=True)


def test_sigmoid_weights_are_refused(registry):
    config = tiny_config(**RUNS["lrw-twice"], weight_normalization="none")
    with pytest.raises(ConfigError, match=r"^lrw-twice starts .* leave out --weight-normalization none$"):
        engine_for(config, registry, QUARTER)


@pytest.mark.parametrize("reweighter", ["features", "image", "loss"])
def test_any_reweighter_adds_to_the_mean_weights(reweighter, registry):
    engine = engine_for(tiny_config(**RUNS["lrw-twice"], reweighter=reweighter, epochs=2), registry, QUARTER)
    records = list(engine.loop.epochs())
    state = engine.loop.method.state_dict()
    assert state["offset"].shape == (TINY_SIZE,)
    assert any(name.startswith("reweighter.") for name in state["second"]["reweighter"])
    assert records[0]["reweighter/updates"] > 0


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
