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
from molere_cli.engine.method import Method, TrainingContext, stacked
from molere_cli.engine.optimizer import build_side_optimizer
from molere_cli.engine.response import check_response_known, optimizer_response
from molere_cli.engine.step import Step
from molere_cli.engine.validation_batches import ValidationBatches
from molere_cli.methods.pool_hardness import PoolHardness
from molere_cli.methods.weight_limits import (
    NO_LIMITS,
    WeightLimits,
    weight_limits,
    weights_from_log,
    with_spread,
)
from molere_cli.registry.specs import ReweighterInput


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
    """Learns the weights: every Q classifier steps after warm-up, one hypergradient and one step.

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
        hardness: PoolHardness | None = None,
        limits: WeightLimits = NO_LIMITS,
    ) -> None:
        """hardness: of the pool's examples, for a reweighter that asks."""
        assert settings.warmup_epochs is not None and settings.reweighter_lr is not None
        assert settings.meta_batch_size is not None
        # Now, rather than at the first meta-update, which comes after warm-up.
        check_response_known(optimizer)
        self.settings = settings
        self.warmup_epochs = settings.warmup_epochs
        self.classifier = classifier
        self.ranks = classifier.ranks
        self.optimizer = optimizer
        self.reweighter = reweighter
        # Adam by default, because a log-weight gets a gradient only when its example is met. Decay pulls
        # log-weights to 0, that is weights to 1.
        self.reweighter_optimizer = build_side_optimizer(
            settings.reweighter_optimizer,
            reweighter.parameters(),
            lr=settings.reweighter_lr,
            momentum=settings.reweighter_momentum,
            weight_decay=settings.reweighter_weight_decay,
        )
        self.num_updates = 0
        self.limits = limits
        self._hardness = hardness
        self._validation = ValidationBatches(validation_feed, batch_size=settings.meta_batch_size, seed=seed)
        self._pending: _Pending | None = None
        self._val_losses: list[Tensor] = []

    def set_validation(self, positions: Tensor, *, tag: int) -> None:
        """Draw validation batches from these positions from now on."""
        self._validation.set_positions(positions, tag=tag)

    def start_epoch(self, epoch: int, *, num_steps: int) -> None:
        """Line up the validation batches of an epoch of at most `num_steps` classifier steps."""
        self._val_losses = []
        if self._hardness is not None:
            self._hardness.start_epoch()
        if self._is_learning(epoch):
            # Lined up at once, so that a stream can decode them while the classifier trains.
            self._validation.start_epoch(epoch, num_batches=self._num_due(num_steps))

    def resume_epoch(self, epoch: int, *, num_steps: int) -> None:
        """Line up the rest of an epoch, after a `state_dict` from within it has been loaded."""
        if self._is_learning(epoch):
            self._validation.resume_epoch(epoch, num_batches=self._num_due(num_steps))

    def _num_due(self, num_steps: int) -> int:
        return math.ceil(num_steps / self.settings.reweighter_interval)

    def _is_learning(self, epoch: int) -> bool:
        return epoch >= self.warmup_epochs and not self.limits.leave_nothing

    def follows(self, epoch: int, in_epoch: int) -> bool:
        """Whether what the layers see in this step is of use (`Method.follows`)."""
        return self.settings.hypergradient == "auto" and self._is_due(epoch, in_epoch)

    def _is_due(self, epoch: int, in_epoch: int) -> bool:
        """Whether a meta-update comes after this step."""
        return self._is_learning(epoch) and in_epoch % self.settings.reweighter_interval == 0

    def weights(self, step: Step) -> Tensor | None:
        """The weights (B,) of a batch, or of this rank's part, detached; None (all 1) during warm-up,
        and where limits leave nothing to learn."""
        if not self._is_learning(step.epoch):
            return None
        hardness = self._hardness
        due = self._is_due(step.epoch, step.in_epoch)
        # A graph only where a hypergradient will come back through it.
        with torch.set_grad_enabled(due), self.classifier.shared_statistics():
            own_log_weights = self.reweighter(
                ReweighterInput(
                    positions=step.batch.positions,
                    images=step.batch.images if self.classifier.feature_dim is None else None,
                    labels=step.batch.labels,
                    features=step.features,
                    losses=step.losses.detach(),
                    hardness_rank=None if hardness is None else hardness.ranks(step.batch.positions),
                    hardness_margin=None if hardness is None else hardness.margins(step.batch.positions),
                )
            )
            # Weights are relative to those of the whole batch.
            number = step.batch.num_whole
            log_weights_B = self.ranks.gathered_around(own_log_weights, number)
            if self.settings.weight_spread is not None:
                log_weights_B = with_spread(log_weights_B, self.settings.weight_spread)
            weights_B = self.limits.apply(
                weights_from_log(
                    log_weights_B,
                    normalization=self.settings.weight_normalization,
                    bound=self.settings.weight_bound,
                )
            )
        if due:
            # The optimizer works in place, and (4) is taken at theta from before its step.
            before = {n: p.detach().clone() for n, p in self.classifier.parameters.items()}
            self._pending = _Pending(weights_B, before)
        return weights_B.detach()[self.ranks.part(number)]

    def after_step(self, step: Step) -> None:
        """If a meta-update is due: the hypergradient through the step just taken, and a reweighter step."""
        if self._hardness is not None:
            self._hardness.add(step.whole)
        if self._pending is None:
            return
        # Taken out first: a step without a meta-update in between must not find the weights of an older one.
        pending, self._pending = self._pending, None
        number = step.batch.num_whole
        hypergradient_B = self.ranks.gathered(self._hypergradient(step, pending), number)
        scaled_B = scale_hypergradient(hypergradient_B, self.settings.hypergradient_scale)
        self.reweighter_optimizer.zero_grad(set_to_none=True)
        # (5): d L_val / d w, through the weights (2), into phi. The vector-Jacobian product runs through the
        # graph that `weights` has kept: the reweighter is evaluated once, on the inputs that the step had.
        pending.weights.backward(scaled_B.to(pending.weights.dtype))
        self.ranks.sum_(self.ranks.gradients_of(self.reweighter.parameters()))
        self.reweighter_optimizer.step()
        self.num_updates += 1

    def _hypergradient(self, step: Step, pending: _Pending) -> Tensor:
        """Of the weights of this rank's part of the batch."""
        part, share = self.ranks.part(step.batch.num_whole), self.ranks.share(step.batch.num_whole)
        before = pending.before
        # v = grad L_val at theta', where the step has led: the classifier's parameters are there and stay.
        val = self._validation.next()
        val_loss, gradient = self.classifier.validation_gradient(
            val.images, val.labels, num_whole=val.num_whole
        )
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
        if step.trace is not None:
            weights_B = pending.weights.detach()[part]
            followed_B = self.classifier.followed_alignment(step.trace, named_response, like=weights_B)
            # No log-weight moves a weight that has underflowed to 0, whatever this says of it.
            return (followed_B / weights_B).masked_fill(weights_B == 0, 0.0).neg()
        losses = self.classifier.step_losses(
            step.batch.images, step.batch.labels, step.randomness, num_whole=step.batch.num_whole
        )
        return hypergradient(losses, before, named_response) * share

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
        """What a resume needs, between epochs and within one."""
        return {
            "reweighter": self.reweighter.state_dict(),
            "optimizer": self.reweighter_optimizer.state_dict(),
            "num_updates": self.num_updates,
            "hardness": {} if self._hardness is None else self._hardness.state_dict(),
            "val_losses": stacked(self._val_losses),
            **self._validation.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a `state_dict`."""
        self.reweighter.load_state_dict(state["reweighter"])
        self.reweighter_optimizer.load_state_dict(state["optimizer"])
        self.num_updates = state["num_updates"]
        if self._hardness is not None:
            self._hardness.load_state_dict(state["hardness"])
        self._val_losses = list(state.get("val_losses", stacked([])).to(self.classifier.device))
        self._validation.load_state_dict(state)


def make_reweighting(context: TrainingContext) -> Reweighting:
    """The reweighter and its training, for a method that learns weights."""
    assert context.reweighter is not None
    hardness = None
    if context.reweighter.needs_hardness:
        split = context.split
        hardness = PoolHardness(
            context.feed.labels,
            None if split is None else split.hardness,
            is_margin=split is None or split.hardness_is_margin,
        )
    return Reweighting(
        context.config.reweighting,
        seed=context.config.machine.seed,
        classifier=context.classifier,
        optimizer=context.optimizer,
        validation_feed=context.validation_feed or context.feed,
        reweighter=context.make_reweighter(),
        hardness=hardness,
        limits=weight_limits(context),
    )


class ReweightedMethod(Method):
    """Learned weights; a subclass says which examples are validation, and what trains."""

    resumes_within_epoch = True
    batch_parts = "ranks"

    def __init__(self, context: TrainingContext) -> None:
        super().__init__(context)
        self._reweighting = make_reweighting(context)
        assert context.reweighter is not None
        if context.reweighter.needs_features:
            self.weights_read = "features"
        else:
            self.weights_read = "losses" if context.reweighter.needs_losses else "nothing"

    def weights(self, step: Step) -> Tensor | None:
        return self._reweighting.weights(step)

    def follows(self, epoch: int, in_epoch: int) -> bool:
        return self._reweighting.follows(epoch, in_epoch)

    def after_step(self, step: Step) -> None:
        self._reweighting.after_step(step)
