"""Runs from outside the loop: determinism, resume, weights of 1, refusals."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from molere_splits.evidence import Evidence
from torch import nn

from molere_cli import BackboneSpec, hookimpl
from molere_cli.api.run_schedule import parse_seeds, train_runs
from molere_cli.config.plan import make_plan
from molere_cli.config.run_config import RunConfig
from molere_cli.data.source import load_dataset
from molere_cli.engine.checkpoint import load_state
from molere_cli.engine.method import Method
from molere_cli.foundation.errors import ConfigError, RunError, TrainingError
from molere_cli.foundation.progress import NoProgress
from molere_cli.hardness.make_split import make_split, split_for
from molere_cli.methods.erm import ERM
from molere_cli.report import compare_runs
from molere_cli.training.build_engine import engine_on_split
from molere_cli.training.resume_run import resume_run
from molere_cli.training.training_health import collapse_of, harm_of
from molere_cli_tests.strict_json import check_json_of
from molere_cli_tests.training import (
    INSTANCE,
    KilledAfter,
    Notebook,
    assert_same_tensors,
    engine_for,
    tensors_of,
    tiny_config,
    train_one,
    without_times,
)

METHODS = {
    "erm": {"method": "erm"},
    "lrw-auto": {"method": "lrw"},
    "lrw": {"method": "lrw", **INSTANCE, "split": "random", "clip_grad": 1.0},
    "lrw-features": {
        "method": "lrw",
        **INSTANCE,
        "split": "hard",
        "reweighter": "features",
        "optimizer": "adamw",
    },
    "lrw-hardness": {"method": "lrw", "split": "hard", "reweighter": "hardness", "reweighter_interval": 2},
    "molere": {
        "method": "molere",
        **INSTANCE,
        "split": "none",
        "delta": 0.25,
        "train_on": "train",
        "splitter_interval": 2,
    },
    "molere-hardness": {"method": "molere", "split": "none", "delta": 0.25, "reweighter_interval": 1},
    "molere-start": {"method": "molere", "split": "hard", "delta": 0.25, "reweighter_interval": 1},
    "molere-image": {
        "method": "molere",
        **INSTANCE,
        "split": "none",
        "delta": 0.25,
        "splitter": "image",
        "reweighter": "image",
    },
}


class OnesMethod(Method):
    """Weights of exactly 1, given as weights."""

    def weights(self, step):
        return torch.ones_like(step.losses.detach())


def test_weights_of_one_train_bit_for_bit_as_erm(registry):
    config = tiny_config(epochs=5)
    plain, weighted = engine_for(config, registry), engine_for(config, registry)
    weighted.loop.method = OnesMethod(weighted.loop.method.context)
    num_steps = sum(1 for engine in (plain, weighted) for _ in engine.loop.epochs()) * 4 // 2
    assert num_steps == 20
    assert_same_tensors(plain.classifier.module.state_dict(), weighted.classifier.module.state_dict())


def test_reweighting_starts_at_erm(registry):
    """All log-weights are 0 at first, so the first reweighted epoch at learning rate ~0 equals ERM's."""
    in_validation = torch.arange(64) < 16
    config = tiny_config(method="lrw", **INSTANCE, warmup_epochs=0, reweighter_lr=1e-30)
    lrw = engine_for(config, registry, in_validation)
    erm = engine_for(tiny_config(), registry)
    for engine in (erm, lrw):
        list(engine.loop.epochs())
    assert_same_tensors(erm.classifier.module.state_dict(), lrw.classifier.module.state_dict())


def without_evidence(monkeypatch):
    """`--split auto` finds nothing that speaks against ERM."""
    found = Evidence(num_errors=4, others_right=0.5, errors_rise=0.0, wrong_labels=0.0)
    monkeypatch.setattr("molere_splits.target_selection.gather_evidence", lambda request, errors: found)


def test_where_auto_finds_nothing_training_is_erms_to_the_bit_and_says_so(registry, tmp_path, monkeypatch):
    """Its validation set represents the whole pool, so that no weight may differ from 1."""
    without_evidence(monkeypatch)
    notebook = Notebook()
    config = tiny_config(method="lrw", split="auto", delta=0.25, reweighter="hardness", warmup_epochs=0)
    lrw = train_one(config, registry, tmp_path / "lrw", notebook)
    erm = train_one(tiny_config(), registry, tmp_path / "erm")
    assert_same_tensors(tensors_of(lrw), tensors_of(erm))
    assert "reweighter/updates" not in lrw.metrics()[-1]
    assert sum("it trains as ERM" in note for note in notebook.notes) == 1
    (row,) = [each for each in compare_runs([erm.path, lrw.path]).results if each.row.label != "ERM"]
    assert "no weight was learned: trained as ERM" in row.notes


