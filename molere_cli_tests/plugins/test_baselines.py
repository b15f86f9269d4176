"""The published methods, each against an independent computation."""

from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.func import functional_call
from torch.nn import functional as F

from molere_cli import Batch, TrainingContext, TrainingError, erm_epochs
from molere_cli.config.plan import make_plan
from molere_cli.config.run_config import RunConfig
from molere_cli.data.feed import FeedSettings, make_feed
from molere_cli.data.source import load_dataset
from molere_cli.engine.classifier import Classifier
from molere_cli.engine.prediction import predict_feed
from molere_cli.engine.prediction_metrics import probabilistic_margin
from molere_cli.engine.random_state import RandomState
from molere_cli.engine.step import Step
from molere_cli.foundation.progress import NoProgress
from molere_cli.registry.specs import Examples
from molere_cli.training.build_engine import build_engine
from molere_cli_tests.conftest import TINY_CLASSES, TINY_SIZE, tiny_dataset, tiny_examples
from molere_cli_tests.training import Notebook, assert_same_tensors, engine_for, tiny_config, train_one

RUNS = {
    "mwn": {"split": "random", "delta": 0.25},
    "l2r": {"split": "random", "delta": 0.25},
    "fsr": {"method_option": {"probe_batch_size": "8", "warmup_epochs": "1"}},
    "gdw": {"split": "random", "delta": 0.25},
    "rho": {"split": "random", "delta": 0.25, "train_on": "train", "method_option": {"fraction": "0.4"}},
    "jtt": {"method_option": {"up_weight": "2"}},
    "mbr": {"method_option": {"warmup_epochs": "1"}},
    "group-dro": {"dataset": "colour-digits", "limit_train": 80},
    "focal": {},
    "class-balanced": {"class_skew": 3.0},
    "oracle": {"label_noise": "uniform", "method_option": {"by": "clean"}},
}


def run_config(name: str, **changes) -> RunConfig:
    return tiny_config(**{"method": name, **RUNS[name], **changes})


# --- one step in float64


class Float64Feed:
    """A feed in float64 that remembers the last batch it gave."""

    def __init__(self, feed) -> None:
        self.feed, self.settings, self.labels = feed, feed.settings, feed.labels
        self.last: Batch | None = None

    def __len__(self) -> int:
        return len(self.feed)

    def training(self, batches, *, seed, start=0):
        for batch in self.feed.training(batches, seed=seed, start=start):
            self.last = batch._replace(images=batch.images.double())
            yield self.last


def small_net() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1),
        nn.BatchNorm2d(6),
        nn.SiLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Dropout(0.3),
        nn.Linear(24, TINY_CLASSES),
    )


class OneStep:
    """A method and a classifier some steps into training, in float64, with a step in the making."""

    def __init__(self, registry, name: str, *, momentum: float = 0.9, **options) -> None:
        torch.manual_seed(0)
        dataset = tiny_dataset()
        settings = FeedSettings(
            mean=dataset.mean,
            std=dataset.std,
            augment="none",
            image_size=(8, 8),
            device=torch.device("cpu"),
            workers=0,
        )
        spec = registry.methods.get(name)
        self.config = tiny_config(method=name, lr=0.1, momentum=momentum)
        self.module = small_net().double().train()
        self.classifier = Classifier(self.module, device=settings.device, precision=torch.float64)
        self.optimizer = torch.optim.SGD(self.module.parameters(), lr=0.1, momentum=momentum)
        self.feed = Float64Feed(make_feed(dataset.pool, settings))
        in_validation = torch.arange(TINY_SIZE) % 4 == torch.arange(TINY_SIZE) // 16
        self.context = TrainingContext(
            config=self.config,
            options=spec.options(**options),
            classifier=self.classifier,
            optimizer=self.optimizer,
            feed=self.feed,
            labels=dataset.pool.labels,
            groups=None,
            clean_labels=None,
            num_classes=TINY_CLASSES,
            in_validation=in_validation,
            reweighter=None,
            make_classifier=lambda: self.classifier,
            make_reweighter=nn.Module,
            make_splitter=nn.Module,
            note=NoProgress().note,
        )
        (self.batch,) = self.feed.training([torch.tensor([1, 2, 7, 20, 36, 41])], seed=0)
        for _ in range(3):
            self.optimizer.zero_grad()
            F.cross_entropy(self.module(self.batch.images), self.batch.labels).backward()
            self.optimizer.step()
        self.method = spec.build(self.context)
        for net in self.weight_nets():
            net.double()
        self.method.before_epoch(0)

    def weight_nets(self):
        return [self.method._training.net] if hasattr(self.method, "_training") else []

    def step(self, epoch: int = 0) -> Step:
        randomness = RandomState.capture(self.classifier.device)
        output = self.classifier.forward(self.batch.images, with_features=True)
        losses_B = F.cross_entropy(output.logits, self.batch.labels, reduction="none")
        self.randomness = randomness
        return Step(epoch, 0, self.batch, output.logits, losses_B, output.features, randomness)

    def logits(self, parameters) -> torch.Tensor:
        """The logits of the last `step()`, from parameters with a graph."""
        buffers = {name: buffer.clone() for name, buffer in self.module.named_buffers()}
        with self.randomness.replayed(self.classifier.device):
            return functional_call(self.module, {**parameters, **buffers}, (self.batch.images,))

    def losses(self, parameters) -> torch.Tensor:
        return F.cross_entropy(self.logits(parameters), self.batch.labels, reduction="none")

    def validation_loss(self, parameters) -> torch.Tensor:
        """On the validation batch last drawn: batch norm on batch statistics, no dropout."""
        assert self.feed.last is not None
        buffers = {name: buffer.clone() for name, buffer in self.module.named_buffers()}
        dropout = [layer for layer in self.module if isinstance(layer, nn.Dropout)]
        for layer in dropout:
            layer.eval()
        logits = functional_call(self.module, {**parameters, **buffers}, (self.feed.last.images,))
        for layer in dropout:
            layer.train()
        return F.cross_entropy(logits, self.feed.last.labels)

    def stepped(self, loss: torch.Tensor, parameters, *, grad_outputs=None) -> dict[str, torch.Tensor]:
        """theta - lr grad, with a graph."""
        gradients = torch.autograd.grad(
            loss, list(parameters.values()), grad_outputs=grad_outputs, create_graph=True
        )
        return {name: p - 0.1 * g for (name, p), g in zip(parameters.items(), gradients, strict=True)}


