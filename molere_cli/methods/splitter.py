"""The splitter of MOLERE: a network that says which examples belong in validation.

Its output is `val_prob` = P(example goes to validation); equation (1) of docs/concepts/method.md. Losses
after Bao & Barzilay 2022 (arXiv 2204.13749), whose index 1 means *train*: the other way round.

Shapes: N examples of the pool, B of a batch, V of a validation batch, C classes, D features.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from molere_cli.config.sections import SplitterSettings
from molere_cli.data.feed import Feed, batches_in_order, epoch_batches
from molere_cli.engine.classifier import Classifier
from molere_cli.engine.layers import captured_input, classification_layer
from molere_cli.engine.optimizer import build_side_optimizer
from molere_cli.engine.validation_batches import ValidationCycle
from molere_cli.foundation.errors import TrainingError
from molere_cli.foundation.randomness import derived_seed
from molere_cli.foundation.stopping import stop_if_asked
from molere_cli.splits.quota import select_by_quota, validation_size

MIN_BATCH_SIZE, MIN_STEPS = 16, 64


def gap_loss(val_logits_V: Tensor, wrong_V: Tensor) -> Tensor:
    """BCE over the current validation set: right ones go back to train, wrong ones stay.

    Args:
        val_logits_V: the logit of val_prob.
        wrong_V: bool, where the classifier is wrong.
    """
    return F.binary_cross_entropy_with_logits(val_logits_V, wrong_V.to(val_logits_V.dtype))


def ratio_loss(val_logits_B: Tensor, *, delta: float) -> Tensor:
    """KL( [delta, 1 - delta] || [mean p, 1 - mean p] ) in nats, p = sigmoid(logits).

    In logarithms throughout, so that it stays finite and alive when all p round to 0 or to 1.
    """
    log_size = math.log(len(val_logits_B))
    log_val = F.logsigmoid(val_logits_B).logsumexp(0) - log_size
    log_train = F.logsigmoid(-val_logits_B).logsumexp(0) - log_size
    return delta * (math.log(delta) - log_val) + (1 - delta) * (math.log(1 - delta) - log_train)


def balance_loss(
    val_prob_B: Tensor, labels_B: Tensor, class_prob_C: Tensor, *, smoothing: float = 1.0
) -> Tensor:
    """KL( p(y) || p(y|val) ) + KL( p(y) || p(y|train) ) in nats, with soft memberships.

    `smoothing` examples spread as p(y) are added to either side, so that a class that the batch lacks
    keeps the loss finite and its gradient alive.

    Args:
        class_prob_C: p(y) over the whole pool, positive, sums to 1.
    """
    loss = val_prob_B.new_zeros(())
    for membership_B in (val_prob_B, 1 - val_prob_B):
        counts_C = torch.zeros_like(class_prob_C).index_add(0, labels_B, membership_B)
        given_side_C = (counts_C + smoothing * class_prob_C) / (membership_B.sum() + smoothing)
        loss = loss + (class_prob_C * (class_prob_C.log() - given_side_C.log())).sum()
    return loss


def splitter_loss(
    val_logits_V: Tensor,
    stays_V: Tensor,
    pool_logits_B: Tensor,
    labels_B: Tensor,
    class_prob_C: Tensor,
    *,
    delta: float,
) -> Tensor:
    """`gap_loss` over validation, and for a batch of the pool `ratio_loss` and `balance_loss`, added up."""
    return (
        gap_loss(val_logits_V, stays_V)
        + ratio_loss(pool_logits_B, delta=delta)
        + balance_loss(pool_logits_B.sigmoid(), labels_B, class_prob_C)
    )


def val_loss_term(val_logits_B: Tensor, losses_B: Tensor) -> Tensor:
    """sum p_i l_i / sum p_i: the classifier's loss on the soft validation set; the splitter maximises it."""
    shares_B = F.logsigmoid(val_logits_B).softmax(0)
    return (shares_B * losses_B).sum()


class FeaturesSplitter(nn.Module):
    """An MLP on the classifier's penultimate features joined with the one-hot label."""

    def __init__(self, feature_dim: int, num_classes: int, *, hidden: int = 256) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.norm = nn.LayerNorm(feature_dim)
        self.layers = nn.Sequential(
            nn.Linear(feature_dim + num_classes, hidden),
            nn.ReLU(),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
            nn.Linear(hidden, 1),
        )

    def forward(self, features_BD: Tensor, labels_B: Tensor) -> Tensor:
        """The logit of val_prob, (B,)."""
        # Scaled to the norm of the normalised features: a lone 1 among hundreds of numbers of order 1
        # would take a new network too long to notice.
        scale = math.sqrt(features_BD.shape[1])
        one_hot_BC = scale * F.one_hot(labels_B, self.num_classes).to(features_BD.dtype)
        logits: Tensor = self.layers(torch.cat([self.norm(features_BD), one_hot_BC], dim=1))
        return logits.squeeze(1)


