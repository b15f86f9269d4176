"""The common mistakes of a plugin's author: one sentence each that names plugin, hook and object."""

from __future__ import annotations

import sys
from importlib.metadata import EntryPoint
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from molere_cli import (
    BackboneFamily,
    BackboneSpec,
    ConfigError,
    DatasetSpec,
    Method,
    MethodSpec,
    PluginError,
    ReweighterSpec,
    SplitSpec,
    hookimpl,
)
from molere_cli.engine.third_party import CHECKS, HOOKS
from molere_cli.registry.registry import empty_registry
from molere_cli_tests.training import engine_for, tiny_config, train_one, without_times

RECORDS = {
    "backbones": BackboneSpec,
    "datasets": DatasetSpec,
    "splits": SplitSpec,
    "reweighters": ReweighterSpec,
    "methods": MethodSpec,
}
MORE = {"methods": {"label": "Mine"}, "reweighters": {"lr": 0.1}}


def offer(registry, kind: str, *, first_party: bool = False, **fields):
    """Let a plugin `molere_mine` offer a record `mine` of that kind."""
    spec = RECORDS[kind](**{"name": "mine", "description": "Mine.", **MORE.get(kind, {}), **fields})
    plugin = SimpleNamespace(**{f"register_{kind}": hookimpl(lambda register: register(spec))})
    registry.add(plugin, "molere_mine", first_party=first_party)
    assert registry.problems == []


def boom(*_arguments):
    raise ValueError("no\n  way")


def leave(*_arguments):
    sys.exit("bye")


def nothing(*_arguments):
    return None


# --- what builds, loads and chooses

OF_KIND = {
    "backbones": ("backbone", "build", "Module", {"backbone": "mine"}),
    "datasets": ("dataset", "load", "Dataset", {"dataset": "mine"}),
    "splits": ("split strategy", "choose", "Tensor", {"method": "lrw", "split": "mine"}),
    "reweighters": (
        "reweighter",
        "build",
        "Module",
        {"method": "lrw", "split": "random", "reweighter": "mine"},
    ),
    "methods": ("method", "build", "Method", {"method": "mine"}),
}


@pytest.mark.parametrize("kind", OF_KIND)
@pytest.mark.parametrize(
    ("given", "what"),
    [
        (boom, "failed in {hook}: ValueError: no way"),
        (leave, "failed in {hook}: SystemExit: bye"),
        (nothing, "gave None from {hook}, not a {wanted}"),
        (lambda *_: 3, "gave int from {hook}, not a {wanted}"),
        ("no_such:x", "failed in the import of 'no_such:x': ModuleNotFoundError: No module named 'no_such'"),
    ],
)
def test_what_fails_or_gives_nothing_is_named(registry, tmp_path, kind, given, what):
    word, hook, wanted, settings = OF_KIND[kind]
    offer(registry, kind, **{hook: given})
    with pytest.raises(PluginError) as caught:
        train_one(tiny_config(**settings), registry, tmp_path)
    assert str(caught.value) == f"plugin molere_mine: {word} 'mine' {what.format(hook=hook, wanted=wanted)}"
    assert (given is boom) == isinstance(caught.value.__cause__, ValueError)


@pytest.mark.parametrize("kind", OF_KIND)
def test_an_error_of_ours_that_a_plugin_raises_passes_as_it_is(registry, tmp_path, kind):
    def refuse(*_arguments):
        raise ConfigError("mine needs more")

    _, hook, _, settings = OF_KIND[kind]
    offer(registry, kind, **{hook: refuse})
    with pytest.raises(ConfigError, match=r"^mine needs more$"):
        train_one(tiny_config(**settings), registry, tmp_path)


@pytest.mark.parametrize("kind", OF_KIND)
def test_a_bug_of_our_own_keeps_its_traceback(registry, tmp_path, kind):
    _, hook, _, settings = OF_KIND[kind]
    offer(registry, kind, first_party=True, **{hook: boom})
    with pytest.raises(ValueError, match="no\n  way"):
        train_one(tiny_config(**settings), registry, tmp_path)


def test_what_our_own_gives_is_checked_too_and_a_bug(registry, tmp_path):
    offer(registry, "splits", first_party=True, choose=nothing)
    with pytest.raises(TypeError, match="split strategy 'mine' gave None from choose, not a Tensor"):
        train_one(tiny_config(method="lrw", split="mine"), registry, tmp_path)