def parameters_of(one: OneStep) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone().requires_grad_() for name, p in one.module.named_parameters()}


@pytest.mark.parametrize("normalization", ["none", "mean"])
def test_mwn_learns_by_the_second_order_gradient_of_its_virtual_step(registry, normalization):
    one = OneStep(registry, "mwn", normalization=normalization)
    net = one.method._training.net
    initial = {name: p.detach().clone() for name, p in net.named_parameters()}
    step = one.step()
    weights_B = one.method.weights(step)

    def weigh(parameters):
        given = functional_call(net, parameters, (step.losses.detach(),))
        return given if normalization == "none" else given / given.mean()

    parameters = parameters_of(one)
    phi = {name: p.requires_grad_() for name, p in initial.items()}
    virtual = one.stepped((weigh(phi) * one.losses(parameters)).mean(), parameters)
    expected = torch.autograd.grad(one.validation_loss(virtual), list(phi.values()))
    assert any(g.abs().max() > 1e-5 for g in expected)
    for (name, p), gradient in zip(net.named_parameters(), expected, strict=True):
        torch.testing.assert_close(p.grad, gradient, rtol=1e-8, atol=1e-12, msg=name)
    # The weights used are those of the network after its step.
    torch.testing.assert_close(weights_B, weigh(dict(net.named_parameters())).detach())
    assert not torch.allclose(weights_B, weigh(initial).detach(), rtol=1e-9)


def test_mwn_has_the_published_network_and_optimizer(registry):
    training = OneStep(registry, "mwn").method._training
    assert sum(p.numel() for p in training.net.parameters()) == (100 + 100) + (100 + 1)
    (group,) = training.optimizer.param_groups
    assert (group["lr"], group["weight_decay"]) == (1e-3, 1e-4)


def test_mwn_leaves_the_step_it_weighs_as_it_was(registry):
    one = OneStep(registry, "mwn")
    before = {n: t.clone() for n, t in one.module.state_dict().items()}
    reference = one.step()
    moved_by_forward = {n: t.clone() for n, t in one.module.state_dict().items()}
    one.method.weights(reference)
    assert_same_tensors(moved_by_forward, one.module.state_dict())
    assert before.keys() == moved_by_forward.keys()
    reference.losses.mean().backward()


def test_l2r_weights_equal_the_published_two_passes(registry):
    one = OneStep(registry, "l2r")
    wrong_B = (one.batch.labels + torch.tensor([1, 0, 2, 0, 0, 0])) % TINY_CLASSES
    one.batch = one.batch._replace(labels=wrong_B)
    step = one.step()
    weights_B = one.method.weights(step)
    parameters = parameters_of(one)
    eps_B = torch.zeros(len(step.losses), dtype=torch.float64, requires_grad=True)
    virtual = one.stepped((eps_B * one.losses(parameters)).sum(), parameters)
    (gradient_B,) = torch.autograd.grad(one.validation_loss(virtual), eps_B)
    published_B = (-gradient_B).clamp_min(0)
    published_B = published_B / published_B.sum()
    assert 0 < (published_B > 0).sum() < len(published_B)
    torch.testing.assert_close(weights_B, published_B * len(published_B), rtol=1e-8, atol=1e-12)