@pytest.mark.parametrize("changes", [{}, {"reweighter": "loss", "epochs": 1}], ids=str)
def test_a_random_validation_set_teaches_weights(changes, registry, tmp_path):
    """The paper's baseline, by the default reweighter and in one epoch too, is no ERM under another name."""
    notebook = Notebook()
    config = tiny_config(**{"method": "lrw", "split": "random", "delta": 0.25, "epochs": 2, **changes})
    lrw = train_one(config, registry, tmp_path, notebook)
    erm = train_one(tiny_config(epochs=config.classifier.epochs), registry, tmp_path)
    last = lrw.metrics()[-1]
    assert last["reweighter/updates"] > 0 and last["weights/std"] > 0
    assert last["train/loss"] != erm.metrics()[-1]["train/loss"]
    assert not any("trains as ERM" in note for note in notebook.notes)
    (row,) = [each for each in compare_runs([erm.path, lrw.path]).results if each.row.label != "ERM"]
    assert not any("trained as ERM" in note for note in row.notes)


def test_one_epoch_in_which_weights_stay_equal_is_said_and_marked(registry, tmp_path):
    """How hard an example is, is not known before the second."""
    notebook = Notebook()
    lrw = train_one(tiny_config(method="lrw", split="random", epochs=1), registry, tmp_path, notebook)
    erm = train_one(tiny_config(epochs=1), registry, tmp_path)
    assert lrw.metrics()[-1]["train/loss"] == erm.metrics()[-1]["train/loss"]
    assert any("this run is ERM" in note for note in notebook.notes)
    (row,) = [each for each in compare_runs([erm.path, lrw.path]).results if each.row.label != "ERM"]
    assert "no weight was learned: trained as ERM" in row.notes


@pytest.mark.parametrize("changes", [{"warmup_epochs": 2}, {"weight_cap": 1.0}], ids=str)
def test_settings_that_leave_no_weight_to_learn_are_said(changes, registry, tmp_path):
    notebook = Notebook()
    train_one(tiny_config(method="lrw", split="random", epochs=2, **changes), registry, tmp_path, notebook)
    (flag,) = changes
    (note,) = [note for note in notebook.notes if "it trains as ERM" in note]
    assert f"--{flag.replace('_', '-')}" in note


@pytest.mark.parametrize(
    ("settings", "cap", "floor"),
    [
        ({"split": "hard"}, 4, 0.5),
        ({"split": "easy"}, 4, 0.0),
        ({"split": "random"}, 4, 0.5),
        ({"split": "hard", "weight_cap": 2.0, "weight_floor": 0.0}, 2, 0.0),
        ({"split": "hard", "weight_normalization": "none"}, None, 0.0),
        ({"split": "hard", "reweighter": "instance"}, None, 0.0),
        ({"split": "hard", "reweighter": "instance", "weight_cap": 3.0}, 3, 0.0),
    ],
)
def test_weights_keep_within_what_validation_stands_for(settings, cap, floor, registry, tmp_path):
    config = tiny_config(**{"method": "lrw", "delta": 0.25, "reweighter": "hardness", **settings})
    plan, data = make_plan(config, registry), load_dataset(config.data, registry)
    split = split_for(plan, data, runs=tmp_path, progress=NoProgress())
    limits = engine_on_split(plan, data, split).loop.method._reweighting.limits
    assert (limits.cap, limits.floor) == (cap, floor)


def test_methods_that_need_the_same_split_share_one(registry, tmp_path, monkeypatch):
    asked = []

    def counted(config, *arguments, **options):
        asked.append((config.split.split, config.machine.seed, config.split.delta))
        return make_split(config, *arguments, **options)

    monkeypatch.setattr("molere_cli.hardness.make_split.make_split", counted)
    made = {}
    for method, delta in (("lrw", 0.25), ("molere", 0.25), ("lrw", 0.125)):
        config = tiny_config(method=method, split="hard", delta=delta, epochs=2)
        list(train_runs(config, [0, 1], registry, runs=tmp_path, made=made, progress=NoProgress()))
    assert asked == [("hard", 0, 0.25), ("hard", 1, 0.25), ("hard", 0, 0.125), ("hard", 1, 0.125)]


