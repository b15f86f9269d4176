"""A step taken chunk by chunk is the step of the whole batch, for a fraction of the memory."""

from __future__ import annotations

from itertools import pairwise, product

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from molere_cli import BackboneSpec, ConfigError, hookimpl
from molere_cli.config.plan import make_plan
from molere_cli.engine import optimizer
from molere_cli.engine.hypergradient import alignment
from molere_cli.engine.random_state import RandomState
from molere_cli.foundation.ranks import Ranks
from molere_cli.training.build_engine import check_chunks
from molere_cli_tests.conftest import TINY_SIZE
from molere_cli_tests.plugins.test_baselines import RUNS, run_config
from molere_cli_tests.training import engine_for, tiny_config
from molere_cli_tests.unit.test_training import check_resumed_to_the_same_bits

NEED_WHOLE_BATCHES = {"mwn", "gdw", "fsr"}
OF_THE_PAPER = {
    "erm": {},
    "erm-clipped": {"clip_grad": 0.1},
    "lrw-instance": {"method": "lrw", "reweighter": "instance", "reweighter_interval": 1},
    "lrw-hardness": {"method": "lrw", "reweighter": "hardness", "weight_cap": 2.0},
    "lrw-features": {"method": "lrw", "reweighter": "features", "reweighter_interval": 2},
    "lrw-loss": {"method": "lrw", "reweighter": "loss", "reweighter_interval": 1},
    "lrw-image": {"method": "lrw", "reweighter": "image", "reweighter_interval": 1},
    "molere": {"method": "molere", "reweighter": "features", "warmup_epochs": 1, "splitter_interval": 1},
}
CONFIGS = {
    **{name: lambda settings=settings: tiny_config(**settings) for name, settings in OF_THE_PAPER.items()},
    **{name: lambda name=name: run_config(name) for name in sorted(RUNS.keys() - NEED_WHOLE_BATCHES)},
}


class PlainPlugin:
    """A network whose examples do not mix, and that has no chance in it."""

    @hookimpl
    def register_backbones(self, register):
        register(BackboneSpec(name="plain_net", description="A small network.", build=self.build))

    def build(self, request):
        return nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1),
            nn.GroupNorm(2, 8),
            nn.Softplus(),
            nn.AdaptiveAvgPool2d(2),
            nn.Flatten(),
            nn.Linear(32, request.num_classes),
        )


@pytest.fixture
def in_float64(monkeypatch):
    """What is widened to float32 elsewhere stays as wide as it is."""
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def trained(config, registry):
    """Of a short run: parameters before and after, what it knows of the pool, and its metrics."""
    in_validation = None
    if make_plan(config, registry).needs_split:
        in_validation = torch.arange(TINY_SIZE) % 4 == torch.arange(TINY_SIZE) // 16
    engine = engine_for(config, registry, in_validation)
    start = parameters_of(engine)
    records = list(engine.loop.epochs())
    return start, parameters_of(engine), engine.loop.pool_record.state_dict(), records


def parameters_of(engine):
    return torch.cat([parameter.detach().flatten() for parameter in engine.classifier.module.parameters()])


@pytest.mark.parametrize("name", CONFIGS)
def test_chunks_make_the_step_of_the_whole_batch(name, registry, in_float64, monkeypatch):
    """Three of a batch of 20, whose sizes differ, and two of a last batch of 4."""
    registry.add(PlainPlugin(), "plain_plugin")
    # AdamW, which trains reweighters, divides rounding errors of small gradients by their own size.
    monkeypatch.setattr(optimizer, "AdamW", torch.optim.SGD)
    config = CONFIGS[name]().updated(backbone="plain_net", epochs=3, batch_size=20)
    start, whole, whole_pool, whole_records = trained(config, registry)
    _start, found, pool, records = trained(config.updated(accumulate=3), registry)
    assert (found - whole).norm() < 1e-12 * whole.norm()
    assert (whole - start).norm() > 1e-3 * start.norm()
    for key, value in whole_pool.items():
        torch.testing.assert_close(pool[key], value, rtol=1e-12, atol=1e-12, equal_nan=True)
    assert records[-1]["train/loss"] == pytest.approx(whole_records[-1]["train/loss"], rel=1e-10)


@pytest.mark.parametrize("name", sorted(NEED_WHOLE_BATCHES))
def test_a_method_that_needs_whole_batches_says_so(name, registry):
    with pytest.raises(ConfigError, match=f"--method {name} needs each batch as a whole; leave --accumulate"):
        trained(run_config(name).updated(accumulate=2), registry)


def problem(registry, **settings):
    """An engine with batch norm and dropout, in training mode, and a batch of 16."""
    engine = engine_for(tiny_config(**settings), registry)
    engine.classifier.module.double()
    engine.classifier.train()
    (batch,) = engine.feed.training([torch.arange(16)], seed=0)
    return engine.classifier, batch.images.double(), batch.labels


def own_chunks(accumulate):
    sizes = {3: [5, 5, 6], 100: [2] * 8}[accumulate]
    ends = torch.tensor([0, *sizes]).cumsum(0).tolist()
    return [slice(start, stop) for start, stop in pairwise(ends)]


def test_ranks_have_as_many_chunks_each_and_all_of_their_examples(registry):
    classifier = engine_for(tiny_config(), registry).classifier
    for size, accumulate, num_whole in product((1, 2, 3), (1, 2, 5), range(6, 40)):
        classifier.accumulate = accumulate
        numbers = set()
        for rank in range(size):
            classifier.ranks = Ranks(rank, size)
            part = classifier.ranks.part(num_whole)
            chunks = classifier.chunks(part.stop - part.start, num_whole=num_whole)
            assert [i for chunk in chunks for i in range(40)[chunk]] == list(range(part.stop - part.start))
            sizes = [chunk.stop - chunk.start for chunk in chunks]
            assert max(sizes) - min(sizes) <= 1 and min(sizes) >= 2 and len(chunks) <= accumulate
            numbers.add(len(chunks))
        assert len(numbers) == 1


