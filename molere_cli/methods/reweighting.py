"""The reweighter's side of the loop: weights for a batch, and the step that improves them.

Shapes: B examples of a training batch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from molere_cli.config.sections import ReweightingSettings
from molere_cli.data.feed import Feed
from molere_cli.engine.classifier import Classifier
from molere_cli.engine.hypergradient import hypergradient
from molere_cli.engine.method import TrainingContext
from molere_cli.engine.response import check_response_known, optimizer_response
from molere_cli.engine.step import Step
from molere_cli.engine.validation_batches import ValidationBatches
from molere_cli.methods.hardness_ranks import HardnessRanks
from molere_cli.registry.specs import ReweighterInput


class _Within(torch.autograd.Function):
    """Clamp to [-bound, bound]; the gradient passes unless it would push further out.

    With the plain derivative of a clamp, a log-weight that has left the interval could never come back.
    """

    @staticmethod
    def forward(ctx: Any, values: Tensor, bound: float) -> Tensor:
        ctx.save_for_backward(values)
        ctx.bound = bound
        return values.clamp(-bound, bound)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (values,) = ctx.saved_tensors
        outward = (values >= ctx.bound) & (gradient < 0) | (values <= -ctx.bound) & (gradient > 0)
        return gradient.masked_fill(outward, 0.0), None


def weights_from_log(
    log_weights_B: Tensor, *, normalization: str = "mean", bound: float | None = None
) -> Tensor:
    """Weights from a reweighter's log-weights, differentiable.

    `mean`: exp(z) over its batch mean, that is softmax(z) times B; exactly 1 where all z are equal.
    `none`: sigmoid(z), as in Meta-Weight-Net (arXiv 1902.07379).
    """
    # Bounded before normalisation: the bound is on how far apart two weights can be.
    if bound is not None:
        log_weights_B = _Within.apply(log_weights_B, math.log(bound))
    if normalization == "none":
        return log_weights_B.sigmoid()
    # Less the highest, so that nothing overflows; the mean takes it out again.
    weights_B = (log_weights_B - log_weights_B.detach().max()).exp()
    return weights_B / weights_B.mean()


def scale_hypergradient(hypergradient_B: Tensor, scale: str) -> Tensor:
    """Divide by the mean absolute value over the batch (`batch`), or leave it (`none`).

    The raw hypergradient shrinks by orders of magnitude as the training loss does.
    """
    if scale == "none":
        return hypergradient_B
    return hypergradient_B / hypergradient_B.abs().mean().clamp_min(torch.finfo(hypergradient_B.dtype).tiny)


@dataclass(frozen=True, eq=False)
class _Pending:
    """What a due meta-update needs from before the classifier's step."""

    weights: Tensor
    before: dict[str, Tensor]