@pytest.mark.parametrize("name", METHODS)
def test_a_killed_run_resumes_to_the_same_bits(name, registry, tmp_path):
    check_resumed_to_the_same_bits(tiny_config(**METHODS[name]), registry, tmp_path, label_part=name)


def check_resumed_to_the_same_bits(config, registry, tmp_path, *, label_part):
    """From the end of the second epoch, and from within the third, after its second step."""
    whole = train_one(config, registry, tmp_path / "whole")
    for step, every in ((2, "10m"), (3, "1steps")):
        runs = tmp_path / f"{step}-{every}"
        killed = KilledAfter(2, label_part=label_part, step=step)
        with pytest.raises(KeyboardInterrupt):
            train_one(config.updated(checkpoint_every=every), registry, runs, progress=killed)
        (unfinished,) = [path for path in runs.iterdir() if not (path / "DONE").exists()]
        state = load_state(unfinished / "checkpoint")
        assert ("next_epoch" in state) == (every == "10m")
        assert state.get("epoch", 2) == 2
        resumed = resume_run(unfinished, registry, progress=NoProgress())
        assert resumed.is_done
        check_json_of(resumed)
        assert_same_tensors(tensors_of(whole), tensors_of(resumed))
        assert without_times(whole.metrics()) == without_times(resumed.metrics())
        for file in ("predictions.parquet", "pool.parquet"):
            assert (whole.path / file).read_bytes() == (resumed.path / file).read_bytes()


@pytest.mark.parametrize("name", METHODS)
def test_the_same_seed_gives_the_same_metrics_and_another_seed_others(name, registry, tmp_path):
    config = tiny_config(**METHODS[name], seed=3)
    first = train_one(config, registry, tmp_path / "a")
    torch.manual_seed(1234)
    second = train_one(config, registry, tmp_path / "b")
    other = train_one(config.updated(seed=4), registry, tmp_path / "c")
    assert without_times(first.metrics()) == without_times(second.metrics())
    assert without_times(first.metrics()) != without_times(other.metrics())


def test_training_leaves_the_global_random_state_alone(registry):
    engine = engine_for(tiny_config(method="molere", delta=0.25), registry)
    state = torch.get_rng_state()
    list(engine.loop.epochs())
    assert torch.equal(state, torch.get_rng_state())


def test_learned_weights_move_and_have_mean_one(registry):
    config = tiny_config(method="lrw", **INSTANCE, warmup_epochs=1, reweighter_lr=0.1, epochs=6)
    records = list(engine_for(config, registry, torch.arange(64) < 16).loop.epochs())
    assert "weights/std" not in records[0]
    assert records[-1]["weights/std"] > 0.01
    assert records[-1]["weights/mean"] == pytest.approx(1, abs=1e-6)
    assert 0 < records[-1]["weights/ess"] < 1
    assert records[-1]["reweighter/updates"] == 5 * 4


def test_weight_decay_pulls_log_weights_towards_zero_by_its_share_of_an_update(registry):
    """Two steps of Adam on log-weights z give z1, z2; with decay d the second starts from (1 - lr d) z1."""
    lr, decay = 0.1, 4.0
    config = {"method": "lrw", "warmup_epochs": 0, "reweighter_lr": lr, "hypergradient_scale": "none"}
    steps = {}
    for name, own in {"plain": {}, "decayed": {"reweighter_weight_decay": decay}}.items():
        engine = engine_for(tiny_config(**config, **own), registry, torch.arange(64) < 16)
        reweighting = engine.loop.method._reweighting
        (parameter,) = reweighting.reweighter.parameters()
        for gradient in (torch.ones_like(parameter), torch.ones_like(parameter)):
            parameter.grad = gradient
            reweighting.reweighter_optimizer.step()
            steps.setdefault(name, []).append(parameter.detach().clone())
    first, second = steps["plain"]
    assert torch.equal(steps["decayed"][0], first)
    torch.testing.assert_close(steps["decayed"][1], second - lr * decay * first)


def test_reweighter_interval_counts_meta_updates(registry):
    config = tiny_config(method="lrw", warmup_epochs=0, reweighter_interval=3, epochs=2)
    records = list(engine_for(config, registry, torch.arange(64) < 16).loop.epochs())
    assert records[-1]["reweighter/updates"] == 2 * 2