class ImageSplitter(nn.Module):
    """A backbone of its own, the one-hot label joined to its penultimate features (as in the paper)."""

    def __init__(self, backbone: nn.Module, feature_dim: int, num_classes: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.num_classes = num_classes
        self.head = nn.Linear(feature_dim + num_classes, 1)

    def forward(self, images: Tensor, labels_B: Tensor) -> Tensor:
        """The logit of val_prob, (B,)."""
        with captured_input(classification_layer(self.backbone)) as captured:
            self.backbone(images)
        features_BD = captured[-1].flatten(1)
        one_hot_BC = F.one_hot(labels_B, self.num_classes).to(features_BD.dtype)
        logits: Tensor = self.head(torch.cat([features_BD, one_hot_BC], dim=1))
        return logits.squeeze(1)


@dataclass(frozen=True, eq=False)
class PoolView:
    """What the classifier makes of the pool: features (N, D), losses (N,), wrong: bool (N,)."""

    features: Tensor
    losses: Tensor
    wrong: Tensor


def view_pool(classifier: Classifier, feed: Feed) -> PoolView:
    """One pass over the pool in eval mode, each rank over its part; holds N (D + 2) numbers."""
    features, losses, wrong = [], [], []
    ranks, num_pool = classifier.ranks, len(feed)
    for batch in feed.evaluation(batches_in_order(feed, ranks.part(num_pool))):
        stop_if_asked()
        output = classifier.predict(batch.images, with_features=True)
        assert output.features is not None
        features.append(output.features.float())
        losses.append(F.cross_entropy(output.logits, batch.labels, reduction="none"))
        wrong.append(output.logits.argmax(dim=1) != batch.labels)
    # Concatenated outside inference mode, they are ordinary tensors that a splitter can learn from.
    return PoolView(*(ranks.gathered(torch.cat(parts), num_pool) for parts in (features, losses, wrong)))


def membership(val_logits_N: Tensor, labels_N: Tensor, *, rule: str, delta: float) -> Tensor:
    """Which examples are validation, bool (N,), from the logits of their val_prob.

    `quota`: the hardest delta of each class. `threshold`: val_prob > 0.5, capped at delta by the highest
    val_prob.

    Raises:
        TrainingError: nothing is above the threshold.
    """
    # By logits, because probabilities near 1 round to the same float32 from a logit of 17 on, and among
    # equals the first would win, whatever the splitter thinks.
    if rule == "quota":
        return select_by_quota(labels_N, val_logits_N, delta=delta)
    above_N = val_logits_N > 0
    if not above_N.any():
        highest = float(val_logits_N.max().sigmoid())
        raise TrainingError(
            f"the splitter puts no example above 0.5 (the highest is {highest:.3f}), so the "
            "validation set is empty; use --membership quota"
        )
    cap = validation_size(len(val_logits_N), delta=delta)
    highest_N = val_logits_N.argsort(descending=True, stable=True)[:cap]
    capped_N = torch.zeros_like(above_N)
    capped_N[highest_N] = True
    return above_N & capped_N


class SplitterTraining:
    """Trains the splitter, one pass over the pool an update, and draws the new validation set.

    It seeks the hard examples, as in the paper, or the learnable ones: then what the classifier gets right
    stays in validation, and the classifier's loss there is minimised.

    Its batch size is the classifier's, or less in a small pool, so that a pass is long enough to learn from.
    """

    def __init__(
        self,
        settings: SplitterSettings,
        *,
        delta: float,
        seeks: Literal["hard", "learnable"] = "hard",
        batch_size: int,
        seed: int,
        classifier: Classifier,
        feed: Feed,
        splitter: nn.Module,
        num_classes: int,
    ) -> None:
        self.settings = settings
        self.delta = delta
        self._seeks_hard = seeks == "hard"
        self.batch_size = max(MIN_BATCH_SIZE, min(batch_size, len(feed) // MIN_STEPS))
        self.seed = seed
        self.classifier = classifier
        self.feed = feed
        self.splitter = splitter.to(classifier.device)
        self.splitter_optimizer = build_side_optimizer(
            settings.splitter_optimizer,
            splitter.parameters(),
            lr=settings.splitter_lr,
            momentum=settings.splitter_momentum,
        )
        # A class that a sub-sample has emptied keeps a share above 0, since its logarithm is taken.
        counts_C = feed.labels.bincount(minlength=num_classes).float().clamp_min(1e-6)
        self.class_prob_C = counts_C / counts_C.sum()

    def update(self, in_validation_N: Tensor, *, epoch: int) -> tuple[Tensor, dict[str, float]]:
        """One splitter update, and the validation set that follows from it.

        Args:
            in_validation_N: the current validation set, bool, on the CPU.

        Returns:
            The new one, and metrics: mean loss, how many sit above 0.5, the share of the old set kept.
        """
        # Looked at once: the classifier does not move while the splitter learns.
        view = view_pool(self.classifier, self.feed)
        losses = self._train(view, in_validation_N, epoch)
        val_logits_N = self._val_logits(view).cpu()
        new_N = membership(
            val_logits_N, self.feed.labels.cpu(), rule=self.settings.membership, delta=self.delta
        )
        # Ranks may be machines of several kinds.
        new_N = self.classifier.ranks.from_first_(new_N.to(torch.uint8)).bool()
        return new_N, {
            "split/loss": float(torch.stack(losses).mean()),
            "split/above_half": float((val_logits_N > 0).sum()),
            "split/overlap": float((new_N & in_validation_N).sum() / in_validation_N.sum()),
        }

    def _train(self, view: PoolView, in_validation_N: Tensor, epoch: int) -> list[Tensor]:
        """A pass over the pool; each batch is joined by one of the current validation set."""
        seed = derived_seed(self.seed, "splitter", epoch)
        pool = epoch_batches(torch.arange(len(self.feed)), self.batch_size, seed=seed)
        val = ValidationCycle(in_validation_N.nonzero().squeeze(1), self.batch_size, seed)
        # Joined, so that both halves take one forward pass; the gap loss is over the validation set alone.
        joint = [torch.cat([positions_B, val.draw()]) for positions_B in pool]
        self.splitter.train()
        return [
            self._splitter_step(view, inputs, positions, num_pool=len(pool_B))
            for pool_B, (inputs, positions) in zip(pool, self._inputs(view, joint), strict=True)
        ]

    def _splitter_step(self, view: PoolView, inputs: Tensor, positions: Tensor, *, num_pool: int) -> Tensor:
        """One step; the first `num_pool` of the joint batch are from the pool, the rest validation."""
        logits = self.splitter(inputs, self.feed.labels[positions])
        pool_B, val_V = positions[:num_pool], positions[num_pool:]
        pool_logits_B = logits[:num_pool]
        stays_V = view.wrong[val_V] if self._seeks_hard else ~view.wrong[val_V]
        val_loss_factor = self.settings.val_loss_factor * (1 if self._seeks_hard else -1)
        # (1): wrong ones stay, right ones go back; delta of all; every class in proportion; and the higher
        # the classifier's loss, the more it belongs in validation.
        split_loss = splitter_loss(
            logits[num_pool:],
            stays_V,
            pool_logits_B,
            self.feed.labels[pool_B],
            self.class_prob_C,
            delta=self.delta,
        )
        loss = split_loss - val_loss_factor * val_loss_term(pool_logits_B, view.losses[pool_B])
        self.splitter_optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.splitter_optimizer.step()
        stop_if_asked()
        return loss.detach()

    @torch.no_grad()
    def _val_logits(self, view: PoolView) -> Tensor:
        self.splitter.eval()
        logits = [
            self.splitter(inputs, self.feed.labels[positions])
            for inputs, positions in self._inputs(view, batches_in_order(self.feed))
        ]
        return torch.cat(logits)

    def _inputs(self, view: PoolView, batches: list[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        """What the splitter sees of each batch, with the batch's positions on the device."""
        if self.settings.splitter == "features":
            for positions_B in batches:
                on_device_B = positions_B.to(view.features.device)
                yield view.features[on_device_B], on_device_B
        else:
            for batch in self.feed.evaluation(batches):
                yield batch.images, batch.positions

    def state_dict(self) -> dict[str, Any]:
        """What a resume needs, but within an update."""
        return {"splitter": self.splitter.state_dict(), "optimizer": self.splitter_optimizer.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a `state_dict`."""
        self.splitter.load_state_dict(state["splitter"])
        self.splitter_optimizer.load_state_dict(state["optimizer"])
