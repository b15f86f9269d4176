"""Where the classifier starts (`--init-from`), and what of it stays put (`--freeze-backbone`)."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.func import functional_call
from torch.nn import functional as F
from typer.testing import CliRunner

from molere_cli import BackboneSpec, hookimpl
from molere_cli.api.evaluation import evaluate_run
from molere_cli.commands.app import app
from molere_cli.config.plan import make_plan
from molere_cli.data.source import load_dataset
from molere_cli.engine.checkpoint import classifier_tensors
from molere_cli.engine.classifier import Classifier, build_classifier
from molere_cli.engine.hypergradient import hypergradient
from molere_cli.engine.prediction import predict_feed
from molere_cli.engine.random_state import RandomState
from molere_cli.engine.response import optimizer_response
from molere_cli.engine.start import load_weights
from molere_cli.foundation.errors import ConfigError, TrainingError
from molere_cli.foundation.progress import NoProgress
from molere_cli.methods.erm import ERM
from molere_cli.registry.specs import BackboneRequest
from molere_cli.report.comparison_rows import find_baselines, make_rows
from molere_cli.report.records import load_record
from molere_cli.training.build_engine import build_engine
from molere_cli.training.resume_run import resume_run
from molere_cli_tests.conftest import tiny_net
from molere_cli_tests.fake_runs import drop_digests
from molere_cli_tests.training import (
    KilledAfter,
    Notebook,
    assert_same_tensors,
    engine_for,
    tensors_of,
    tiny_config,
    train_one,
    without_times,
)

HEAD = "6."  # of tiny_net


def network(num_classes: int, *, seed=0) -> nn.Module:
    torch.manual_seed(seed)
    module = tiny_net(BackboneRequest(num_classes=num_classes, image_size=(8, 8), options=None))
    for buffer in module.buffers():
        buffer.copy_(torch.rand(buffer.shape) * 9 + 1)
    return module


def written(tmp_path, module, *, without=(), **changes):
    tensors = {k: v for k, v in classifier_tensors(module).items() if not k.startswith(tuple(without))}
    save_file({**tensors, **changes}, tmp_path / "start.safetensors")
    return tmp_path / "start.safetensors"


# --- weights


def test_the_classifier_starts_from_the_file(registry, tmp_path):
    other = network(4)
    engine = engine_for(tiny_config(init_from=written(tmp_path, other)), registry)
    assert_same_tensors(classifier_tensors(engine.classifier.module), classifier_tensors(other))


def test_a_checkpoint_of_a_run_is_such_a_file(registry, tmp_path):
    run = train_one(tiny_config(epochs=1), registry, tmp_path)
    engine = engine_for(tiny_config(init_from=run.classifier_path, seed=5), registry)
    assert_same_tensors(classifier_tensors(engine.classifier.module), tensors_of(run))


@pytest.mark.parametrize("head", ["of 9 classes", "missing", "without bias", "with a strange part"])
def test_a_classification_layer_that_does_not_fit_stays_as_it_was_and_is_told_of(registry, tmp_path, head):
    """As a whole, never half of it; all else comes from the file."""
    if head == "of 9 classes":
        path, told = written(tmp_path, network(9)), ("weight", "one of shape (9, 32)", "one of shape (4, 32)")
    elif head == "missing":
        path, told = written(tmp_path, network(4), without=[HEAD]), ("weight", "none", "one of shape (4, 32)")
    elif head == "without bias":
        path, told = written(tmp_path, network(4), without=["6.bias"]), ("bias", "none", "one of shape (4,)")
    else:
        path = written(tmp_path, network(4), **{"6.scale": torch.ones(1)})
        told = ("scale", "one of shape (1,)", "none")
    config, notes = tiny_config(init_from=path, seed=3), Notebook()
    data = load_dataset(config.data, registry)
    engine = build_engine(make_plan(config, registry), data, None, note=notes.note)
    found, wanted = classifier_tensors(engine.classifier.module), load_file(path)
    random = classifier_tensors(engine_for(tiny_config(seed=3), registry).classifier.module)
    for key, value in found.items():
        assert torch.equal(value, random[key] if key.startswith(HEAD) else wanted[key]), key
    key, there, here = told
    assert notes.notes == [
        f"the classification layer starts at random: of 6.{key}, {path} has {there}, the backbone {here}"
    ]


def test_a_run_says_so_once_and_says_nothing_of_a_fit(registry, tmp_path):
    notes = Notebook()
    path = written(tmp_path, network(9))
    train_one(tiny_config(init_from=path, epochs=1), registry, tmp_path / "a", notes)
    assert len(notes.notes) == 1
    train_one(tiny_config(init_from=written(tmp_path, network(4)), epochs=1), registry, tmp_path / "b", notes)
    assert len(notes.notes) == 1


def test_the_weights_may_have_another_dtype_and_no_batch_counters(tmp_path):
    other, module = network(4), network(4, seed=1)
    halves = {k: v.half() for k, v in classifier_tensors(other).items() if "num_batches" not in k}
    save_file(halves, tmp_path / "half.safetensors")
    assert load_weights(module, tmp_path / "half.safetensors", backbone="b") is None
    for key, value in halves.items():
        assert torch.equal(module.state_dict()[key], value.float())


def test_a_file_of_timms_starts_timms_network(registry, tmp_path):
    other = timm.create_model("resnet18", num_classes=11)
    save_file(other.state_dict(), tmp_path / "timm.safetensors")
    config = tiny_config(backbone="timm:resnet18", init_from=tmp_path / "timm.safetensors")
    found = classifier_tensors(engine_for(config, registry).classifier.module)
    for key, value in other.state_dict().items():
        if not key.startswith("fc."):
            assert torch.equal(found[key], value), key
    assert found["fc.weight"].shape == (4, 512)


@pytest.mark.parametrize(
    ("without", "more", "what"),
    [
        (["0.bias"], {}, "it has no 0.bias"),
        (["0."], {}, "it has no 0.weight (and 1 more)"),
        ([], {"a.b": 1, "a.c": 1}, "it has a.b (and 1 more), which the backbone does not have"),
        (["1."], {"bn": 1}, "it has no 1.weight (and 3 more); it has bn, which the backbone does not have"),
        ([], {"0.bias": 7}, "0.bias has shape (7,) there and (8,) here"),
    ],
)
def test_a_file_of_another_network_is_refused_and_nothing_is_loaded(tmp_path, without, more, what):
    changes = {key: torch.ones(size) for key, size in more.items()}
    path = written(tmp_path, network(4), without=without, **changes)
    module = network(4, seed=1)
    before = classifier_tensors(module)
    with pytest.raises(ConfigError) as caught:
        load_weights(module, path, backbone="tiny_net")
    assert str(caught.value) == f"{path} does not fit backbone 'tiny_net': {what}"
    assert_same_tensors(classifier_tensors(module), before)


class Trap:
    def __reduce__(self):
        return os.mkdir, (f"{os.environ['TRAP']}/sprung",)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("key", ["1.running_var", "0.weight", "6.bias"])
def test_weights_that_are_not_finite_are_refused_by_name(tmp_path, key, value):
    """In a running statistic no loss would show them: training would end with accuracies of chance."""
    module = network(4)
    with torch.no_grad():
        module.state_dict()[key].view(-1)[0] = value
    path = tmp_path / "diverged.safetensors"
    save_file(module.state_dict(), path)
    ours = network(4, seed=1)
    before = {name: tensor.clone() for name, tensor in ours.state_dict().items()}
    with pytest.raises(ConfigError, match=rf"diverged.safetensors cannot start a training: {key} has values"):
        load_weights(ours, path, backbone="tiny_net")
    assert_same_tensors(before, ours.state_dict())


def test_a_classifier_whose_statistics_have_diverged_is_not_scored(registry):
    engine = engine_for(tiny_config(), registry)
    engine.classifier.module[1].running_var.fill_(float("nan"))
    with pytest.raises(TrainingError, match="no finite probabilities for 64 of 64 examples: it has diverged"):
        predict_feed(engine.classifier, engine.feed)


def test_features_frozen_at_random_are_told_of(registry, tmp_path):
    def notes(**changes):
        notebook = Notebook()
        train_one(tiny_config(epochs=1, **changes), registry, tmp_path, progress=notebook)
        return [note for note in notebook.notes if note.startswith("--freeze-backbone keeps features that")]

    class Pretrained:
        @hookimpl
        def register_backbones(self, register):
            register(BackboneSpec(name="pretrained", description="As from a file.", build=pretrained))

    def pretrained(request):
        module = network(request.num_classes)
        nn.init.normal_(module[6].weight)
        return module

    registry.add(Pretrained(), "pretrained_plugin")
    save_file(network(4).state_dict(), tmp_path / "start.safetensors")
    assert len(notes(freeze_backbone=True)) == 1
    assert notes(freeze_backbone=True, init_from=tmp_path / "start.safetensors") == []
    assert notes(freeze_backbone=True, backbone="pretrained") == []
    assert notes() == []


@pytest.mark.parametrize("content", ["pickle", "torn", "nothing"])
def test_a_file_that_is_no_safetensors_is_one_sentence_and_never_unpickled(tmp_path, content, monkeypatch):
    monkeypatch.setenv("TRAP", str(tmp_path))
    path = tmp_path / "weights.pth"
    if content == "torn":
        path = written(tmp_path, network(4))
        path.write_bytes(path.read_bytes()[:200])
    else:
        path.write_bytes(pickle.dumps(Trap()) if content == "pickle" else b"")
    with pytest.raises(ConfigError) as caught:
        load_weights(network(4), path, backbone="b")
    assert str(caught.value).startswith(f"cannot read the weights {path}: it is no safetensors file (")
    assert not (tmp_path / "sprung").exists()


def test_a_missing_file_is_one_sentence_on_the_command_line(in_tmp):
    done = CliRunner().invoke(app, ["train", "--method", "erm", "--init-from", "nowhere.safetensors"])
    assert isinstance(done.exception, ConfigError)
    assert f"cannot read the weights {Path('nowhere.safetensors').absolute()}: " in str(done.exception)
    assert not (in_tmp / "runs").exists()


def test_a_finished_run_is_evaluated_without_the_file(registry, tmp_path):
    path = written(tmp_path, network(4))
    run = train_one(tiny_config(init_from=path, epochs=1), registry, tmp_path)
    path.unlink()
    found = evaluate_run(run.path, registry, runs=tmp_path)
    assert found.summaries["test"]["accuracy"] == run.metrics()[-1]["test/accuracy"]


def test_a_second_classifier_starts_from_the_file_too(registry, tmp_path, monkeypatch):
    contexts, other = [], network(4)
    monkeypatch.setattr(ERM, "__init__", lambda self, context: contexts.append(context))
    engine_for(tiny_config(init_from=written(tmp_path, other)), registry)
    again = contexts[0].make_classifier()
    assert_same_tensors(classifier_tensors(again.module), classifier_tensors(other))


def test_another_start_is_another_experiment_with_a_baseline_of_its_own(registry, tmp_path):
    start = {"init_from": written(tmp_path, network(4)), "epochs": 2}
    lrw = {"method": "lrw", "split": "random", "delta": 0.25, "warmup_epochs": 1}
    runs = [
        train_one(tiny_config(epochs=2), registry, tmp_path / "runs"),
        train_one(tiny_config(**lrw, **start), registry, tmp_path / "runs"),
        train_one(tiny_config(freeze_backbone=True, epochs=2), registry, tmp_path / "runs"),
        train_one(tiny_config(**lrw, **start, freeze_backbone=True), registry, tmp_path / "runs"),
    ]
    rows, warnings = make_rows([load_record(run) for run in runs])
    assert (len(rows), warnings) == (4, [])
    assert [found.row for found in find_baselines(rows)] == [None] * 4
    runs.append(train_one(tiny_config(**start), registry, tmp_path / "runs"))
    rows, _ = make_rows([load_record(run) for run in runs])
    measured = {
        (row.settings["init_from"], row.settings["freeze_backbone"]): found.row
        for row, found in zip(rows, find_baselines(rows), strict=True)
        if not row.is_baseline
    }
    path = str(start["init_from"])
    assert measured[path, True] is None
    assert measured[path, False].settings["init_from"] == path


@pytest.mark.parametrize(("method", "num_newer"), [("erm", 2), ("lrw", 3)])
def test_runs_from_before_there_were_such_settings_are_the_same_experiment(
    method, num_newer, registry, tmp_path
):
    run = train_one(tiny_config(method=method, epochs=1), registry, tmp_path)
    now = load_record(run).settings
    settings = json.loads((run.path / "config.json").read_text())
    newer = settings.keys() & {"init_from", "freeze_backbone", "reweighter_weight_decay"}
    assert len(newer) == num_newer
    older = {name: value for name, value in settings.items() if name not in newer}
    (run.path / "config.json").write_text(json.dumps(older))
    drop_digests(run.path)
    assert load_record(run).settings == now


# --- frozen backbones


@pytest.mark.parametrize("method", ["erm", "lrw", "molere"])
@pytest.mark.parametrize("optimizer", ["momentum", "adamw"])
def test_only_the_classification_layer_changes(registry, tmp_path, method, optimizer):
    path = written(tmp_path, network(4))
    learned = {"reweighter": "instance", "delta": 0.25}
    options = {
        "erm": {},
        "lrw": {"split": "random", **learned},
        "molere": {"split": "none", **learned},
    }[method]
    config = tiny_config(
        method=method,
        init_from=path,
        freeze_backbone=True,
        optimizer=optimizer,
        epochs=3,
        clip_grad=1.0,
        **options,
    )
    run = train_one(config, registry, tmp_path)
    before, after = load_file(path), tensors_of(run)
    for key in before:
        assert torch.equal(before[key], after[key]) == (not key.startswith(HEAD)), key
    if method != "erm":
        assert run.metrics()[-1]["reweighter/updates"] > 0
        assert run.metrics()[-1]["weights/std"] > 0


def test_a_frozen_backbone_gives_the_same_features_in_training_and_out_of_it():
    classifier = frozen(network(4), torch.float32)
    images = torch.rand(6, 3, 8, 8)
    classifier.train()
    with torch.no_grad():
        training = classifier.forward(images, with_features=True).features
        assert torch.equal(classifier.forward(images, with_features=True).features, training)
    assert torch.equal(classifier.predict(images, with_features=True).features, training)
    assert torch.equal(classifier.meta_forward(images, with_features=True).features, training)
    assert classifier.parameters.keys() == {"6.weight", "6.bias"}


def test_a_prediction_leaves_every_layer_in_its_mode():
    classifier = frozen(network(4), torch.float32)
    classifier.train()
    modes = [layer.training for layer in classifier.module]
    assert modes == [False] * 6 + [True]
    classifier.predict(torch.rand(2, 3, 8, 8))
    assert [layer.training for layer in classifier.module] == modes


def test_without_freezing_everything_is_in_training_mode():
    classifier = Classifier(network(4), device=torch.device("cpu"), precision=torch.float32)
    classifier.module.eval()
    classifier.train()
    assert all(layer.training for layer in classifier.module.modules())


def frozen(module: nn.Module, dtype: torch.dtype) -> Classifier:
    return Classifier(
        module.to(dtype), device=torch.device("cpu"), precision=torch.float32, freeze_backbone=True
    )


def batch(size: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(size, 3, 8, 8, generator=generator, dtype=torch.float64)
    return images, torch.arange(size) % 4


@pytest.mark.parametrize("nesterov", [False, True])
def test_the_hypergradient_is_exact_with_a_frozen_backbone(nesterov):
    """Ours against second-order autograd through a written-out step of the classification layer alone."""
    lr, momentum, decay = 0.1, 0.9, 1e-3
    classifier = frozen(network(4), torch.float64)
    optimizer = torch.optim.SGD(
        classifier.module.parameters(), lr=lr, momentum=momentum, nesterov=nesterov, weight_decay=decay
    )
    (images, labels), (val_images, val_labels) = batch(6, 1), batch(5, 2)
    weights_B = torch.rand(6, dtype=torch.float64) + 0.5
    classifier.train()

    def losses() -> torch.Tensor:
        return F.cross_entropy(classifier.forward(images).logits, labels, reduction="none")

    for _ in range(3):
        optimizer.zero_grad()
        losses().mean().backward()
        optimizer.step()
    before = {name: p.detach().clone() for name, p in classifier.parameters.items()}
    buffers = {
        name: optimizer.state[p]["momentum_buffer"].clone() for name, p in classifier.parameters.items()
    }
    randomness = RandomState.capture(classifier.device)
    optimizer.zero_grad()
    (weights_B * losses()).mean().backward()
    optimizer.step()
    val_loss, gradient = classifier.validation_gradient(val_images, val_labels)
    parameters = classifier.parameters
    response = optimizer_response(
        optimizer, gradient, before={p: before[name] for name, p in parameters.items()}
    )
    found = hypergradient(
        classifier.step_losses(images, labels, randomness),
        before,
        {name: response[p] for name, p in parameters.items()},
    )

    module = classifier.module.eval()
    duals = {name: value.clone().requires_grad_() for name, value in before.items()}
    weights = weights_B.clone().requires_grad_()
    logits = functional_call(module, duals, (images,))
    loss = (weights * F.cross_entropy(logits, labels, reduction="none")).mean()
    gradients = torch.autograd.grad(loss, list(duals.values()), create_graph=True)
    stepped = {}
    for (name, value), g in zip(duals.items(), gradients, strict=True):
        g = g + decay * value
        moved = momentum * buffers[name] + g
        stepped[name] = value - lr * (g + momentum * moved if nesterov else moved)
    wanted_loss = F.cross_entropy(functional_call(module, stepped, (val_images,)), val_labels)
    (wanted,) = torch.autograd.grad(wanted_loss, weights)
    torch.testing.assert_close(val_loss, wanted_loss.detach())
    torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-12)
    assert found.abs().min() > 0


def test_a_killed_run_with_a_frozen_backbone_resumes_to_the_same_bits(registry, tmp_path):
    config = tiny_config(
        method="lrw",
        split="random",
        delta=0.25,
        init_from=written(tmp_path, network(9)),
        freeze_backbone=True,
    )
    whole = train_one(config, registry, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train_one(config, registry, tmp_path / "killed", KilledAfter(2, label_part="lrw"))
    (path,) = (tmp_path / "killed").iterdir()
    resumed = resume_run(path, registry, progress=NoProgress())
    assert_same_tensors(tensors_of(resumed), tensors_of(whole))
    assert without_times(resumed.metrics()) == without_times(whole.metrics())


def test_several_classification_layers_cannot_be_probed():
    spec = BackboneSpec(
        name="distilled",
        description="",
        build=lambda request: timm.create_model(
            "deit_tiny_distilled_patch16_224", img_size=16, num_classes=request.num_classes
        ),
    )
    request = BackboneRequest(num_classes=4, image_size=(16, 16), options=None)
    with pytest.raises(TrainingError, match="has several classification layers; leave out --freeze-backbone"):
        build_classifier(
            spec, request, device=torch.device("cpu"), precision=torch.float32, freeze_backbone=True
        )


def test_both_are_flags(in_tmp):
    arguments = "train --method erm --epochs 1 --batch-size 500 --quiet --device cpu --out"
    first = CliRunner().invoke(app, [*arguments.split(), "first"])
    assert first.exit_code == 0, first.output
    start = "first/checkpoint/classifier.safetensors"
    second = CliRunner().invoke(
        app, [*arguments.split(), "second", "--init-from", start, "--freeze-backbone", "--seed", "1"]
    )
    assert second.exit_code == 0, second.output
    before, after = load_file(start), load_file("second/checkpoint/classifier.safetensors")
    changed = {key for key in before if not torch.equal(before[key], after[key])}
    assert len(changed) == 2
