"""One hypergradient through one step of SGD: the problem that all rows of `hypergradient.py` solve.

What is compared is d L_val(theta') / d w for free per-example weights w (B,), with
theta' = theta - lr (1/B) sum_i w_i grad l_i(theta).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from harness import DATA, Clock
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from molere_cli import BackboneRequest
from molere_cli.config.plan import make_plan
from molere_cli.config.run_config import RunConfig
from molere_cli.data.feed import make_feed
from molere_cli.data.source import load_dataset
from molere_cli.engine.classifier import Classifier
from molere_cli.engine.hypergradient import hypergradient
from molere_cli.engine.layer_rule import StepTrace
from molere_cli.engine.random_state import RandomState
from molere_cli.engine.response import optimizer_response
from molere_cli.registry.registry import load_plugins
from molere_cli.training.input_preprocessing import feed_settings

LabelledImages = tuple[Tensor, Tensor]

NUM_CLASSES = 10
LR = 0.1
# Backbone and image size by name.
NETWORKS = {
    "wrn16_2": ("wrn16_2", 32),
    "resnet18": ("timm:resnet18", 32),
    "vit_tiny_patch16_224": ("timm:vit_tiny_patch16_224", 64),
}
CPU = torch.device("cpu")
PERTURBATION = 0.01  # norm of the finite difference's step in parameter space, as in DARTS


def build_network(name: str) -> nn.Module:
    """The network with random parameters from seed 0, in train mode."""
    backbone, size = NETWORKS[name]
    spec = load_plugins().backbone(backbone)
    torch.manual_seed(0)
    request = BackboneRequest(num_classes=NUM_CLASSES, image_size=(size, size), options=spec.options())
    return spec.build(request).train()


def random_batch(size: int, num_examples: int, *, seed: int) -> tuple[Tensor, Tensor]:
    """Images with a hint of their label in them, so that gradients are not noise alone."""
    generator = torch.Generator().manual_seed(seed)
    labels_B = torch.randint(0, NUM_CLASSES, (num_examples,), generator=generator)
    images = torch.randn(num_examples, 3, size, size, generator=generator)
    return images + (labels_B / NUM_CLASSES - 0.5)[:, None, None, None], labels_B


def real_batches(size: int, num_examples: int, *, num_batches: int) -> list[LabelledImages]:
    """Batches of CIFAR-10's training images from MOLERE_DATA or ../shared/data, resized and normalised."""
    config = RunConfig.of(
        dataset=f"parquet:{DATA}/cifar10", image_size=size, limit_train=num_batches * num_examples
    )
    plan = make_plan(config.updated(method="erm", device="cpu"), load_plugins())
    data = load_dataset(plan.config.data, plan.registry)
    feed = make_feed(data.dataset.pool, feed_settings(plan, data))
    order = torch.randperm(len(feed), generator=torch.Generator().manual_seed(0))
    return [(batch.images, batch.labels) for batch in feed.evaluation(list(order.split(num_examples)))]


class Problem:
    """A network, a training and a validation batch (random if none are given), weights, and plain SGD."""

    def __init__(
        self,
        network: str,
        *,
        batch_size: int,
        dtype: torch.dtype = torch.float32,
        precision: torch.dtype = torch.float32,
        layout: torch.memory_format = torch.channels_last,
        state: Mapping[str, Tensor] | None = None,
        batches: tuple[LabelledImages, LabelledImages] | None = None,
        device: torch.device = CPU,
    ) -> None:
        size = NETWORKS[network][1]
        self.classifier = Classifier(build_network(network).to(dtype), device=device, precision=precision)
        self.module = self.classifier.module.to(memory_format=layout)
        if state is not None:
            self.module.load_state_dict(state)
        train, val = batches or (
            random_batch(size, batch_size, seed=1),
            random_batch(size, batch_size, seed=2),
        )
        (images, labels), (val_images, val_labels) = train, val
        self.labels, self.val_labels = labels.to(device), val_labels.to(device)
        self.images = images.to(device, dtype).contiguous(memory_format=layout)
        self.val_images = val_images.to(device, dtype).contiguous(memory_format=layout)
        generator = torch.Generator().manual_seed(3)
        self.weights = (torch.rand(batch_size, generator=generator) + 0.5).to(device, dtype)
        self.optimizer = torch.optim.SGD(self.module.parameters(), lr=LR)
        self._initial = {name: value.clone() for name, value in self.module.state_dict().items()}

    def reset(self) -> None:
        """Parameters and buffers as they were at the beginning."""
        self.module.load_state_dict(self._initial)

    def losses(self, logits: Tensor) -> Tensor:
        """Per-example losses of the training batch, (B,)."""
        return F.cross_entropy(logits, self.labels, reduction="none")

    def step(self, trace: StepTrace | None = None) -> None:
        """One step of weighted training."""
        logits = self.classifier.forward(self.images, trace=trace).logits
        loss = (self.weights * self.losses(logits)).mean()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()

    def copy_of_parameters(self) -> dict[str, Tensor]:
        return {name: p.detach().clone() for name, p in self.classifier.parameters.items()}

    def restore(self, parameters: Mapping[str, Tensor]) -> None:
        """Put a `copy_of_parameters` back."""
        with torch.no_grad():
            torch._foreach_copy_(list(self.classifier.parameters.values()), list(parameters.values()))


