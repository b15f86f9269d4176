"""The layer rule against the dual pass and second-order autograd, and which networks it is for."""

from __future__ import annotations

import copy

import pytest
import timm
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from molere_cli import BackboneSpec
from molere_cli.config.plan import make_plan
from molere_cli.data.source import load_dataset
from molere_cli.engine.layer_rule import StepTrace, has_no_cross_example_ops
from molere_cli.engine.random_state import RandomState
from molere_cli.registry.hookspecs import hookimpl
from molere_cli.splits.quota import random_split
from molere_cli.training.build_engine import build_engine
from molere_cli_tests.training import tiny_config
from molere_cli_tests.unit import test_hypergradient
from molere_cli_tests.unit.test_hypergradient import NUM_CLASSES, OPTIMIZERS, Problem, dropout_net

CPU = torch.device("cpu")


def transformer(num_classes=NUM_CLASSES, **options) -> nn.Module:
    small = {"img_size": 8, "patch_size": 4, "embed_dim": 16, "depth": 2, "num_heads": 2}
    return VisionTransformer(**small, num_classes=num_classes, drop_path_rate=0.3, **options)


def group_norm_net() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1, groups=3, bias=False),
        nn.GroupNorm(2, 6),
        nn.ReLU(inplace=True),
        nn.Conv2d(6, 6, 3, stride=2),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Dropout(0.2),
        nn.Linear(24, NUM_CLASSES),
    )


FOLLOWED = {
    "class token": transformer,
    "registers": lambda: transformer(reg_tokens=2, no_embed_class=True, class_token=False, global_pool="avg"),
    "layer scale": lambda: transformer(init_values=0.1, qk_norm=True, proj_drop_rate=0.2),
    "dropout": dropout_net,
    "group norm": group_norm_net,
}


class Squared(nn.Linear):
    """Not linear in its parameters."""

    def forward(self, images):
        return nn.functional.linear(images, self.weight.square())


NOT_FOLLOWED = {
    "batch norm": test_hypergradient.conv_net,
    "a class of its own": test_hypergradient.SharingNet,
    "a subclass": lambda: nn.Sequential(nn.Flatten(), Squared(192, NUM_CLASSES)),
    "resized positions": lambda: transformer(dynamic_img_size=True),
    "attention pooling": lambda: transformer(global_pool="map"),
    "standardized weights": lambda: timm.create_model("nf_resnet26", num_classes=NUM_CLASSES),
    "bare scales": lambda: timm.create_model("convnext_atto", num_classes=NUM_CLASSES),
}


class Followed(Problem):
    """A step that is followed, with a hypergradient by the layer rule."""

    trace: StepTrace | None = None

    def losses(self):
        if self.trace is None:
            return super().losses()
        logits = self.classifier.forward(self.images, trace=self.trace).logits
        return nn.functional.cross_entropy(logits, self.labels, reduction="none")

    def by_layer_rule(self):
        def rule(_losses, _before, response):
            followed_B = self.classifier.followed_alignment(self.trace, response, like=self.weights_B)
            return -followed_B / self.weights_B

        self.trace = StepTrace()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(test_hypergradient, "hypergradient", rule)
            return self.forward_mode()


@pytest.fixture
def problem(monkeypatch):
    def make(network, optimizer="nesterov", clip=None):
        monkeypatch.setitem(test_hypergradient.NETWORKS, "followed", FOLLOWED[network])
        return Followed("followed", optimizer, clip)

    return make


@pytest.mark.parametrize("clip", [None, 0.05], ids=["unclipped", "clipped"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("network", ["class token", "group norm"])
def test_it_is_exact_under_every_optimizer(network, optimizer, clip, problem):
    made = problem(network, optimizer, clip)
    twin, randomness = copy.deepcopy(made), RandomState.capture(CPU)
    ours = made.by_layer_rule()
    with randomness.replayed(CPU):
        theirs = twin.second_order()
    assert theirs.abs().max() > 1e-8
    assert (ours - theirs).norm() <= 1e-8 * theirs.norm()


@pytest.mark.parametrize("network", FOLLOWED)
def test_it_is_the_dual_pass(network, problem):
    made = problem(network)
    assert made.classifier.has_no_cross_example_ops
    twin, randomness = copy.deepcopy(made), RandomState.capture(CPU)
    ours = made.by_layer_rule()
    with randomness.replayed(CPU):
        theirs = twin.forward_mode()
    assert (ours - theirs).norm() <= 1e-10 * theirs.norm()
    for one, other in zip(made.module.parameters(), twin.module.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-14)  # the step itself is the same


@pytest.mark.parametrize("network", NOT_FOLLOWED)
def test_what_is_not_known_takes_the_dual_pass(network):
    assert not has_no_cross_example_ops(NOT_FOLLOWED[network]())


@pytest.mark.parametrize(
    "name", ["vit_tiny_patch16_224", "deit3_small_patch16_224", "vit_base_patch16_clip_224"]
)
def test_timms_vision_transformers_are_followed(name):
    assert has_no_cross_example_ops(timm.create_model(name, num_classes=10))


class FollowedPlugin:
    @hookimpl
    def register_backbones(self, register):
        build = lambda request: transformer(num_classes=request.num_classes)  # noqa: E731
        register(BackboneSpec(name="small_transformer", description="", build=build))


@pytest.fixture
def engine_of(registry):
    registry.add(FollowedPlugin(), "followed_plugin")

    def build(**settings):
        learned = {"reweighter": "instance", "reweighter_interval": 1, "warmup_epochs": 0}
        config = tiny_config(
            method="lrw", split="random", backbone="small_transformer", clip_grad=1.0, **learned, **settings
        )
        data = load_dataset(config.data, registry)
        mask = random_split(data.dataset.pool.labels, delta=0.25, seed=0)
        return build_engine(make_plan(config, registry), data, mask)

    return build


@pytest.mark.parametrize("frozen", [False, True])
def test_training_learns_the_same_weights_by_either_way(frozen, engine_of):
    found = []
    for way in ("auto", "dual"):
        engine = engine_of(freeze_backbone=frozen, hypergradient=way)
        assert engine.classifier.has_no_cross_example_ops
        assert engine.loop.method.follows(0, 0) == (way == "auto")
        list(engine.loop.epochs())
        found.append(engine.loop.method.state_dict()["reweighter"])
    (one,), (other,) = (list(state.values()) for state in found)
    assert one.std() > 0.05
    torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3)


def test_a_weight_that_has_underflowed_to_0_spoils_nothing(engine_of):
    engine = engine_of(weight_normalization="none")
    (log_weights,) = engine.loop.method._reweighting.reweighter.parameters()
    with torch.no_grad():
        log_weights[:8] = -200.0
    list(engine.loop.epochs())
    assert log_weights.isfinite().all()
    assert log_weights[8:].std() > 0.05


def test_a_transformer_with_a_parameter_of_its_own_is_not_known():
    """Its part of the inner product would be left out."""
    network = timm.create_model("vit_tiny_patch16_224", img_size=32, num_classes=3)
    assert has_no_cross_example_ops(network)
    network.register_parameter("temperature", nn.Parameter(torch.ones(1)))
    assert not has_no_cross_example_ops(network)
