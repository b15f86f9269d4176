"""Fast sample reweighting (Zhang and Pfister, ICCV 2021, arXiv 2109.03216), without a clean set.

Its mixup and pseudo-labels are not here: they change what is trained on, not its weights.

Shapes: N examples of the pool, B of a training batch, P of a probe batch, C classes, D features.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from molere_baselines.meta_batch import stacked
from molere_cli import (
    Batch,
    ConfigError,
    Method,
    Options,
    Step,
    TrainingContext,
    derived_generator,
    derived_seed,
)


class FsrOptions(Options):
    """Options of `fsr`."""

    capacity: int | None = Field(
        None,
        ge=1,
        description="Examples in the dictionary (default: a tenth of those that train, 2000 at most).",
    )
    probe_batch_size: int = Field(
        200, ge=1, le=2**20, description="Examples of the dictionary that a step looks at."
    )
    score_momentum: float = Field(0.9, ge=0, lt=1, description="Momentum of the scores' moving average.")
    lookahead_lr: float = Field(0.1, gt=0, description="Learning rate of the virtual step.")
    warmup_epochs: int | None = Field(
        None, ge=0, description="Epochs with equal weights (default: a sixth of all)."
    )
    weights: Literal["clip", "shift"] = Field(
        "clip", description="Cut negative weights off (label noise), or shift them all up (class skew)."
    )


class Head(NamedTuple):
    """The last layer, or something of its shape: weight (C, D) and bias (C,)."""

    weight: Tensor
    bias: Tensor

    def logits(self, features: Tensor) -> Tensor:
        """(B, C) of features (B, D)."""
        return F.linear(features, self.weight, self.bias)


def head_gradient(features_BD: Tensor, errors_BC: Tensor) -> Head:
    """The gradient of the mean cross-entropy by the last layer, given p - y."""
    return Head(errors_BC.T @ features_BD / len(features_BD), errors_BC.mean(dim=0))


def head_alignment(features_BD: Tensor, errors_BC: Tensor, direction: Head) -> Tensor:
    """The inner product of each example's last-layer gradient with a direction, (B,)."""
    return (errors_BC * direction.logits(features_BD)).sum(dim=1)


def weights_of_descent(descent_B: Tensor, *, kind: str) -> Tensor:
    """Weights of sum B (nearly: 1e-5 in the denominator, as published) from minus the derivative of the probe
    loss by each weight.

    `clip`: the positive part. `shift`: moved up so that the least is 1/B.
    """
    num_examples = len(descent_B)
    raw_B = descent_B.clamp_min(0) if kind == "clip" else descent_B - descent_B.min() + 1 / num_examples
    return raw_B * num_examples / (raw_B.sum() + 1e-5)


def best_of_each_class(scores_N: Tensor, labels_N: Tensor, eligible_N: Tensor, *, num_each: int) -> Tensor:
    """The positions of the `num_each` lowest scores of every class (all, if there are fewer), int64."""
    chosen = []
    for label in labels_N[eligible_N].unique():
        members = (eligible_N & (labels_N == label)).nonzero().squeeze(1)
        chosen.append(members[scores_N[members].argsort(stable=True)[:num_each]])
    return torch.cat(chosen)


def balanced_draw(by_class: list[Tensor], *, num_each: int, generator: torch.Generator) -> Tensor:
    """`num_each` positions of every class, without replacement where there are enough of them."""
    drawn = []
    for members in by_class:
        if len(members) >= num_each:
            chosen = torch.randperm(len(members), generator=generator)[:num_each]
        else:
            chosen = torch.randint(len(members), (num_each,), generator=generator)
        drawn.append(members[chosen])
    return torch.cat(drawn)


