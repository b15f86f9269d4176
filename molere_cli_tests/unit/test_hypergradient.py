"""The hypergradient through the real optimizer step, against second-order autograd in float64."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.func import functional_call
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.utils import clip_grad_norm_

from molere_cli.engine.classifier import Classifier
from molere_cli.engine.hypergradient import alignment, hypergradient
from molere_cli.engine.layers import deterministic_layers
from molere_cli.engine.random_state import RandomState
from molere_cli.engine.response import Clipping, check_response_known, kept_gradients, optimizer_response
from molere_cli.foundation.errors import TrainingError

NUM_CLASSES, TRAIN, VAL = 5, 6, 4


def conv_net() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1),
        nn.BatchNorm2d(6),
        nn.SiLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(24, NUM_CLASSES),
    )


def dropout_net() -> nn.Module:
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(192, 20),
        nn.Tanh(),
        nn.Dropout(0.5),
        nn.Linear(20, 20),
        nn.Tanh(),
        nn.Dropout(0.3),
        nn.Linear(20, NUM_CLASSES),
    )


def vision_transformer() -> nn.Module:
    from timm.models.vision_transformer import VisionTransformer

    return VisionTransformer(
        img_size=8,
        patch_size=4,
        embed_dim=16,
        depth=2,
        num_heads=2,
        num_classes=NUM_CLASSES,
        drop_path_rate=0.3,
    )


class SharingNet(nn.Module):
    """One block used twice, under two names; and one matrix in two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3), nn.GELU())
        self.again = self.first
        self.inner, self.outer = nn.Linear(12, 12), nn.Linear(12, 12)
        self.outer.weight = self.inner.weight
        self.head = nn.Linear(12, NUM_CLASSES)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        pooled = F.adaptive_avg_pool2d(self.again(self.first(images)), 2).flatten(1)
        return self.head(self.outer(F.gelu(self.inner(pooled))))


NETWORKS = {
    "conv": conv_net,
    "vit": vision_transformer,
    "dropout": dropout_net,
    "sharing": SharingNet,
}

OPTIMIZERS = {
    "sgd": lambda p, **how: torch.optim.SGD(p, lr=0.1, **how),
    "nesterov": lambda p, **how: torch.optim.SGD(
        p, lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4, **how
    ),
    "nesterov-undecayed": lambda p, **how: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True, **how),
    "momentum": lambda p, **how: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=5e-4, **how),
    "adamw": lambda p, **how: torch.optim.AdamW(p, lr=0.01, weight_decay=0.05, **how),
    "adam": lambda p, **how: torch.optim.Adam(p, lr=0.01, weight_decay=0.05, **how),
}
# How torch goes over the parameters: one by one on a CPU, unless told otherwise.
WAYS = {
    "single": {"foreach": False},
    "foreach": {"foreach": True},
    "fused": {"fused": True},
    "capturable": {"capturable": True},  # on a GPU alone
}