def test_l2r_gives_weights_of_zero_where_no_example_helps():
    from molere_baselines.l2r import rectified

    assert rectified(torch.tensor([-1.0, 0.0, -2.0])).tolist() == [0, 0, 0]


def test_gdw_learns_and_moves_by_the_gradient_of_every_class_weight(registry):
    one = OneStep(registry, "gdw", clip=0.002, outer_lr=0.05)
    net = one.method._training.net
    phi = {name: p.detach().clone().requires_grad_() for name, p in net.named_parameters()}
    step = one.step()
    own_weights_B = one.method.weights(step)
    labels_B, size = step.batch.labels, len(step.losses)
    target_BC = F.one_hot(labels_B, TINY_CLASSES).bool()
    p_BC = step.logits.detach().softmax(1)
    errors_BC = p_BC - target_BC.double()

    instance_B = functional_call(net, phi, (step.losses.detach(),))
    weights_BC = instance_B[:, None].expand(-1, TINY_CLASSES)
    own_B = (weights_BC * p_BC).masked_fill(target_BC, 0).sum(1) / (1 - p_BC[target_BC])
    weights_BC = torch.where(target_BC, own_B[:, None], weights_BC)
    leaf_BC = weights_BC.detach().requires_grad_()
    parameters = parameters_of(one)
    virtual = one.stepped(one.logits(parameters), parameters, grad_outputs=leaf_BC * errors_BC / size)
    (gradient_BC,) = torch.autograd.grad(one.validation_loss(virtual), leaf_BC)
    expected = torch.autograd.grad(weights_BC, list(phi.values()), grad_outputs=gradient_BC)
    assert any(g.abs().max() > 1e-5 for g in expected)
    for (name, p), gradient in zip(net.named_parameters(), expected, strict=True):
        torch.testing.assert_close(p.grad, gradient, rtol=1e-8, atol=1e-12, msg=name)

    move_BC = (0.05 * gradient_BC / gradient_BC.abs().sum()).clamp(-0.002, 0.002)
    assert (move_BC.abs() == 0.002).any() and (move_BC.abs() < 0.002).any()
    moved_BC = (leaf_BC.detach() - move_BC).clamp(1e-6, 1e6)
    own_B = (moved_BC * p_BC).masked_fill(target_BC, 0).sum(1) / (1 - p_BC[target_BC])
    moved_BC = torch.where(target_BC, own_B[:, None], moved_BC)
    torch.testing.assert_close(own_weights_B, own_B)
    (used_BC,) = torch.autograd.grad(one.method.loss(step, own_weights_B), step.logits)
    torch.testing.assert_close(used_BC, moved_BC * errors_BC / size)
    torch.testing.assert_close(used_BC.sum(1), torch.zeros(size, dtype=torch.float64), rtol=0, atol=1e-15)


def test_gdw_steps_on_a_loss_that_reads_as_the_mean_loss(registry):
    one = OneStep(registry, "gdw")
    step = one.step()
    loss = one.method.loss(step, one.method.weights(step))
    assert loss.item() == pytest.approx(step.losses.mean().item(), rel=1e-12)


def test_gdw_keeps_the_zero_sum_where_the_classifier_is_certain():
    from molere_baselines.gdw import logit_errors, with_zero_sum

    logits_BC = torch.tensor([[50.0, 0.0, -3.0], [1.0, 30.0, 2.0]], dtype=torch.float64)
    labels_B = torch.tensor([0, 2])
    errors_BC = logit_errors(logits_BC, labels_B)
    weights_BC = with_zero_sum(torch.rand(2, 3, dtype=torch.float64), errors_BC, labels_B)
    assert weights_BC.isfinite().all()
    assert (weights_BC * errors_BC).sum(1).abs().max() < 1e-15


def test_equal_class_weights_make_gdw_plain_reweighting():
    from molere_baselines.gdw import logit_errors, with_zero_sum

    logits_BC = torch.randn(5, 3, dtype=torch.float64)
    labels_B = torch.tensor([0, 1, 2, 0, 1])
    errors_BC = logit_errors(logits_BC, labels_B)
    weights_BC = torch.rand(5, 1, dtype=torch.float64).expand(5, 3)
    torch.testing.assert_close(with_zero_sum(weights_BC, errors_BC, labels_B), weights_BC.contiguous())