class Reweighting:
    """Learns the weights: every Q classifier steps after warm-up, one hypergradient and one Adam step.

    The step that is differentiated is the classifier's real one, so new weights act from the next step
    on: one step later than in Meta-Weight-Net's two-pass order.
    """

    def __init__(
        self,
        settings: ReweightingSettings,
        *,
        seed: int,
        classifier: Classifier,
        optimizer: torch.optim.Optimizer,
        validation_feed: Feed,
        reweighter: nn.Module,
        ranks: HardnessRanks | None = None,
    ) -> None:
        """ranks: where the pool's examples stand by hardness, for a reweighter that asks."""
        assert settings.warmup_epochs is not None and settings.reweighter_lr is not None
        assert settings.meta_batch_size is not None
        # Now, rather than at the first meta-update, which comes after warm-up.
        check_response_known(optimizer)
        self.settings = settings
        self.warmup_epochs = settings.warmup_epochs
        self.classifier = classifier
        self.optimizer = optimizer
        self.reweighter = reweighter
        # Adam, because a log-weight gets a gradient only when its example is met. Decay is decoupled: it
        # pulls log-weights to 0, that is weights to 1.
        self.reweighter_optimizer = torch.optim.AdamW(
            reweighter.parameters(),
            lr=settings.reweighter_lr,
            weight_decay=settings.reweighter_weight_decay,
            foreach=True,
        )
        self.num_updates = 0
        self._ranks = ranks
        self._validation = ValidationBatches(validation_feed, batch_size=settings.meta_batch_size, seed=seed)
        self._pending: _Pending | None = None
        self._val_losses: list[Tensor] = []

    def set_validation(self, positions: Tensor, *, tag: int) -> None:
        """Draw validation batches from these positions from now on."""
        self._validation.set_positions(positions, tag=tag)

    def start_epoch(self, epoch: int, *, num_steps: int) -> None:
        """Line up the validation batches of an epoch of at most `num_steps` classifier steps."""
        self._val_losses = []
        if self._ranks is not None:
            self._ranks.start_epoch()
        if epoch < self.warmup_epochs:
            return
        # Lined up at once, so that a stream can decode them while the classifier trains.
        num_due = math.ceil(num_steps / self.settings.reweighter_interval)
        self._validation.start_epoch(epoch, num_batches=num_due)

    def weights(self, step: Step) -> Tensor | None:
        """The weights (B,) of a batch, detached; None (all 1) during warm-up."""
        if step.epoch < self.warmup_epochs:
            return None
        due = step.in_epoch % self.settings.reweighter_interval == 0
        # A graph only where a hypergradient will come back through it.
        with torch.set_grad_enabled(due):
            log_weights_B = self.reweighter(
                ReweighterInput(
                    positions=step.batch.positions,
                    images=step.batch.images,
                    labels=step.batch.labels,
                    features=step.features,
                    losses=step.losses.detach(),
                    hardness_rank=None if self._ranks is None else self._ranks.of(step.batch.positions),
                )
            )
            weights_B = weights_from_log(
                log_weights_B,
                normalization=self.settings.weight_normalization,
                bound=self.settings.weight_bound,
            )
        if due:
            # The optimizer works in place, and (4) is taken at theta from before its step.
            before = {n: p.detach().clone() for n, p in self.classifier.parameters.items()}
            self._pending = _Pending(weights_B, before)
        return weights_B.detach()

    def after_step(self, step: Step) -> None:
        """If a meta-update is due: the hypergradient through the step just taken, and a reweighter step."""
        if self._ranks is not None:
            self._ranks.add(step)
        if self._pending is None:
            return
        pending, self._pending = self._pending, None
        hypergradient_B = self._hypergradient(step, pending.before)
        scaled_B = scale_hypergradient(hypergradient_B, self.settings.hypergradient_scale)
        self.reweighter_optimizer.zero_grad(set_to_none=True)
        # (5): d L_val / d w, through the weights (2), into phi.
        pending.weights.backward(scaled_B.to(pending.weights.dtype))
        self.reweighter_optimizer.step()
        self.num_updates += 1

    def _hypergradient(self, step: Step, before: dict[str, Tensor]) -> Tensor:
        # v = grad L_val at theta', where the step has led.
        val = self._validation.next()
        val_loss, gradient = self.classifier.validation_gradient(val.images, val.labels)
        self._val_losses.append(val_loss)
        parameters = self.classifier.parameters
        # r = (du/dg)^T v, read off the optimizer as the step has left it.
        response = optimizer_response(
            self.optimizer,
            gradient,
            before={parameter: before[name] for name, parameter in parameters.items()},
            clipping=step.clipping,
        )
        named_response = {name: response[p] for name, p in parameters.items() if p in response}
        # Back at theta: < grad l_i, r > for all i in one pass (4).
        losses = self.classifier.step_losses(step.batch.images, step.batch.labels, step.randomness)
        return hypergradient(losses, before, named_response)

    def metrics(self) -> dict[str, float]:
        """Mean `val/loss` over this epoch's validation batches, and the meta-updates so far; nothing during
        warm-up."""
        if not self._val_losses:
            return {}
        return {
            "val/loss": float(torch.stack(self._val_losses).mean()),
            "reweighter/updates": self.num_updates,
        }

    def state_dict(self) -> dict[str, Any]:
        """What a resume needs, between epochs."""
        return {
            "reweighter": self.reweighter.state_dict(),
            "optimizer": self.reweighter_optimizer.state_dict(),
            "num_updates": self.num_updates,
            "ranks": {} if self._ranks is None else self._ranks.state_dict(),
            **self._validation.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a `state_dict`."""
        self.reweighter.load_state_dict(state["reweighter"])
        self.reweighter_optimizer.load_state_dict(state["optimizer"])
        self.num_updates = state["num_updates"]
        if self._ranks is not None:
            self._ranks.load_state_dict(state["ranks"])
        self._validation.load_state_dict(state)


def make_reweighting(context: TrainingContext) -> Reweighting:
    """The reweighter and its training, for a method that learns weights."""
    return Reweighting(
        context.config.reweighting,
        seed=context.config.machine.seed,
        classifier=context.classifier,
        optimizer=context.optimizer,
        validation_feed=context.validation_feed or context.feed,
        reweighter=context.make_reweighter(),
        ranks=HardnessRanks(context.feed.labels, context.hardness)
        if context.reweighter_needs_hardness
        else None,
    )