class Problem:
    """A classifier some steps into training, with a batch, weights and a validation batch."""

    def __init__(
        self, network: str, optimizer: str, clip: float | None, way: str = "single", device: str = "cpu"
    ) -> None:
        torch.manual_seed(0)
        self.classifier = Classifier(
            NETWORKS[network]().double(), device=torch.device(device), precision=torch.float64
        )
        self.module = self.classifier.module.train()
        self.optimizer = OPTIMIZERS[optimizer](self.module.parameters(), **WAYS[way])
        self.clip = clip
        self.images, self.labels = (part.to(device) for part in random_batch(TRAIN))
        self.val_images, self.val_labels = (part.to(device) for part in random_batch(VAL))
        self.weights_B = torch.rand(TRAIN, dtype=torch.float64).to(device) + 0.5
        for _ in range(3):
            self.step(torch.ones_like(self.weights_B))

    def step(self, weights_B: torch.Tensor) -> Clipping | None:
        loss = (weights_B * self.losses()).mean()
        self.optimizer.zero_grad()
        loss.backward()
        clipping = None
        if self.clip is not None:
            norm = clip_grad_norm_(self.module.parameters(), self.clip)
            clipping = Clipping(self.clip, norm, kept_gradients(self.optimizer))
        self.optimizer.step()
        return clipping

    def losses(self) -> torch.Tensor:
        return F.cross_entropy(self.module(self.images), self.labels, reduction="none")

    def forward_mode(self) -> torch.Tensor:
        """Ours, through the real step."""
        before = {name: p.detach().clone() for name, p in self.classifier.parameters.items()}
        randomness = RandomState.capture(self.classifier.device)
        clipping = self.step(self.weights_B)
        _, gradient = self.classifier.validation_gradient(self.val_images, self.val_labels)
        parameters = self.classifier.parameters
        response = optimizer_response(
            self.optimizer,
            gradient,
            before={p: before[name] for name, p in parameters.items()},
            clipping=clipping,
        )
        losses = self.classifier.step_losses(self.images, self.labels, randomness)
        return hypergradient(losses, before, {n: response[p] for n, p in parameters.items()})

    def second_order(self) -> torch.Tensor:
        """The same derivative by differentiating a step written out by hand."""
        parameters = dict(self.module.named_parameters())
        weights_B = self.weights_B.clone().requires_grad_()
        with sdpa_kernel(SDPBackend.MATH):
            loss = (weights_B * self.losses()).mean()
            gradients = list(torch.autograd.grad(loss, list(parameters.values()), create_graph=True))
            if self.clip is not None:
                norm = torch.stack([g.square().sum() for g in gradients]).sum().sqrt()
                factor = (self.clip / (norm + 1e-6)).clamp(max=1.0)
                gradients = [factor * g for g in gradients]
            stepped = {
                name: written_out_step(self.optimizer, parameter, gradient)
                for (name, parameter), gradient in zip(parameters.items(), gradients, strict=True)
            }
            with deterministic_layers(self.module):
                logits = functional_call(self.module, stepped, (self.val_images,))
            val_loss = F.cross_entropy(logits, self.val_labels)
        (derivative,) = torch.autograd.grad(val_loss, weights_B)
        return derivative


def random_batch(size: int) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(size, 3, 8, 8, dtype=torch.float64), torch.randint(0, NUM_CLASSES, (size,))


def written_out_step(optimizer, parameter, gradient):
    """theta' as a differentiable function of the gradient, from the published update rules."""
    state = optimizer.state[parameter]
    (group,) = [each for each in optimizer.param_groups if any(parameter is p for p in each["params"])]
    lr, decay = group["lr"], group["weight_decay"]
    if isinstance(optimizer, torch.optim.SGD):
        gradient = gradient + decay * parameter
        if group["momentum"]:
            buffer = group["momentum"] * state["momentum_buffer"].clone() + gradient
            gradient = gradient + group["momentum"] * buffer if group["nesterov"] else buffer
        return parameter - lr * gradient
    beta1, beta2 = group["betas"]
    step = float(state["step"]) + 1
    if isinstance(optimizer, torch.optim.AdamW):
        parameter = parameter * (1 - lr * decay)
    else:
        gradient = gradient + decay * parameter
    first = beta1 * state["exp_avg"].clone() + (1 - beta1) * gradient
    second = beta2 * state["exp_avg_sq"].clone() + (1 - beta2) * gradient.square()
    # A parameter that has never had a gradient takes no step; the root's derivative at 0 is infinite.
    root = torch.where(second > 0, second, 1.0).sqrt() / (1 - beta2**step) ** 0.5
    return parameter - torch.where(second > 0, lr * first / (1 - beta1**step) / (root + group["eps"]), 0.0)