@pytest.mark.parametrize("accumulate", [1, 3])
def test_a_part_of_a_batch_loses_nothing_where_the_whole_is_not_named(accumulate, registry):
    """As a plugin's method may ask for it, on a network whose examples do not mix."""
    registry.add(PlainPlugin(), "plain_plugin")
    classifier, images, labels = problem(registry, backbone="plain_net", accumulate=accumulate)
    randomness = RandomState.capture(classifier.device)
    expected = F.cross_entropy(classifier.module(images), labels, reduction="none")
    classifier.ranks = Ranks(0, 2)
    found = classifier.step_losses(images, labels, randomness)(classifier.parameters)
    torch.testing.assert_close(found, expected)
    assert len(classifier.meta_forward(images).logits) == len(images)


@pytest.mark.parametrize("accumulate", [3, 100])
def test_the_validation_gradient_is_that_of_the_mean_over_chunks(accumulate, registry):
    classifier, images, labels = problem(registry, accumulate=8)
    classifier.accumulate = accumulate
    loss, gradient = classifier.validation_gradient(images, labels)
    module = classifier.module
    module[5].eval()
    chunks = own_chunks(accumulate)
    expected = sum(F.cross_entropy(module(images[c]), labels[c], reduction="sum") for c in chunks) / 16
    torch.testing.assert_close(loss, expected.detach(), rtol=1e-10, atol=0)
    expected.backward()
    for parameter, found in gradient.items():
        torch.testing.assert_close(found, parameter.grad, rtol=1e-9, atol=1e-12)


def test_inner_products_are_those_of_the_chunks_that_trained(registry):
    """With their dropout masks, and batch norm by the chunk."""
    classifier, images, labels = problem(registry, accumulate=3)
    torch.manual_seed(5)
    direction = {name: torch.randn_like(value) for name, value in classifier.parameters.items()}
    randomness = RandomState.capture(classifier.device)
    losses_B = torch.cat(
        [F.cross_entropy(classifier.module(images[c]), labels[c], reduction="none") for c in own_chunks(3)]
    )
    parameters = list(classifier.parameters.values())
    expected = [
        sum(
            (part * along).sum()
            for part, along in zip(
                torch.autograd.grad(loss, parameters, retain_graph=True), direction.values(), strict=True
            )
        )
        for loss in losses_B
    ]
    found = alignment(classifier.step_losses(images, labels, randomness), classifier.parameters, direction)
    torch.testing.assert_close(found, torch.stack(expected), rtol=1e-9, atol=1e-12)


def test_looking_ahead_gives_what_the_step_sees_and_leaves_no_trace(registry):
    classifier, images, _labels = problem(registry, accumulate=3)
    torch.manual_seed(3)
    before = {name: value.clone() for name, value in classifier.module.state_dict().items()}
    ahead = classifier.look_ahead(images, num_whole=16, with_features=True)
    for name, value in classifier.module.state_dict().items():
        assert torch.equal(value, before[name]), name
    torch.manual_seed(3)
    outputs = [classifier.forward(images[c], with_features=True) for c in own_chunks(3)]
    assert torch.equal(ahead.logits, torch.cat([output.logits for output in outputs]))
    assert torch.equal(ahead.features, torch.cat([output.features for output in outputs]))


@pytest.mark.parametrize("reweighter", ["instance", "loss"])
def test_losses_that_weights_are_made_from_are_those_that_train(reweighter, registry, monkeypatch):
    """Dropout included, whose masks are others in every step."""
    settings = {"method": "lrw", "reweighter": reweighter, "warmup_epochs": 0}
    engine = engine_for(
        tiny_config(accumulate=3, epochs=2, **settings), registry, torch.arange(TINY_SIZE) % 4 == 0
    )
    method, states, trained_on = engine.loop.method, [], []
    mean, after = method.loss, method.after_step

    def loss(step, weights):
        trained_on.append(step.losses.detach())
        return mean(step, weights)

    def after_step(step):
        assert not step.is_unseen
        torch.testing.assert_close(step.losses, torch.cat(trained_on[-3:]))
        states.append(step.randomness.cpu)
        after(step)

    monkeypatch.setattr(method, "loss", loss)
    monkeypatch.setattr(method, "after_step", after_step)
    list(engine.loop.epochs())
    assert len(states) == 8 and len(trained_on) == 24
    assert len({tuple(state.tolist()) for state in states}) == 8


@pytest.mark.parametrize("reweighter", ["instance", "features"])
def test_a_killed_run_resumes_to_the_same_bits(reweighter, registry, tmp_path):
    config = tiny_config(method="lrw", split="random", delta=0.25, reweighter=reweighter, accumulate=3)
    check_resumed_to_the_same_bits(config, registry, tmp_path, label_part="lrw")


def test_less_than_two_examples_a_chunk_are_a_sentence(registry, molere, in_tmp):
    done = molere("train --method erm --dataset digits --batch-size 64 --accumulate 40 --epochs 1")
    assert done.code == 1
    assert "molere: --accumulate 40 leaves less than two examples a chunk of --batch-size 64; use" in done.err
    assert "--accumulate 32 or less" in done.err
    method = engine_for(tiny_config(), registry).loop.method
    with pytest.raises(
        ConfigError, match=r"--accumulate 8 for each of 2 processes .*; use --accumulate 4 or"
    ):
        check_chunks(tiny_config(accumulate=8), method, num_ranks=2)