@pytest.mark.parametrize("momentum", [0.9, 0.0])
@pytest.mark.parametrize("kind", ["clip", "shift"])
def test_fsr_weights_equal_second_order_autograd_through_the_last_layer(registry, kind, momentum):
    one = OneStep(
        registry, "fsr", momentum=momentum, capacity=16, probe_batch_size=12, warmup_epochs=0, weights=kind
    )
    step = one.step()
    weights_B = one.method.weights(step)
    size = len(step.losses)
    parameters = parameters_of(one)
    head = {name: parameters[name] for name in ("6.weight", "6.bias")}
    eps_B = torch.full((size,), 1 / size, dtype=torch.float64, requires_grad=True)
    loss = (eps_B * one.losses(parameters)).sum()
    gradients = torch.autograd.grad(loss, list(head.values()), create_graph=True)
    ahead = dict(parameters)
    for (name, p), gradient in zip(head.items(), gradients, strict=True):
        real = one.module.get_parameter(name)
        velocity = one.optimizer.state[real]["momentum_buffer"] if momentum else torch.zeros_like(real)
        ahead[name] = p - 0.1 * (momentum * velocity + gradient)
    (gradient_B,) = torch.autograd.grad(one.validation_loss(ahead), eps_B)
    raw_B = -gradient_B.clamp_max(0) if kind == "clip" else -gradient_B + gradient_B.max() + 1 / size
    torch.testing.assert_close(weights_B, raw_B / (raw_B.sum() + 1e-5) * size, rtol=1e-8, atol=1e-12)
    assert weights_B.std() > 0.1 if kind == "clip" else weights_B.std() > 0

    change_B = (one.losses(ahead) - step.losses).detach()
    torch.testing.assert_close(
        one.method._scores_N[step.batch.positions].double(), 0.1 * change_B, rtol=1e-5, atol=1e-8
    )
    assert one.method._scored_N.nonzero().flatten().tolist() == step.batch.positions.tolist()


def test_fsr_weighs_equally_at_first_and_scores_all_the_same(registry):
    one = OneStep(registry, "fsr", capacity=16, probe_batch_size=12, warmup_epochs=2)
    assert one.method.weights(one.step(epoch=1)) is None
    assert one.method._scored_N.any()
    assert one.method.weights(one.step(epoch=2)) is not None


def test_fsr_refills_its_dictionary_with_the_lowest_scores_of_each_class():
    from molere_baselines.fsr import balanced_draw, best_of_each_class

    scores_N = torch.tensor([5.0, 1.0, 3.0, -2.0, 0.0, 9.0, -7.0])
    labels_N = torch.tensor([0, 0, 0, 1, 1, 2, 0])
    eligible_N = torch.tensor([True, True, True, True, True, True, False])
    dictionary = best_of_each_class(scores_N, labels_N, eligible_N, num_each=2)
    assert dictionary.tolist() == [1, 2, 3, 4, 5]
    by_class = [dictionary[labels_N[dictionary] == label] for label in range(3)]
    drawn = balanced_draw(by_class, num_each=2, generator=torch.Generator().manual_seed(0))
    assert labels_N[drawn].tolist() == [0, 0, 1, 1, 2, 2]
    assert set(drawn.tolist()) == {1, 2, 3, 4, 5}
    members = torch.arange(10, 17)
    whole = balanced_draw([members], num_each=7, generator=torch.Generator().manual_seed(0))
    assert whole.sort().values.tolist() == members.tolist()


def test_fsr_scores_are_a_moving_average_of_the_change_in_loss(registry):
    one = OneStep(registry, "fsr", capacity=16, probe_batch_size=12)
    step = one.step()
    one.method.weights(step)
    first_B = one.method._scores_N[step.batch.positions].clone()
    one.method._scores_N[step.batch.positions] = 2.0
    one.method.weights(step)
    torch.testing.assert_close(one.method._scores_N[step.batch.positions], 1.8 + first_B)


def test_fsr_draws_its_probes_from_the_dictionary_alone(registry):
    one = OneStep(registry, "fsr", capacity=4, probe_batch_size=4, warmup_epochs=0)
    method = one.method
    for epoch in range(3):
        method.before_epoch(epoch)
        allowed = set(method._dictionary(epoch).tolist())
        assert len(allowed) <= 4
        for positions in method.positions.split(16):
            (one.batch,) = one.feed.feed.training([positions], seed=0)
            one.batch = one.batch._replace(images=one.batch.images.double())
            method.weights(one.step(epoch))
            assert set(one.feed.last.positions.tolist()) <= allowed