def settled_state(network: str, *, batch_size: int, num_steps: int = 3) -> dict[str, Tensor]:
    """A state a few steps into training, where no layer is stuck at its initial zeros."""
    problem = Problem(network, batch_size=batch_size)
    for _ in range(num_steps):
        problem.step()
    return {name: value.clone() for name, value in problem.module.state_dict().items()}


def error_and_cosine(found_B: Tensor, exact_B: Tensor) -> tuple[float, float]:
    """Of a hypergradient against the one in float64: relative error in the Euclidean norm, and cosine."""
    found_B = found_B.double()
    error = float((found_B - exact_B).norm() / exact_B.norm())
    return error, float(F.cosine_similarity(found_B, exact_B, dim=0))


# --- MOLERE's rows: each adds to the clock what it is about, and returns the hypergradient (B,), if any


def plain_step(problem: Problem, clock: Clock) -> None:
    """Forward, backward, SGD."""
    with clock:
        problem.step()
    problem.reset()


def forward_mode_alone(problem: Problem, clock: Clock) -> Tensor:
    """A step, the validation gradient after it, one dual pass, and parameters put back."""
    with clock:
        before, randomness = problem.copy_of_parameters(), RandomState.capture(problem.classifier.device)
        problem.step()
        found_B = forward_mode(problem, before, randomness)
        problem.restore(before)
    problem.reset()
    return found_B


def forward_mode_on_top(problem: Problem, clock: Clock) -> Tensor:
    """What the hypergradient adds to a step that is taken anyway."""
    with clock:
        before = problem.copy_of_parameters()
    randomness = RandomState.capture(problem.classifier.device)
    problem.step()
    with clock:
        found_B = forward_mode(problem, before, randomness)
    problem.reset()
    return found_B


def molere_alone(problem: Problem, clock: Clock) -> Tensor:
    """A step and the hypergradient through it as MOLERE takes it, and parameters put back."""
    followed = problem.classifier.has_no_cross_example_ops
    return followed_alone(problem, clock) if followed else forward_mode_alone(problem, clock)


def molere_on_top(problem: Problem, clock: Clock) -> Tensor:
    """What the hypergradient, as MOLERE takes it, adds to a step that is taken anyway."""
    followed = problem.classifier.has_no_cross_example_ops
    return followed_on_top(problem, clock) if followed else forward_mode_on_top(problem, clock)


def followed_alone(problem: Problem, clock: Clock) -> Tensor:
    """As `forward_mode_alone`, by the layer rule, which MOLERE takes where no examples mix."""
    with clock:
        before, trace = problem.copy_of_parameters(), StepTrace()
        problem.step(trace)
        found_B = followed(problem, before, trace)
        problem.restore(before)
    problem.reset()
    return found_B


def followed_on_top(problem: Problem, clock: Clock) -> Tensor:
    """As `forward_mode_on_top`, by the layer rule."""
    with clock:
        before = problem.copy_of_parameters()
    trace = StepTrace()
    problem.step(trace)
    with clock:
        found_B = followed(problem, before, trace)
    problem.reset()
    return found_B


def followed(problem: Problem, before: dict[str, Tensor], trace: StepTrace) -> Tensor:
    """The hypergradient through a step that has been followed, (B,)."""
    response = _response(problem, before)
    return -problem.classifier.followed_alignment(trace, response, problem.weights) / problem.weights


def forward_mode(problem: Problem, before: dict[str, Tensor], randomness: RandomState) -> Tensor:
    """The hypergradient through a step that has been taken, at the classifier's precision, (B,)."""
    response = _response(problem, before)
    losses = problem.classifier.step_losses(problem.images, problem.labels, randomness)
    return hypergradient(losses, before, response)


def central_differences(problem: Problem, clock: Clock) -> Tensor:
    """As `forward_mode_alone`, the dual pass replaced by two forward passes at theta +- eps r.

    The weights do not depend on the classifier, so that no `.detach()` is there to be ignored.
    """
    with clock:
        before = problem.copy_of_parameters()
        problem.step()
        response = _response(problem, before)
        norm = torch.stack([r.square().sum() for r in response.values()]).sum().sqrt()
        epsilon = float(PERTURBATION / norm)
        higher_B, lower_B = (
            _losses_at(problem, {name: p.add(response[name], alpha=sign) for name, p in before.items()})
            for sign in (epsilon, -epsilon)
        )
        found_B = (lower_B - higher_B) / (2 * epsilon * len(higher_B))
        problem.restore(before)
    problem.reset()
    return found_B


def _response(problem: Problem, before: dict[str, Tensor]) -> dict[str, Tensor]:
    """d(step)/d(gradient), transposed, times the validation gradient after the step."""
    _, gradient = problem.classifier.validation_gradient(problem.val_images, problem.val_labels)
    parameters = problem.classifier.parameters
    response = optimizer_response(
        problem.optimizer,
        gradient,
        before={parameter: before[name] for name, parameter in parameters.items()},
        clipping=None,
    )
    return {name: response[parameter] for name, parameter in parameters.items()}


@torch.no_grad()
def _losses_at(problem: Problem, parameters: dict[str, Tensor]) -> Tensor:
    buffers = {name: buffer.clone() for name, buffer in problem.module.named_buffers()}
    return problem.losses(functional_call(problem.module, {**parameters, **buffers}, (problem.images,)))