class RootOfZero(nn.Module):
    """Logits whose loss is finite and whose gradient is not: the root of 0 has none."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(192, 4)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, images):
        return self.linear(images.flatten(1)).abs().sqrt()


@pytest.mark.parametrize("clip_grad", [None, 1.0])
def test_a_gradient_that_is_not_finite_stops_before_the_parameters_change(registry, clip_grad):
    class Plugin:
        @hookimpl
        def register_backbones(self, register):
            build = lambda request: RootOfZero()  # noqa: E731
            register(BackboneSpec(name="root_of_zero", description="-", build=build))

    registry.add(Plugin(), "roots")
    engine = engine_for(tiny_config(backbone="root_of_zero", clip_grad=clip_grad), registry)
    with pytest.raises(
        TrainingError, match=r"gradient's norm became (nan|inf) in epoch 1, step 1; lower --lr"
    ):
        next(engine.loop.epochs())
    assert all(p.isfinite().all() and not p.any() for p in engine.classifier.module.parameters())


def test_a_loss_that_is_not_finite_stops_before_the_parameters_change(registry):
    engine = engine_for(tiny_config(), registry)
    with torch.no_grad():
        engine.classifier.module[-1].weight[0, 0] = float("nan")
    before = {n: p.clone() for n, p in engine.classifier.parameters.items()}
    with pytest.raises(TrainingError, match=r"became nan in epoch 1, step 1; lower --lr"):
        list(engine.loop.epochs())
    for name, parameter in engine.classifier.parameters.items():
        assert torch.equal(parameter.nan_to_num(7), before[name].nan_to_num(7)), name


def test_the_saved_configuration_can_be_passed_back(registry, tmp_path):
    run = train_one(tiny_config(method="lrw", split="random"), registry, tmp_path)
    again = make_plan(RunConfig.of(**run.config()), registry)
    assert again.settings == run.config()
    assert "splitter" not in run.config() and "score" not in run.config()


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"method": "erm", "weight_bound": 2.0}, r"--weight-bound has no effect with method 'erm'"),
        ({"method": "lrw", "splitter": "image"}, r"--splitter has no effect with method 'lrw'"),
        ({"method": "molere", "score": "loss"}, r"--score has no effect with method 'molere'"),
        (
            {"weight_normalization": "none", "weight_cap": 3.0, "method": "lrw"},
            r"--weight-cap has no effect .*--weight-normalization none",
        ),
        ({"method": "erm", "split": "hard"}, r"--split has no effect .*add --train-on train"),
        ({"method": "lrw", "split": "random", "score": "aum"}, r"--score has no effect .*--split random"),
        ({"method": "lrw", "split": "hard", "folds": 3}, r"--folds has no effect .*--score oof-margin"),
        ({"method": "lrw", "split": "x.parquet", "delta": 0.2}, r"--delta has no effect .*x\.parquet"),
        ({"lr_decay_epochs": 3}, r"--lr-decay-epochs has no effect .*--schedule step"),
    ],
)
def test_a_setting_without_effect_is_refused(registry, changes, sentence):
    with pytest.raises(ConfigError, match=sentence):
        make_plan(tiny_config(**changes), registry)


def test_an_unknown_optimizer_response_is_refused_for_lrw_and_fine_for_erm(registry):
    engine_for(tiny_config(optimizer="rmsprop"), registry)
    with pytest.raises(TrainingError, match="is not known"):
        engine_for(tiny_config(method="lrw", optimizer="rmsprop"), registry, torch.arange(64) < 16)


def test_a_changed_dataset_is_refused_on_resume(registry, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        train_one(tiny_config(), registry, tmp_path, progress=KilledAfter(1, label_part="erm"))
    (path,) = tmp_path.iterdir()
    environment = json.loads((path / "environment.json").read_text())
    (path / "environment.json").write_text(
        json.dumps({**environment, "fingerprint": "0" * 32, "digests": {}})
    )
    with pytest.raises(RunError, match="has changed since"):
        resume_run(path, registry, progress=NoProgress())


def test_erm_can_train_on_the_training_part_alone(registry, tmp_path):
    run = train_one(tiny_config(train_on="train", split="random", delta=0.25), registry, tmp_path)
    import pyarrow.parquet as pq

    pool = pq.read_table(run.pool_path).to_pydict()
    never_trained_on = [weight is None for weight in pool["weight"]]
    assert never_trained_on == pool["in_validation"]
    assert never_trained_on == [weight is None for weight in pool["mean_weight"]]
    assert sum(never_trained_on) == 16


def test_erm_runs_are_reused_for_scores(registry, tmp_path):
    erm = train_one(tiny_config(), registry, tmp_path)
    lrw = train_one(tiny_config(method="lrw", split="hard"), registry, tmp_path)
    assert lrw.environment()["split"]["erm_run"] == str(erm.path)
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize(("text", "seeds"), [("0-4", [0, 1, 2, 3, 4]), ("3", [3]), ("0,2,7-8", [0, 2, 7, 8])])
def test_seeds_are_parsed(text, seeds):
    assert parse_seeds(text) == seeds


@pytest.mark.parametrize("text", ["", "a", "1-", "4-2", "1,1", "0-2,2"])
def test_wrong_seeds_are_refused(text):
    with pytest.raises(ConfigError):
        parse_seeds(text)


def test_methods_are_what_the_registry_says(registry):
    assert isinstance(engine_for(tiny_config(), registry).loop.method, ERM)


def test_weights_that_stay_equal_are_warned_about_once(registry, tmp_path):
    config = tiny_config(method="lrw", **INSTANCE, split="random", reweighter_lr=1e-30, epochs=30)
    notebook = Notebook()
    train_one(config, registry, tmp_path, progress=notebook)
    (note,) = notebook.notes
    assert "nearly equal after 100 meta-updates" in note


PLANTED = {
    "dataset": "digits",
    "backbone": "small_cnn",
    "limit_train": 100,
    "label_noise": "uniform",
    "noise_rate": 0.4,
    "epochs": 14,
}


def harm_notes(config, registry, runs: Path) -> list[str]:
    notebook = Notebook()
    train_one(config, registry, runs, progress=notebook)
    return [note for note in notebook.notes if note.startswith("training accuracy has fallen from ")]


def test_weights_that_learn_from_wrong_labels_are_warned_about_once(registry, tmp_path):
    learned = {"split": "hard", **INSTANCE, "reweighter_lr": 1.0, "reweighter_interval": 1}
    config = tiny_config(method="lrw", warmup_epochs=8, **learned, **PLANTED)
    (note,) = harm_notes(config, registry, tmp_path)
    assert "while the weights have spread" in note


@pytest.mark.parametrize("method", ["erm", pytest.param("lrw", marks=pytest.mark.slow)])
def test_training_that_goes_well_is_not_warned_about(method, registry, tmp_path):
    chosen = {"split": "random", **INSTANCE} if method == "lrw" else {}
    assert harm_notes(tiny_config(method=method, **chosen, **PLANTED), registry, tmp_path) == []


@pytest.mark.parametrize(
    ("accuracies", "sizes", "is_harm"),
    [
        ([20, 60, 39, 30, 20], [1, 0.9, 0.5, 0.3, 0.2], True),
        ([20, 60, 39, 30, 45], [1, 0.9, 0.5, 0.3, 0.2], False),  # it recovers
        ([20, 60, 39, 30], [1, 0.9, 0.5, 0.3], False),  # two epochs are a dip
        ([74, 64, 76, 68, 85], [0.4, 0.3, 0.3, 0.2, 0.2], False),  # colour-digits at the defaults
        ([20, 60, 39, 30, 20], [0.2, 0.3, 0.5, 0.6, 0.7], False),  # not by the weights
        ([20, 60, 39, 30, 20], [], False),  # no weights
    ],
)
def test_harm_is_a_long_fall_under_spreading_weights(accuracies, sizes, is_harm):
    records = [{"train/accuracy": value / 100} for value in accuracies]
    for record, size in zip(records, sizes, strict=False):
        record["weights/ess"] = size
    assert (harm_of(records) is not None) == is_harm


def test_weights_near_zero_are_called_collapsed_and_healthy_ones_are_not():
    healthy = {"weights/mean": 1.0, "weights/std": 0.3, "reweighter/updates": 500}
    assert collapse_of(healthy) is None
    assert "collapsed towards 0" in collapse_of({**healthy, "weights/mean": 1e-4})
    assert collapse_of({"train/loss": 1.0}) is None