# --- methods without a second pass


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0, 5.0])
def test_focal_weights_give_the_gradient_of_the_focal_loss(gamma):
    from molere_baselines.focal import focal_weights

    logits_BC = (4 * torch.randn(20, 5, dtype=torch.float64)).requires_grad_()
    labels_B = torch.arange(20) % 5
    p_B = logits_BC.softmax(1).gather(1, labels_B[:, None]).squeeze(1)
    (expected,) = torch.autograd.grad(((1 - p_B) ** gamma * -p_B.log()).mean(), logits_BC)
    losses_B = F.cross_entropy(logits_BC, labels_B, reduction="none")
    weights_B = focal_weights(losses_B.detach(), gamma=gamma)
    (found,) = torch.autograd.grad((weights_B * losses_B).mean(), logits_BC)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-15)


def test_focal_weights_stay_finite_at_both_ends():
    from molere_baselines.focal import focal_weights

    weights_B = focal_weights(torch.tensor([0.0, 1e-8, 100.0]), gamma=0.5)
    assert weights_B.isfinite().all()
    assert weights_B[0] == 0 and weights_B[2] == 1


def test_class_balanced_weights_follow_the_formula():
    from molere_baselines.class_balanced import class_balanced_weights

    counts = [500, 50, 5]
    raw = [(1 - 0.99) / (1 - 0.99**n) for n in counts]
    expected = [3 * value / sum(raw) for value in raw]
    assert class_balanced_weights(torch.tensor(counts), beta=0.99).tolist() == pytest.approx(expected)
    assert class_balanced_weights(torch.tensor(counts), beta=0.0).tolist() == [1, 1, 1]
    # Beta near 1: inverse frequency; a class without examples has no say.
    near_one = class_balanced_weights(torch.tensor([400, 0, 100]), beta=1 - 1e-9)
    assert near_one.tolist() == pytest.approx([0.4, 0, 1.6], rel=1e-5)


def test_class_balanced_runs_on_the_classes_of_what_trains(registry):
    config = run_config("class-balanced", dataset="tiny")
    engine = engine_for(config, registry)
    counts = engine.data.dataset.pool.labels.bincount().tolist()
    assert max(counts) > min(counts)
    raw = [(1 - 0.9999) / (1 - 0.9999**n) for n in counts]
    by_class = [len(raw) * value / sum(raw) for value in raw]
    list(engine.loop.epochs())
    expected = [by_class[label] for label in engine.data.dataset.pool.labels]
    assert engine.loop.pool_record.weight.tolist() == pytest.approx(expected, rel=1e-5)


def test_margin_weights_follow_the_published_sigmoid():
    from molere_baselines.mbr import margin_weights

    logits_BC = torch.randn(8, 4, dtype=torch.float64)
    margins_B = probabilistic_margin(logits_BC, torch.arange(8) % 4)
    raw = [1 / (1 + math.exp(10 * (margin + 0.5))) for margin in margins_B.tolist()]
    weights_B = margin_weights(margins_B, slope=10.0, bias=-0.5)
    assert weights_B.tolist() == pytest.approx([8 * value / sum(raw) for value in raw])
    assert weights_B.argmax() == margins_B.argmin()


def test_mbr_burns_in_for_five_eighths_of_the_epochs_by_default(registry):
    records = list(engine_for(tiny_config(method="mbr", epochs=8), registry).loop.epochs())
    assert ["weights/std" in record for record in records] == [False] * 5 + [True] * 3


def test_group_dro_moves_towards_the_group_of_high_loss_by_hand():
    from molere_baselines.group_dro import group_losses, updated_group_weights

    losses_B = torch.tensor([1.0, 3.0, 5.0, 0.5], dtype=torch.float64)
    groups_B = torch.tensor([0, 0, 2, 2])
    losses_G, counts_G = group_losses(losses_B, groups_B, num_groups=3)
    assert losses_G.tolist() == [2.0, 0.0, 2.75]
    assert counts_G.tolist() == [2, 0, 2]
    q_G = updated_group_weights(torch.tensor([0.5, 0.25, 0.25], dtype=torch.float64), losses_G, step_size=0.1)
    raw = [0.5 * math.exp(0.2), 0.25, 0.25 * math.exp(0.275)]
    assert q_G.tolist() == pytest.approx([value / sum(raw) for value in raw])


def test_the_weighted_loss_of_group_dro_is_the_sum_of_q_times_group_loss(registry):
    engine = engine_for(run_config("group-dro", method_option={"adjustment": "2"}), registry)
    method, groups_N = engine.loop.method, engine.data.dataset.pool.groups
    losses_B = torch.rand(80)
    batch = Batch(torch.arange(80), torch.zeros(0), engine.data.dataset.pool.labels)
    step = Step(0, 0, batch, torch.zeros(0), losses_B, None, RandomState.capture(torch.device("cpu")))
    weights_B = method.weights(step)
    expected, raw = 0.0, []
    for group, size in enumerate(groups_N.bincount().tolist()):
        mean = float(losses_B[groups_N == group].mean())
        raw.append(0.5 * math.exp(0.01 * (mean + 2 / math.sqrt(size))))
        expected += raw[-1] * mean
    assert float((weights_B * losses_B).mean()) == pytest.approx(expected / sum(raw), rel=1e-5)
    assert method.metrics()["group_dro/q_0"] == pytest.approx(raw[0] / sum(raw), rel=1e-5)