@pytest.mark.parametrize(
    ("list_names", "what"),
    [
        (boom, "failed in list_names: ValueError: no way"),
        (nothing, "gave None from list_names, not a Sequence"),
    ],
)
def test_a_family_that_cannot_list_its_members_is_named(list_names, what):
    registry = empty_registry()
    family = BackboneFamily(prefix="f", description="", list_names=list_names, build=boom)
    registry.add(
        SimpleNamespace(register_backbones=hookimpl(lambda register: register(family))), "molere_mine"
    )
    for name in ("f:net", "net"):
        with pytest.raises(PluginError) as caught:
            registry.backbone(name)
        assert str(caught.value) == f"plugin molere_mine: backbone family 'f' {what}"


def test_a_member_of_a_family_that_cannot_be_built_is_named(registry, tmp_path):
    family = BackboneFamily(prefix="f", description="", list_names=lambda: ["net"], build=boom)
    registry.add(
        SimpleNamespace(register_backbones=hookimpl(lambda register: register(family))), "molere_mine"
    )
    with pytest.raises(PluginError, match=r"^plugin molere_mine: backbone 'net' failed in build: ValueError"):
        train_one(tiny_config(backbone="f:net"), registry, tmp_path)


# --- masks of split strategies


@pytest.mark.parametrize(
    ("mask", "what"),
    [
        (torch.zeros(3, dtype=torch.bool), "gave a mask of shape (3,), not (64,)"),
        (torch.zeros(64, 1, dtype=torch.bool), "gave a mask of shape (64, 1), not (64,)"),
        (torch.arange(64), "gave a mask of dtype int64, not bool"),
        (torch.arange(64).numpy() < 9, "gave ndarray from choose, not a Tensor"),
    ],
)
def test_a_mask_of_another_kind_is_refused(registry, tmp_path, mask, what):
    offer(registry, "splits", choose=lambda request: mask)
    with pytest.raises(PluginError) as caught:
        train_one(tiny_config(method="lrw", split="mine"), registry, tmp_path)
    assert str(caught.value) == f"plugin molere_mine: split strategy 'mine' {what}"


# --- networks


@pytest.mark.parametrize(
    ("forward", "what"),
    [
        (boom, "failed in forward: ValueError: no way"),
        (nothing, "gave None from forward, not a Tensor"),
        (lambda self, batch: self.w.expand(3), "gave log-weights of shape (3,), not (16,)"),
        (lambda self, batch: self.w * batch.images, "gave log-weights of shape (16, 3, 8, 8), not (16,)"),
        (lambda self, batch: batch.labels, "gave log-weights of dtype int64, not a floating one"),
        (lambda self, batch: batch.losses, "gave log-weights without a graph to its parameters"),
    ],
)
def test_a_reweighter_that_gives_no_log_weights_is_named(registry, tmp_path, forward, what):
    class Mine(nn.Module):
        def __init__(self, request):
            super().__init__()
            self.w = nn.Parameter(torch.zeros(1))

    Mine.forward = forward
    offer(registry, "reweighters", build=Mine)
    with pytest.raises(PluginError) as caught:
        train_one(tiny_config(method="lrw", split="random", reweighter="mine"), registry, tmp_path)
    assert str(caught.value) == f"plugin molere_mine: reweighter 'mine' {what}"


def test_a_reweighter_of_a_third_party_learns_as_our_own(registry, tmp_path):
    offer(registry, "reweighters", build="molere_reweighters.instance:InstanceReweighter", lr=0.05)
    settings = {"method": "lrw", "split": "random", "warmup_epochs": 1}
    runs = [
        train_one(tiny_config(**settings, reweighter=name), registry, tmp_path)
        for name in ("instance", "mine")
    ]
    assert without_times(runs[0].metrics()) == without_times(runs[1].metrics())
    assert runs[0].metrics()[-1]["weights/std"] > 0


def test_a_backbone_that_fails_in_its_first_pass_is_named(registry, tmp_path):
    class Mine(nn.Module):
        def __init__(self, request):
            super().__init__()
            self.fc = nn.Linear(1, 1)

        forward = boom

    offer(registry, "backbones", build=Mine)
    with pytest.raises(PluginError) as caught:
        train_one(tiny_config(backbone="mine"), registry, tmp_path)
    assert str(caught.value) == "plugin molere_mine: backbone 'mine' failed in forward: ValueError: no way"


# --- methods


class Plain(Method):
    """Weights of 1."""

    def weights(self, step):
        return torch.ones_like(step.losses.detach())


def method_with(**hooks) -> type[Method]:
    return type("Mine", (Plain,), hooks)


