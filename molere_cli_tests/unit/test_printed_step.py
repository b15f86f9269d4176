"""The paper's reweighter step as printed: plain SGD on raw hypergradients, sigmoid weights, no normalisation.

Shapes: B examples of a batch, N of the pool.
"""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.func import functional_call
from torch.nn import functional as F

from molere_cli import BackboneSpec, hookimpl
from molere_cli.methods.weight_limits import with_spread
from molere_cli_tests.training import engine_for, tiny_config

PRINTED = {
    "method": "lrw",
    "split": "random",
    "reweighter": "instance",
    "reweighter_optimizer": "sgd",
    "reweighter_lr": 1e-3,
    "reweighter_interval": 1,
    "warmup_epochs": 0,
    "hypergradient_scale": "none",
    "weight_normalization": "none",
    "train_on": "train",
    "optimizer": "momentum",
    "momentum": 0.0,
    "weight_decay": 0.0,
    "lr": 0.1,
    "epochs": 1,
    "augment": "none",
    "device": "cpu",
}


class InFloat64(nn.Module):
    """A network without norm or dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden, self.last = nn.Linear(192, 16), nn.Linear(16, 4)

    def forward(self, images):
        return self.last(self.hidden(images.to(self.last.weight.dtype).flatten(1)).tanh())


class Plugin:
    @hookimpl
    def register_backbones(self, register):
        register(BackboneSpec(name="plain", description="-", build=lambda request: InFloat64()))


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_the_reweighter_takes_the_printed_step(registry, momentum, monkeypatch):
    """phi <- phi - beta_2 d/d phi L_val(theta - beta_3 (1/B) sum_j sigmoid(phi_j) grad l_j(theta)), against
    autograd through the classifier's step in float64, over as many steps as an epoch has."""
    registry.add(Plugin(), "plain_plugin")
    in_validation = torch.arange(64) % 4 == 0
    engine = engine_for(
        tiny_config(**PRINTED, backbone="plain", reweighter_momentum=momentum), registry, in_validation
    )
    loop, method = engine.loop, engine.loop.method
    loop.classifier.module.double()
    loop.classifier.precision = torch.float64
    reweighting = method._reweighting
    reweighting.reweighter.double()
    taken = []

    validation = loop.classifier.validation_gradient

    def kept(images, labels, **rest):
        taken.append((images, labels))
        return validation(images, labels, **rest)

    monkeypatch.setattr(loop.classifier, "validation_gradient", kept)
    theta = {name: value.detach().clone() for name, value in loop.classifier.parameters.items()}
    (name,) = dict(reweighting.reweighter.named_parameters())
    phi_N = dict(reweighting.reweighter.named_parameters())[name].detach().clone()
    velocity = None
    steps = []
    after_step = method.after_step

    def looked_at(step):
        after_step(step)
        steps.append((step.batch, dict(reweighting.reweighter.named_parameters())[name].detach().clone()))

    monkeypatch.setattr(method, "after_step", looked_at)
    next(loop.epochs())
    assert len(steps) == len(taken) == 3
    for (batch, phi_after), (val_images, val_labels) in zip(steps, taken, strict=True):
        z_N = phi_N.clone().requires_grad_()
        weights_B = z_N.flatten()[batch.positions].sigmoid()
        leaves = {key: value.clone().requires_grad_() for key, value in theta.items()}

        def losses_of(parameters, images, labels):
            logits = functional_call(loop.classifier.module, parameters, (images.double(),))
            return F.cross_entropy(logits, labels, reduction="none")

        loss = (weights_B * losses_of(leaves, batch.images, batch.labels)).mean()
        gradients = torch.autograd.grad(loss, list(leaves.values()), create_graph=True)
        stepped = {
            key: value - 0.1 * gradient
            for (key, value), gradient in zip(leaves.items(), gradients, strict=True)
        }
        val_loss = losses_of(stepped, val_images, val_labels).mean()
        (wanted,) = torch.autograd.grad(val_loss, z_N)
        velocity = wanted if velocity is None else momentum * velocity + wanted
        phi_N = phi_N - 1e-3 * velocity
        torch.testing.assert_close(phi_after, phi_N, rtol=1e-9, atol=1e-15)
        assert wanted.abs().max() > 1e-6
        theta = {key: value.detach() for key, value in stepped.items()}


@pytest.mark.parametrize("spread", [0.0, 0.03, 1.0])
def test_log_weights_take_the_spread_that_is_asked_for(spread):
    generator = torch.Generator().manual_seed(0)
    log_weights_B = torch.randn(64, generator=generator, dtype=torch.float64)
    found = with_spread(log_weights_B, spread)
    torch.testing.assert_close(found.std(correction=0), torch.tensor(spread, dtype=torch.float64))
    assert torch.equal(found.argsort(stable=True), log_weights_B.argsort(stable=True)) or spread == 0
    assert torch.equal(with_spread(torch.zeros(8), spread), torch.zeros(8))
