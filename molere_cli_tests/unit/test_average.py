"""The moving average of weights: by hand, resumed, tested beside the weights, handed on when asked for."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file

from molere_cli.api.evaluation import evaluate_run
from molere_cli.foundation.progress import NoProgress
from molere_cli.runs.run_directory import RunDir
from molere_cli.runs.run_tables import RunTable
from molere_cli.training.resume_run import resume_run
from molere_cli_tests.training import (
    KilledAfter,
    assert_same_tensors,
    engine_for,
    tensors_of,
    tiny_config,
    train_one,
    without_times,
)

SMALL = "--dataset digits --limit-train 60 --epochs 3 --quiet"


def average_of(run) -> dict[str, torch.Tensor]:
    return load_file(run.path / "checkpoint" / "ema.safetensors")


def test_it_is_what_is_computed_by_hand(registry):
    decay = 0.6
    engine = engine_for(tiny_config(epochs=2, ema=decay), registry)
    module, expected, steps = engine.classifier.module, None, 0

    def follow(_step, _num_steps, _loss):
        nonlocal expected, steps
        steps += 1
        now = {name: value.double() for name, value in module.state_dict().items()}
        kept = min(decay, 1 - steps ** (-2 / 3)) if steps > 1 else 0.0
        expected = (
            now
            if expected is None
            else {name: kept * expected[name] + (1 - kept) * now[name] for name in now}
        )

    list(engine.loop.epochs(follow))
    found = engine.loop.average.tensors()
    assert steps > 4
    for name, value in found.items():
        if value.is_floating_point():
            torch.testing.assert_close(value.double(), expected[name], rtol=1e-5, atol=1e-6)
        else:
            assert torch.equal(value, module.state_dict()[name])
    trained = {name: value.clone() for name, value in module.state_dict().items()}
    with engine.loop.average.in_place(module):
        assert_same_tensors(dict(module.state_dict()), found)
    assert_same_tensors(dict(module.state_dict()), trained)


@pytest.mark.parametrize("more", [{}, {"select": "best", "tuning": 0.25}])
def test_weights_train_as_without_it(registry, tmp_path, more):
    plain = train_one(tiny_config(**more), registry, tmp_path / "plain")
    averaged = train_one(tiny_config(ema=0.9, **more), registry, tmp_path / "averaged")
    assert_same_tensors(tensors_of(plain), tensors_of(averaged))
    records = without_times(averaged.metrics())
    assert [
        {name: value for name, value in record.items() if "+ema" not in name} for record in records
    ] == without_times(plain.metrics())


def test_a_resumed_run_has_the_average_of_an_uninterrupted_one(registry, tmp_path):
    config = tiny_config(ema=0.7, checkpoint_every="1steps")
    whole = train_one(config, registry, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train_one(config, registry, tmp_path / "killed", KilledAfter(2, label_part="erm"))
    (path,) = (tmp_path / "killed").iterdir()
    resumed = resume_run(path, registry, progress=NoProgress())
    assert_same_tensors(average_of(whole), average_of(resumed))
    assert without_times(whole.metrics()) == without_times(resumed.metrics())


# The tuning set likes an epoch that is not the last.
ROUGH = {"lr": 0.6, "schedule": "constant", "epochs": 8, "clip_grad": 1.0, "tuning": 0.25, "ema": 0.5}


def test_the_average_that_counts_is_of_the_epoch_that_counts(registry, tmp_path):
    best = train_one(tiny_config(select="best", **ROUGH), registry, tmp_path / "best")
    epoch = int(best.metrics()[-1]["selected/epoch"])
    assert epoch < ROUGH["epochs"] - 1, "nothing is chosen here"
    # Epochs are alike under a constant rate, so that a run that ends there has its average at the end.
    until = train_one(tiny_config(**{**ROUGH, "epochs": epoch + 1}), registry, tmp_path / "until")
    assert_same_tensors(average_of(best), average_of(until))
    for name in ("test+ema/accuracy", "test+ema/nll", "test/nll"):
        assert best.metrics()[-1][name] == until.metrics()[-1][name]
    last = train_one(tiny_config(**ROUGH), registry, tmp_path / "last")
    assert last.metrics()[-1]["test+ema/nll"] != best.metrics()[-1]["test+ema/nll"]


def test_a_resumed_run_has_the_average_of_the_epoch_that_counts(registry, tmp_path):
    config = tiny_config(select="best", **ROUGH)
    whole = train_one(config, registry, tmp_path / "whole")
    assert int(whole.metrics()[-1]["selected/epoch"]) < 6
    with pytest.raises(KeyboardInterrupt):
        train_one(config, registry, tmp_path / "killed", KilledAfter(6, label_part="erm"))
    (path,) = (tmp_path / "killed").iterdir()
    resumed = resume_run(path, registry, progress=NoProgress())
    assert_same_tensors(average_of(whole), average_of(resumed))
    assert without_times(whole.metrics()) == without_times(resumed.metrics())


def test_it_is_tested_beside_the_weights(registry, tmp_path):
    run = train_one(tiny_config(ema=0.5), registry, tmp_path)
    results = run.metrics()[-1]
    of_average = evaluate_run(run.path, registry, runs=tmp_path, average=True)
    of_weights = evaluate_run(run.path, registry, runs=tmp_path)
    for name in of_weights.summaries:
        assert results[f"{name}/nll"] == pytest.approx(of_weights.summaries[name]["nll"], rel=1e-6)
        assert results[f"{name}+ema/nll"] == pytest.approx(of_average.summaries[name]["nll"], rel=1e-6)
        assert results[f"{name}/nll"] != results[f"{name}+ema/nll"]
        both = [
            RunTable.predictions(run).read(["index", "loss"], test_set=of) for of in (name, f"{name}+ema")
        ]
        assert both[0]["index"] == both[1]["index"] and both[0]["loss"] != both[1]["loss"]


def test_commands_hand_on_the_one_that_is_asked_for(in_tmp, molere):
    assert molere(f"train --method erm,focal --ema 0.9 {SMALL} --seeds 0-1").code == 0
    path = in_tmp / "runs" / "digits-erm-s0"
    results = RunDir(path).metrics()[-1]
    for flag, name in {"": "test", "--ema": "test+ema"}.items():
        said = json.loads(molere(f"eval {path} --json {flag}").out)
        assert said["metrics"]["test"]["accuracy"] == pytest.approx(results[f"{name}/accuracy"])
        assert molere(f"export {path} made{flag} {flag}").code == 0
        card = (in_tmp / f"made{flag}" / "README.md").read_text()
        assert f"`{name}`: accuracy {100 * results[f'{name}/accuracy']:.2f}%" in card
        other = {"test": "test+ema", "test+ema": "test"}[name]
        assert f"`{other}`" not in card and ("moving average" in card) == bool(flag)
    exported = load_file(in_tmp / "made--ema" / "model.safetensors")
    assert_same_tensors(exported, load_file(path / "checkpoint" / "ema.safetensors"))
    table = molere("compare --test-set test+ema --format json")
    assert table.code == 0 and "test+ema" in table.out
    assert molere("report -o page.html").code == 0
    assert "test+ema" in (in_tmp / "page.html").read_text()


def test_without_one_it_is_a_sentence(in_tmp, molere):
    assert molere(f"train --method erm {SMALL} --out run").code == 0
    for line in ("eval run --ema", "export run made --ema"):
        done = molere(line)
        assert (done.code, done.out) == (1, "")
        assert done.err.endswith("run has no moving average of its weights; train a run with --ema 0.999\n")
    assert not (in_tmp / "made").exists()