class FastSampleReweighting(Method):
    """Learning to reweight against a dictionary of the pool's own examples, through the last layer alone.

    The dictionary holds, class by class, those whose loss falls most with the virtual step.
    """

    weights_read = "features"
    resumes_within_epoch = True

    options: FsrOptions

    def __init__(self, context: TrainingContext) -> None:
        super().__init__(context)
        options = self.options
        self._head = last_linear(context)
        self._warmup_epochs = (
            round(context.config.classifier.epochs / 6)
            if options.warmup_epochs is None
            else options.warmup_epochs
        )
        num_classes, num_training = context.num_classes, len(self.positions)
        capacity = options.capacity or max(num_classes, min(2000, num_training // 10))
        for name, size in {"capacity": capacity, "probe_batch_size": options.probe_batch_size}.items():
            if size < num_classes:
                raise ConfigError(
                    f"fsr's {name} {size} has no room for one example of each of {num_classes} classes; "
                    f"raise --method-option {name}"
                )
        self._num_each_kept = capacity // num_classes
        self._num_each_probed = options.probe_batch_size // num_classes
        self._scores_N = torch.zeros(len(context.labels))
        self._scored_N = torch.zeros(len(context.labels), dtype=torch.bool)
        self._kept = torch.empty(0, dtype=torch.int64)
        self._probes: Iterator[Batch] = iter(())
        self._probe_losses: list[Tensor] = []

    def before_epoch(self, epoch: int) -> Tensor:
        self._kept = self._dictionary(epoch)
        self._probe_losses = []
        return self.resume_epoch(epoch)

    def resume_epoch(self, epoch: int) -> Tensor:
        seed = self.context.config.machine.seed
        generator = derived_generator(seed, "fsr", epoch)
        labels = self.context.labels[self._kept]
        by_class = [self._kept[labels == label] for label in labels.unique()]
        probes = [
            balanced_draw(by_class, num_each=self._num_each_probed, generator=generator)
            for _ in range(self.context.num_steps(self.positions))
        ]
        self._probes = self.context.feed.training(
            probes, seed=derived_seed(seed, "fsr probe", epoch), start=len(self._probe_losses)
        )
        return self.positions

    def _dictionary(self, epoch: int) -> Tensor:
        if epoch > 0:
            return best_of_each_class(
                self._scores_N, self.context.labels, self._scored_N, num_each=self._num_each_kept
            )
        generator = derived_generator(self.context.config.machine.seed, "fsr dictionary")
        trains_N = torch.zeros(len(self._scores_N), dtype=torch.bool)
        trains_N[self.positions] = True
        random_N = torch.rand(len(self._scores_N), generator=generator)
        return best_of_each_class(random_N, self.context.labels, trains_N, num_each=self._num_each_kept)

    @torch.no_grad()
    def weights(self, step: Step) -> Tensor | None:
        assert step.features is not None
        errors_BC = logit_errors(step.logits, step.batch.labels)
        ahead = self._ahead(head_gradient(step.features, errors_BC))
        probe = next(self._probes)
        features_PD = self.context.classifier.meta_forward(probe.images, with_features=True).features
        assert features_PD is not None
        logits_PC = ahead.logits(features_PD)
        self._probe_losses.append(F.cross_entropy(logits_PC, probe.labels))
        direction = head_gradient(features_PD, logit_errors(logits_PC, probe.labels))
        descent_B = self.options.lookahead_lr * head_alignment(step.features, errors_BC, direction)
        self._score(step, ahead)
        if step.epoch < self._warmup_epochs:
            return None
        return weights_of_descent(descent_B, kind=self.options.weights)

    def _ahead(self, gradient: Head) -> Head:
        """The last layer after a step along the gradient and the optimizer's momentum, if it has any."""
        lr, optimizer = self.options.lookahead_lr, self.context.optimizer
        moved = []
        for parameter, gradient_of in zip((self._head.weight, self._head.bias), gradient, strict=True):
            if parameter is None:
                moved.append(torch.zeros_like(gradient_of))
                continue
            velocity = optimizer.state.get(parameter, {}).get("momentum_buffer")
            update = (
                gradient_of
                if velocity is None
                else gradient_of + self.context.config.classifier.momentum * velocity
            )
            moved.append(parameter.detach() - lr * update)
        return Head(*moved)

    def _score(self, step: Step, ahead: Head) -> None:
        assert step.features is not None
        momentum = self.options.score_momentum
        losses_B = F.cross_entropy(ahead.logits(step.features), step.batch.labels, reduction="none")
        change_B = (losses_B - step.losses).float().cpu()
        positions_B = step.batch.positions.cpu()
        self._scores_N[positions_B] = momentum * self._scores_N[positions_B] + (1 - momentum) * change_B
        self._scored_N[positions_B] = True

    def metrics(self) -> dict[str, float]:
        """Mean `probe/loss` behind the virtual steps of this epoch."""
        return {"probe/loss": float(torch.stack(self._probe_losses).mean())}

    def state_dict(self) -> dict[str, Any]:
        return {
            "scores": self._scores_N,
            "scored": self._scored_N,
            "kept": self._kept,
            "probe_losses": stacked(self._probe_losses),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._scores_N = state["scores"].cpu()
        self._scored_N = state["scored"].cpu()
        # Versions that wrote checkpoints between epochs alone had no need of these.
        self._kept = state.get("kept", self._kept).cpu()
        self._probe_losses = list(state.get("probe_losses", stacked([])).to(self.context.classifier.device))


def logit_errors(logits_BC: Tensor, labels_B: Tensor) -> Tensor:
    """p - y, the gradient of each cross-entropy by its logits, (B, C)."""
    return logits_BC.softmax(dim=1) - F.one_hot(labels_B, logits_BC.shape[1]).to(logits_BC.dtype)


def last_linear(context: TrainingContext) -> nn.Linear:
    """The backbone's last layer, which must be linear and must give the logits themselves.

    Raises:
        ConfigError: it is not, or does not.
    """
    classifier = context.classifier
    layer = classifier.head
    if isinstance(layer, nn.Linear):
        images = classifier.blank(context.feed.settings.image_size)
        output = classifier.predict(images.to(layer.weight.dtype), with_features=True)
        assert output.features is not None
        with torch.no_grad():
            logits = F.linear(output.features, layer.weight, layer.bias)
        if torch.allclose(logits, output.logits, rtol=0.02, atol=0.02):
            return layer
    raise ConfigError(
        "fsr needs a backbone whose logits come out of a last nn.Linear; "
        f"{context.config.classifier.backbone} has none"
    )