def test_group_dro_draws_groups_equally_often_or_takes_the_pool(registry):
    engine = engine_for(run_config("group-dro", limit_train=500), registry)
    groups_N = engine.data.dataset.pool.groups
    share = float(groups_N.double().mean())
    drawn = torch.cat([engine.loop.method.before_epoch(epoch) for epoch in range(8)])
    assert share > 0.8
    assert float(groups_N[drawn].double().mean()) == pytest.approx(0.5, abs=0.03)
    pool = engine_for(run_config("group-dro", method_option={"sampling": "pool"}), registry)
    assert pool.loop.method.before_epoch(0).tolist() == list(range(80))


def test_a_group_that_tests_alone_have_takes_no_share_of_group_dro(registry):
    """It would keep its share for ever, and the weights of the others would sum to less than one."""
    config = run_config("group-dro")
    plan, data = make_plan(config, registry), load_dataset(config.data, registry)
    pool = replace(data.dataset.pool, groups=2 * data.dataset.pool.groups + 1)  # 1 and 3 of four groups
    data = replace(data, dataset=replace(data.dataset, pool=pool, group_names=("a", "b", "c", "d")))
    loop = build_engine(plan, data, None).loop
    records = list(loop.epochs())
    assert {key for key in records[0] if key.startswith("group_dro/")} == {"group_dro/q_1", "group_dro/q_3"}
    for record in records:
        assert record["group_dro/q_1"] + record["group_dro/q_3"] == pytest.approx(1)
        assert record["weights/mean"] == pytest.approx(1, abs=0.02)


# --- oracles


def weights_after_training(config, registry) -> tuple[torch.Tensor, Examples]:
    engine = engine_for(config, registry)
    list(engine.loop.epochs())
    return engine.loop.pool_record.weight, engine.data.dataset.pool


def test_the_oracle_by_groups_gives_every_group_the_same_total(registry):
    config = tiny_config(
        method="oracle", dataset="colour-digits", limit_train=200, epochs=1, method_option={"by": "groups"}
    )
    weight_N, pool = weights_after_training(config, registry)
    totals = [float(weight_N[pool.groups == group].sum()) for group in (0, 1)]
    assert totals == pytest.approx([100, 100], rel=1e-5)
    assert weight_N[pool.groups == 0].unique().numel() == 1


def test_the_oracle_by_classes_gives_every_class_the_same_total(registry):
    config = tiny_config(method="oracle", class_skew=4.0, epochs=1, method_option={"by": "classes"})
    weight_N, pool = weights_after_training(config, registry)
    totals = [float(weight_N[pool.labels == label].sum()) for label in range(TINY_CLASSES)]
    assert totals == pytest.approx([len(pool) / TINY_CLASSES] * TINY_CLASSES, rel=1e-5)


def test_the_oracle_by_clean_labels_leaves_out_the_wrong_ones(registry):
    weight_N, pool = weights_after_training(run_config("oracle", epochs=1), registry)
    wrong_N = pool.labels != pool.clean_labels
    assert 0 < wrong_N.sum() < len(pool)
    assert (weight_N[wrong_N] == 0).all()
    assert weight_N[~wrong_N].tolist() == pytest.approx(
        [len(pool) / int((~wrong_N).sum())] * int((~wrong_N).sum())
    )


# --- methods with a model before the model


def context_of(config, registry, in_validation=None) -> TrainingContext:
    """What the method of a run is built from."""
    kept = []

    def keep(context):
        kept.append(context)
        return plan.method.build(context)

    plan = make_plan(config, registry)
    build_engine(
        replace(plan, method=replace(plan.method, build=keep)),
        load_dataset(config.data, registry),
        in_validation,
    )
    return kept[0]


def test_the_first_model_is_the_run_of_erm_with_the_same_seed(registry):
    everything_N = torch.ones(TINY_SIZE, dtype=torch.bool)
    first = erm_epochs(context_of(tiny_config(method="focal", seed=5), registry), everything_N)
    erm = engine_for(tiny_config(seed=5), registry)
    for classifier, _ in zip(first, erm.loop.epochs(), strict=True):
        assert_same_tensors(classifier.module.state_dict(), erm.classifier.module.state_dict())


