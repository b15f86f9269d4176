"""Other ways to the hypergradient of `one_step.py`, each used as its own documentation says.

All take the same stock network; the third-party packages are the extra `bench`. Attention runs under the
math kernel, since the fused one has no second derivative. Each returns the hypergradient (B,).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch
from harness import Clock
from one_step import LR, Problem
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel


def _math_attention() -> AbstractContextManager[None]:
    return sdpa_kernel(SDPBackend.MATH)


def second_order(problem: Problem) -> Callable[[Clock], Tensor]:
    """Second-order autograd by hand, as Meta-Weight-Net does it: the step stays in the graph."""

    def run(clock: Clock) -> Tensor:
        with _math_attention(), clock:
            parameters = dict(problem.module.named_parameters())
            buffers = {name: buffer.clone() for name, buffer in problem.module.named_buffers()}
            weights_B = problem.weights.clone().requires_grad_()
            logits_BC = functional_call(problem.module, {**parameters, **buffers}, (problem.images,))
            loss = (weights_B * problem.losses(logits_BC)).mean()
            gradients = torch.autograd.grad(loss, list(parameters.values()), create_graph=True)
            stepped = {
                name: parameter - LR * gradient
                for (name, parameter), gradient in zip(parameters.items(), gradients, strict=True)
            }
            val_logits = functional_call(problem.module, {**stepped, **buffers}, (problem.val_images,))
            val_loss = F.cross_entropy(val_logits, problem.val_labels)
            (found_B,) = torch.autograd.grad(val_loss, weights_B)
        return found_B

    return run


def higher(problem: Problem) -> Callable[[Clock], Tensor]:
    """`higher.innerloop_ctx`, one differentiable SGD step."""
    import higher as library

    def run(clock: Clock) -> Tensor:
        with _math_attention(), clock:
            weights_B = problem.weights.clone().requires_grad_()
            with library.innerloop_ctx(problem.module, problem.optimizer) as (network, optimizer):
                optimizer.step((weights_B * problem.losses(network(problem.images))).mean())
                val_loss = F.cross_entropy(network(problem.val_images), problem.val_labels)
                (found_B,) = torch.autograd.grad(val_loss, weights_B)
        return found_B

    return run


def torchopt(problem: Problem) -> Callable[[Clock], Tensor]:
    """`torchopt.MetaSGD`, one differentiable step, the state extracted before and recovered after it."""
    import torchopt as library

    optimizer = library.MetaSGD(problem.module, lr=LR)

    def run(clock: Clock) -> Tensor:
        with _math_attention(), clock:
            network_state = library.extract_state_dict(problem.module, by="copy")
            optimizer_state = library.extract_state_dict(optimizer, by="copy")
            weights_B = problem.weights.clone().requires_grad_()
            optimizer.step((weights_B * problem.losses(problem.module(problem.images))).mean())
            val_loss = F.cross_entropy(problem.module(problem.val_images), problem.val_labels)
            (found_B,) = torch.autograd.grad(val_loss, weights_B)
            library.recover_state_dict(problem.module, network_state)
            library.recover_state_dict(optimizer, optimizer_state)
        return found_B

    return run


def betty(problem: Problem) -> Callable[[Clock], Tensor]:
    """betty-ml's `darts`: one step of its engine, which takes the mixed derivative by central differences.

    It is taken after the step, not before it, and without the learning rate, which is put in here.
    """
    logging.getLogger("betty").addFilter(lambda _record: False)  # it writes to stdout
    from betty.configs import Config, EngineConfig
    from betty.engine import Engine
    from betty.problems import ImplicitProblem

    class Weights(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.values = nn.Parameter(problem.weights.clone())

    class Inner(ImplicitProblem):  # type: ignore[misc]
        def training_step(self, batch: Any) -> Tensor:
            losses_B = F.cross_entropy(self.module(batch[0]), batch[1], reduction="none")
            return (self.reweighter.module.values * losses_B).mean()

    class Outer(ImplicitProblem):  # type: ignore[misc]
        found_B: Tensor

        def training_step(self, batch: Any) -> Tensor:
            return F.cross_entropy(self.classifier.module(batch[0]), batch[1])

        def custom_optimizer_step(self) -> None:
            self.found_B = LR * self.module.values.grad

    inner = Inner(
        "classifier",
        Config(type="darts", unroll_steps=1),
        module=problem.module,
        optimizer=problem.optimizer,
        train_data_loader=[(problem.images, problem.labels)],
    )
    outer = Outer(
        "reweighter",
        Config(retain_graph=True),
        module=Weights(),
        train_data_loader=[(problem.val_images, problem.val_labels)],
    )
    dependencies = {"u2l": {outer: [inner]}, "l2u": {inner: [outer]}}
    engine = Engine(problems=[inner, outer], config=EngineConfig(), dependencies=dependencies)
    engine.train()

    def run(clock: Clock) -> Tensor:
        with clock:
            engine.train_step()
        problem.reset()
        found_B: Tensor = outer.found_B
        return found_B

    return run