@pytest.mark.parametrize("clip", [None, 0.05, 1e3], ids=["unclipped", "clipped", "clip-idle"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("network", NETWORKS)
def test_hypergradient_equals_second_order_autograd(network, optimizer, clip):
    problem = Problem(network, optimizer, clip)
    twin = copy.deepcopy(problem)
    random_state = torch.get_rng_state()
    ours = problem.forward_mode()
    torch.set_rng_state(random_state)
    theirs = twin.second_order()
    assert theirs.abs().max() > 1e-8
    assert (ours - theirs).norm() <= 1e-8 * theirs.norm()


@pytest.mark.parametrize("clip", [None, 0.05], ids=["unclipped", "clipped"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_hypergradient_where_layers_have_rates_of_their_own(optimizer, clip):
    problem = Problem("vit", optimizer, clip)
    (group,) = problem.optimizer.param_groups
    slower = {**group, "params": group["params"][::2], "lr": 0.3 * group["lr"], "weight_decay": 0.0}
    group["params"] = group["params"][1::2]
    problem.optimizer.param_groups.append(slower)
    twin = copy.deepcopy(problem)
    random_state = torch.get_rng_state()
    ours = problem.forward_mode()
    torch.set_rng_state(random_state)
    theirs = twin.second_order()
    assert (ours - theirs).norm() <= 1e-8 * theirs.norm() > 0


@pytest.mark.parametrize("clip", [None, 0.05], ids=["unclipped", "clipped"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("way", ["foreach", "fused"])
def test_hypergradient_is_the_same_however_torch_goes_over_the_parameters(way, optimizer, clip):
    expected = Problem("conv", optimizer, clip).forward_mode()
    found = Problem("conv", optimizer, clip, way).forward_mode()
    assert (found - expected).norm() <= 1e-8 * expected.norm()


def test_hypergradient_of_a_quadratic_has_its_closed_form():
    targets_B = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    theta, lr, val_target = torch.tensor(0.3, dtype=torch.float64), 0.1, 2.0
    stepped = theta - lr * (theta - targets_B).mean()
    found = hypergradient(
        lambda p: 0.5 * (p["theta"] - targets_B) ** 2,
        {"theta": theta},
        {"theta": lr * (stepped - val_target)},
    )
    expected = -lr / 3 * (theta - targets_B) * (stepped - val_target)
    torch.testing.assert_close(found, expected, rtol=1e-14, atol=0)


def test_alignment_is_the_inner_product_with_each_gradient():
    problem = Problem("conv", "sgd", None)
    parameters = {n: p.detach() for n, p in problem.classifier.parameters.items()}
    direction = {n: torch.randn_like(p) for n, p in parameters.items()}
    randomness = RandomState.capture(problem.classifier.device)
    losses = problem.classifier.step_losses(problem.images, problem.labels, randomness)
    found_B = alignment(losses, parameters, direction)
    for number in range(TRAIN):
        gradients = torch.autograd.grad(problem.losses()[number], list(problem.module.parameters()))
        expected = sum((g * direction[n]).sum() for g, n in zip(gradients, parameters, strict=True))
        torch.testing.assert_close(found_B[number], expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("network", NETWORKS)
def test_meta_passes_leave_buffers_parameters_modes_and_random_state_alone(network):
    problem = Problem(network, "momentum", None)
    problem.step(problem.weights_B)
    state = {name: value.clone() for name, value in problem.module.state_dict().items()}
    tensors = (*problem.module.parameters(), *problem.module.buffers())
    modes = [layer.training for layer in problem.module.modules()]
    randomness = RandomState.capture(problem.classifier.device)
    random_state = torch.get_rng_state()
    _, gradient = problem.classifier.validation_gradient(problem.val_images, problem.val_labels)
    direction = {n: gradient[p] for n, p in problem.classifier.parameters.items()}
    losses = problem.classifier.step_losses(problem.images, problem.labels, randomness)
    alignment(losses, problem.classifier.parameters, direction)
    assert torch.equal(torch.get_rng_state(), random_state)
    assert [layer.training for layer in problem.module.modules()] == modes
    for ours, now in zip(tensors, (*problem.module.parameters(), *problem.module.buffers()), strict=True):
        assert ours is now
    for name, value in problem.module.state_dict().items():
        assert torch.equal(value, state[name]), name


def test_dual_pass_replays_the_dropout_masks_of_the_step():
    problem = Problem("dropout", "sgd", None)
    randomness = RandomState.capture(problem.classifier.device)
    losses_B = problem.losses().detach()
    replay = problem.classifier.step_losses(problem.images, problem.labels, randomness)
    with torch.no_grad():
        torch.testing.assert_close(replay(problem.classifier.parameters), losses_B, rtol=0, atol=0)


def test_an_optimizer_of_unknown_response_is_refused_with_those_that_are_known():
    parameters = [nn.Parameter(torch.zeros(2))]
    with pytest.raises(TrainingError, match=r"RMSprop.*use one of: momentum"):
        check_response_known(torch.optim.RMSprop(parameters))
    with pytest.raises(TrainingError, match="amsgrad"):
        check_response_known(torch.optim.AdamW(parameters, amsgrad=True))