def test_the_first_model_leaves_the_run_and_its_randomness_alone(registry):
    context = context_of(tiny_config(method="focal"), registry)
    before = {n: tensor.clone() for n, tensor in context.classifier.module.state_dict().items()}
    state = torch.get_rng_state()
    list(erm_epochs(context, torch.arange(TINY_SIZE) < 20, num_epochs=2))
    assert_same_tensors(before, context.classifier.module.state_dict())
    assert torch.equal(state, torch.get_rng_state())
    assert not context.optimizer.state


def test_jtt_trains_on_the_errors_of_an_early_erm_once_and_lambda_times_more(registry):
    config = tiny_config(method="jtt", method_option={"first_epochs": "1", "up_weight": "3"})
    engine = engine_for(config, registry)
    positions = engine.loop.method.before_epoch(0)
    erm = engine_for(tiny_config(), registry)
    next(erm.loop.epochs())
    predictions = predict_feed(erm.classifier, erm.feed)
    errors_N = predictions.predicted != predictions.labels
    assert 0 < errors_N.sum() < TINY_SIZE
    assert positions.bincount().tolist() == (1 + 3 * errors_N.long()).tolist()
    assert torch.equal(engine.loop.method.before_epoch(1), positions)


def test_jtt_tells_how_many_steps_its_errors_add(registry, tmp_path):
    notebook = Notebook()
    config = tiny_config(method="jtt", method_option={"first_epochs": "1", "up_weight": "3"})
    run = train_one(config, registry, tmp_path, progress=notebook)
    num_errors = run.metrics()[-1]["jtt/num_errors"]
    longer = math.ceil((TINY_SIZE + 3 * num_errors) / 16)
    told = f"jtt: {num_errors} errors, 3 extra times each, make an epoch {longer} steps long instead of 4"
    assert notebook.notes.count(told) == 1


@pytest.mark.parametrize(("name", "told"), [("jtt", "jtt: ERM first, for 1 of"), ("rho", "rho: a model of")])
def test_a_model_before_the_model_is_told_of(name, told, registry, tmp_path):
    notebook = Notebook()
    train_one(run_config(name, epochs=2), registry, tmp_path, progress=notebook)
    assert any(note.startswith(told) for note in notebook.notes)


def test_jtt_without_an_error_says_so(registry):
    config = tiny_config(method="jtt", epochs=60, method_option={"first_epochs": "60"})
    with pytest.raises(TrainingError, match=r"makes no error .* after 60 epochs; lower"):
        engine_for(config, registry).loop.method.before_epoch(0)


def rho_engine(registry, **changes):
    in_validation = torch.arange(TINY_SIZE) % 4 == torch.arange(TINY_SIZE) // 16
    config = run_config("rho", **changes)
    return engine_for(config, registry, in_validation), in_validation


def test_rho_trains_on_the_most_reducible_examples_found_by_brute_force(registry):
    engine, _ = rho_engine(registry)
    method = engine.loop.method
    method.before_epoch(0)
    engine.classifier.module.train()
    (batch,) = engine.feed.training([torch.arange(20, 45)], seed=0)
    chosen = method.select(batch)

    reducible = []
    module, modes = engine.classifier.module, {}
    for name, layer in module.named_modules():
        modes[name] = layer.training
        if isinstance(layer, nn.Dropout):
            layer.eval()
    kept = {n: tensor.clone() for n, tensor in module.state_dict().items()}
    with torch.no_grad():
        logits_BC = module(batch.images)
    module.load_state_dict(kept)
    for row, (position, label) in enumerate(
        zip(batch.positions.tolist(), batch.labels.tolist(), strict=True)
    ):
        loss = -float(logits_BC[row].log_softmax(0)[label])
        reducible.append((loss - float(method._irreducible_N[position]), position))
    best = {position for _, position in sorted(reducible, reverse=True)[:10]}
    assert set(chosen.positions.tolist()) == best
    at = [batch.positions.tolist().index(position) for position in chosen.positions.tolist()]
    assert torch.equal(chosen.images, batch.images[at])
    assert torch.equal(chosen.labels, batch.labels[at])


def test_rho_measures_irreducible_loss_at_the_best_epoch_of_a_model_of_the_validation_part(registry):
    engine, in_validation = rho_engine(registry, method_option={"irreducible_epochs": "3"})
    engine.loop.method.before_epoch(0)
    holdout = engine_for(tiny_config(epochs=3, train_on="train", split="random"), registry, ~in_validation)
    found = []
    for _ in holdout.loop.epochs():
        losses_N = predict_feed(holdout.classifier, holdout.feed).loss
        found.append((float(losses_N[~in_validation].mean()), losses_N))
    assert len(found) == 3
    assert torch.equal(engine.loop.method._irreducible_N, min(found, key=lambda pair: pair[0])[1])