MISTAKES = {
    "weights": [
        (boom, "failed in weights: ValueError: no way"),
        (lambda *_: [1.0] * 16, "gave list from weights, not a Tensor"),
        (lambda *_: torch.ones(3), "gave weights of shape (3,), not (16,)"),
        (lambda *_: torch.ones(()), "gave weights of shape (), not (16,)"),
        (lambda self, step: step.losses > 1, "gave weights of dtype bool, not a floating one"),
        (lambda self, step: step.losses, "gave weights that carry a graph; detach them"),
        (
            lambda self, step: step.losses.detach() * torch.nan,
            "gave weights that are not finite in epoch 1, step 1",
        ),
        (
            lambda self, step: step.losses.detach().clamp_min(0.1) / 0,
            "gave weights that are not finite in epoch 1, step 1",
        ),
    ],
    "before_epoch": [
        (boom, "failed in before_epoch: ValueError: no way"),
        (nothing, "gave None from before_epoch, not a Tensor"),
        (
            lambda *_: torch.ones(64, dtype=torch.bool),
            "gave positions from before_epoch of dtype bool, not int64",
        ),
        (lambda *_: torch.zeros(2, 2).long(), "gave positions from before_epoch of shape (2, 2), not (*,)"),
        (lambda *_: torch.zeros(0).long(), "gave no positions from before_epoch"),
        (
            lambda *_: torch.tensor([0, 64]),
            "gave 64 among positions from before_epoch, but the pool has 64 examples",
        ),
        (
            lambda *_: torch.tensor([-1, 5]),
            "gave -1 among positions from before_epoch, but the pool has 64 examples",
        ),
    ],
    "batches": [
        (lambda *_, **__: boom(), "failed in batches: ValueError: no way"),
        (lambda *_, **__: None, "gave None from batches, not a list"),
        (lambda *_, **__: [], "gave no batch from batches"),
        (
            lambda *_, **__: [torch.tensor([1.0])],
            "gave positions from batches of dtype float32, not int64",
        ),
    ],
    "select": [
        (boom, "failed in select: ValueError: no way"),
        (nothing, "gave None from select, not a Batch"),
        (
            lambda self, batch: batch._replace(labels=batch.labels[:4]),
            "gave 16 positions, 16 images and 4 labels from select",
        ),
        (lambda self, batch: batch._replace(images=None), "gave None from select, not a Tensor"),
    ],
    "loss": [
        (boom, "failed in loss: ValueError: no way"),
        (nothing, "gave None from loss, not a Tensor"),
        (lambda self, step, weights: step.losses, "gave a loss of shape (16,), not ()"),
        (
            lambda self, step, weights: step.losses.mean().detach(),
            "gave a loss without a graph; make it of step.losses or step.logits",
        ),
    ],
    "after_step": [(boom, "failed in after_step: ValueError: no way")],
    "metrics": [
        (boom, "failed in metrics: ValueError: no way"),
        (nothing, "gave None from metrics, not a dict"),
        (lambda self: {"mine/x": torch.ones(())}, "gave Tensor as metric 'mine/x', not a number"),
    ],
    "in_validation": [
        (boom, "failed in in_validation: ValueError: no way"),
        (lambda self: torch.zeros(3, dtype=torch.bool), "gave a mask of shape (3,), not (64,)"),
        (lambda self: torch.zeros(64), "gave a mask of dtype float32, not bool"),
    ],
    "state_dict": [
        (boom, "failed in state_dict: ValueError: no way"),
        (nothing, "gave None from state_dict, not a dict"),
        (
            lambda self: {"a": [1, {"b": {1, 2}}]},
            "gave set as a/1/b from state_dict; a checkpoint holds tensors, numbers and strings",
        ),
    ],
}
CASES = [(hook, given, what) for hook, mistakes in MISTAKES.items() for given, what in mistakes]


@pytest.mark.parametrize(("hook", "given", "what"), CASES, ids=[f"{hook}-{what}" for hook, _, what in CASES])
def test_a_mistake_of_a_method_is_named(registry, tmp_path, hook, given, what):
    offer(registry, "methods", build=method_with(**{hook: given}))
    with pytest.raises(PluginError) as caught:
        train_one(tiny_config(method="mine"), registry, tmp_path)
    assert str(caught.value) == f"plugin molere_mine: method 'mine' {what}"


def test_weights_that_are_not_finite_and_not_in_the_loss_are_named(registry, tmp_path):
    mine = method_with(
        weights=lambda self, step: step.losses.detach() * torch.nan,
        loss=lambda self, step, weights: step.losses.mean(),
    )
    offer(registry, "methods", build=mine)
    with pytest.raises(PluginError, match=r"'mine' gave weights that are not finite in epoch 1, step 1$"):
        train_one(tiny_config(method="mine"), registry, tmp_path)


def test_a_state_that_cannot_be_gone_on_from_is_named(registry):
    offer(registry, "methods", build=method_with(load_state_dict=boom))
    engine = engine_for(tiny_config(method="mine"), registry)
    with pytest.raises(PluginError, match=r"method 'mine' failed in load_state_dict: ValueError: no way$"):
        engine.loop.load_state_dict(engine.loop.state_dict())