def test_rho_chooses_that_epoch_by_the_training_part_alone(registry, monkeypatch):
    from molere_baselines import rho

    engine, in_validation = rho_engine(registry)
    on_training, on_validation = torch.where(in_validation, 9.0, 1.0), torch.where(in_validation, 0.0, 2.0)
    monkeypatch.setattr(rho, "erm_epochs", lambda context, trains, num_epochs: iter("ab"))
    answers = {"a": SimpleNamespace(loss=on_training), "b": SimpleNamespace(loss=on_validation)}
    monkeypatch.setattr(rho, "predict_feed", lambda model, feed: answers[model])
    engine.loop.method.before_epoch(0)
    assert torch.equal(engine.loop.method._irreducible_N, on_training)


def test_an_epoch_of_rho_sees_every_example_as_a_candidate_in_every_pass(registry):
    engine, in_validation = rho_engine(registry, method_option={"fraction": "0.25"}, batch_size=8)
    positions = engine.loop.method.before_epoch(0)
    batches = engine.loop.method.batches(0, positions, batch_size=8, seed=1)
    assert not in_validation[positions].any()
    assert [len(batch) for batch in batches] == [32, 16] * 4
    assert torch.cat(batches).bincount(minlength=TINY_SIZE).tolist() == (4 * ~in_validation).tolist()
    assert not torch.equal(batches[0], batches[2])


def test_rho_leaves_validation_examples_and_what_is_not_chosen_untrained(registry):
    engine, in_validation = rho_engine(registry, epochs=2)
    next(engine.loop.epochs())
    trained_N = engine.loop.pool_record.num_seen > 0
    assert not trained_N[in_validation].any()
    assert 0 < trained_N.sum() < (~in_validation).sum()


# --- what they take from the core


def test_the_validation_gradient_elsewhere_is_that_of_a_classifier_moved_there(registry):
    one = OneStep(registry, "focal")
    elsewhere = {n: p.detach() + 0.1 * torch.randn_like(p) for n, p in one.module.named_parameters()}
    images, labels = one.batch.images, one.batch.labels
    before = {n: tensor.clone() for n, tensor in one.module.state_dict().items()}
    loss, gradient = one.classifier.validation_gradient(images, labels, at=elsewhere)
    assert_same_tensors(before, one.module.state_dict())
    with torch.no_grad():
        for name, parameter in one.module.named_parameters():
            parameter.copy_(elsewhere[name])
    moved_loss, moved_gradient = one.classifier.validation_gradient(images, labels)
    assert loss == moved_loss
    for parameter in one.module.parameters():
        assert torch.equal(gradient[parameter], moved_gradient[parameter])


def test_a_meta_forward_uses_batch_statistics_and_leaves_no_trace(registry):
    one = OneStep(registry, "focal")
    before = {n: tensor.clone() for n, tensor in one.module.state_dict().items()}
    state, modes = torch.get_rng_state(), [layer.training for layer in one.module.modules()]
    output = one.classifier.meta_forward(one.batch.images, with_features=True)
    assert_same_tensors(before, one.module.state_dict())
    assert torch.equal(state, torch.get_rng_state())
    assert modes == [layer.training for layer in one.module.modules()]
    assert not output.logits.requires_grad
    loss, _ = one.classifier.validation_gradient(one.batch.images, one.batch.labels)
    torch.testing.assert_close(F.cross_entropy(output.logits, one.batch.labels), loss)
    torch.testing.assert_close(one.module[-1](output.features), output.logits)
    assert not torch.equal(output.logits, one.classifier.predict(one.batch.images).logits)


def test_clean_labels_reach_a_method_where_there_is_label_noise(registry):
    noisy = context_of(tiny_config(method="focal", label_noise="uniform"), registry)
    assert torch.equal(noisy.clean_labels, tiny_examples(TINY_SIZE, seed=0).labels)
    assert not torch.equal(noisy.clean_labels, noisy.labels)
    assert context_of(tiny_config(method="focal"), registry).clean_labels is None


def test_a_weighted_fit_draws_anew_each_epoch_and_the_heavy_more_than_once(registry):
    from molere_cli.engine.method import AuxiliaryFit
    from molere_cli.methods.auxiliary import FittedERM

    context = context_of(tiny_config(method="focal"), registry)
    weights = torch.where(torch.arange(TINY_SIZE) < 4, 100.0, 1.0)
    fit = FittedERM(context, AuxiliaryFit(torch.arange(TINY_SIZE), weights))
    first, second = fit.before_epoch(0), fit.before_epoch(1)
    assert len(first) == TINY_SIZE and not torch.equal(first, second)
    assert torch.equal(first, fit.before_epoch(0))
    assert int((first < 4).sum()) > 4 * TINY_SIZE // 8