def test_a_method_of_a_third_party_trains_as_our_own(registry, tmp_path):
    offer(
        registry,
        "methods",
        build="molere_baselines.focal:Focal",
        options="molere_baselines.focal:FocalOptions",
    )
    for more in ({}, {"accumulate": 3}):
        runs = [train_one(tiny_config(method=name, **more), registry, tmp_path) for name in ("focal", "mine")]
        assert without_times(runs[0].metrics()) == without_times(runs[1].metrics())


def test_only_what_is_not_our_own_is_checked(registry):
    offer(registry, "methods", build=Plain)
    assert engine_for(tiny_config(method="mine"), registry).loop.method.spec.plugin is not None
    assert engine_for(tiny_config(), registry).loop.method.spec.plugin is None


def test_what_a_method_promises_counts(registry):
    promises = {"batch_parts": "ranks", "resumes_within_epoch": True, "weights_read": "features"}
    offer(registry, "methods", build=type("Promising", (Plain,), promises))
    method = engine_for(tiny_config(method="mine"), registry).loop.method
    assert method.spec.plugin is not None
    assert {name: getattr(method, name) for name in promises} == promises


# --- the command line


def test_a_plugins_mistake_is_one_sentence_and_debug_shows_where_it_is(molere, registry, monkeypatch):
    offer(registry, "methods", build=boom)
    monkeypatch.setattr("molere_cli.registry.registry.load_plugins", lambda: registry)
    line = "train --dataset tiny --backbone tiny_net --method mine"
    sentence = "molere: plugin molere_mine: method 'mine' failed in build: ValueError: no way"
    done = molere(line)
    assert (done.code, done.err) == (1, f"{sentence} (molere --debug shows where)\n")
    done = molere(f"--debug {line}")
    assert done.code == 1
    assert done.err.startswith("Traceback")
    assert "in boom" in done.err
    assert done.err.endswith(f"\n{sentence}\n")


def test_debug_shows_where_any_error_comes_from(molere):
    assert "in make_plan" in molere("--debug train --method no_such").err
    assert "in make_plan" not in molere("train --method no_such").err


def test_a_plugin_that_exits_at_import_kills_no_command(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "molere_exits.py").write_text("import sys\nsys.exit(3)")
    registry = empty_registry()
    with pytest.warns(UserWarning, match=r"plugin molere_exits failed to import: SystemExit: 3"):
        registry.load(EntryPoint(name="molere_exits", value="molere_exits", group="molere"))
    leaving = SimpleNamespace(register_splits=hookimpl(lambda register: sys.exit(4)))
    with pytest.warns(UserWarning, match=r"plugin leaving failed in register_splits: SystemExit: 4"):
        registry.add(leaving, "leaving")
    assert [problem.plugin for problem in registry.problems] == ["molere_exits", "leaving"]


def test_every_call_of_a_third_partys_method_reaches_it_and_is_watched(registry):
    """Those that are added to `Method` later too."""
    public = {name for name, value in vars(Method).items() if callable(value) and not name.startswith("_")}
    assert {"follows", "before_epoch", "loss", "state_dict"} <= public == set(HOOKS) > set(CHECKS)

    def fails(name):
        def call(self, *arguments, **options):
            raise ZeroDivisionError(name)

        return call

    own = type("Fails", (Method,), {name: fails(name) for name in public})

    class Plugin:
        @hookimpl
        def register_methods(self, register):
            register(MethodSpec(name="fails", description="-", build=own, label="Fails"))

    registry.add(Plugin(), "failing_plugin")
    method = engine_for(tiny_config(method="fails"), registry).loop.method
    for name in sorted(public):
        with pytest.raises(PluginError, match=f"failed in {name}: ZeroDivisionError: {name}"):
            getattr(method, name)()


def test_a_third_partys_method_that_follows_steps_is_given_what_the_layers_saw(registry):
    seen = []

    class Follows(Method):
        def follows(self, epoch, in_epoch):
            return True

        def weights(self, step):
            seen.append(step.trace)

    class Plugin:
        @hookimpl
        def register_methods(self, register):
            register(MethodSpec(name="follows", description="-", build=Follows, label="Follows"))

        @hookimpl
        def register_backbones(self, register):
            build = lambda request: nn.Sequential(nn.Flatten(), nn.Linear(192, 4))  # noqa: E731
            register(BackboneSpec(name="flat", description="-", build=build))

    registry.add(Plugin(), "following_plugin")
    engine = engine_for(tiny_config(method="follows", backbone="flat", epochs=1), registry)
    list(engine.loop.epochs())
    assert seen and all(trace is not None for trace in seen)
