"""Learning to Split (Bao and Barzilay 2022, arXiv 2204.13749): a split that a predictor fails to cross.

Its index 1 means *train*; here `val_prob` is the probability of validation, as elsewhere in MOLERE.
Shapes: N examples of the pool, B of a batch, V of a validation batch, C classes.
"""

from __future__ import annotations

from statistics import fmean

import torch
from torch import Tensor

from molere_cli import (
    SplitRequest,
    TrainingContext,
    ValidationBatches,
    derived_seed,
    epoch_batches,
    erm_epochs,
    isolated_randomness,
    predict_batches,
    predict_feed,
    select_by_quota,
    splitter_loss,
    stratified_holdout,
)

# The public code's numbers.
MAX_ROUNDS, PATIENCE = 100, 5
HELD_OUT = 1 / 3
LEARNING_RATE = 1e-3
MAX_EPOCHS, WINDOW, TOLERANCE = 100, 5, 1e-3


def choose_by_learning(request: SplitRequest) -> Tensor:
    """The split of the widest generalisation gap that splitter and predictor come upon: bool (N,).

    Raises:
        SplitError: delta is too small.
        DataError: a class is too small to train on and to hold out from.
    """
    context: TrainingContext = request.training
    splitter = Splitter(context, delta=request.delta)
    priority_N = torch.rand(len(request.labels), generator=request.generator, dtype=torch.float64)
    in_validation_N = select_by_quota(request.labels, priority_N, delta=request.delta)
    widest, best_N, num_idle = -torch.inf, in_validation_N, 0
    for number in range(MAX_ROUNDS):
        wrong_N, gap = generalisation_gap(context, in_validation_N, seed=number)
        request.note(f"learning to split, round {number}: a generalisation gap of {100 * gap:.1f} points")
        if gap > widest:
            widest, best_N, num_idle = gap, in_validation_N, 0
        else:
            num_idle += 1
        if num_idle == PATIENCE:
            break
        splitter.train(in_validation_N, wrong_N, seed=derived_seed(context.config.machine.seed, "ls", number))
        in_validation_N = splitter.draw(request.generator)
    return best_N


def generalisation_gap(
    context: TrainingContext, in_validation_N: Tensor, *, seed: int
) -> tuple[Tensor, float]:
    """Train a predictor on two thirds of the training part, from scratch.

    Returns:
        Where it is wrong, bool (N,) on the CPU, and its accuracy on the last third less that on validation.
    """
    train_positions = (~in_validation_N).nonzero().squeeze(1)
    kept, held = stratified_holdout(context.labels[train_positions], HELD_OUT, seed=seed)
    trains_N = torch.zeros_like(in_validation_N)
    trains_N[train_positions[kept]] = True
    *_, predictor = erm_epochs(context, trains_N)
    wrong_N = predict_feed(predictor, context.feed).predicted != context.labels
    gap = wrong_N[in_validation_N].double().mean() - wrong_N[train_positions[held]].double().mean()
    return wrong_N, float(gap)


class Splitter:
    """A network like the classifier: its logit for an example's own label is the logit of val_prob.

    The public code joins the one-hot label to the input of the last layer, where it can do no more than add a
    number to the logit of all examples of a class. A logit for each label sees whether image and label fit.
    """

    def __init__(self, context: TrainingContext, *, delta: float) -> None:
        self._context = context
        self._delta = delta
        self._network = context.make_classifier()
        self._optimizer = torch.optim.Adam(self._network.parameters.values(), lr=LEARNING_RATE)
        counts_C = context.feed.labels.bincount(minlength=context.num_classes).float().clamp_min(1e-6)
        self._class_prob_C = counts_C / counts_C.sum()

    def train(self, in_validation_N: Tensor, wrong_N: Tensor, *, seed: int) -> None:
        """Pass over the pool until the mean loss falls no more; validation joins every batch."""
        config = self._context.config
        validation = ValidationBatches(self._context.feed, batch_size=config.classifier.batch_size, seed=seed)
        validation.set_positions(in_validation_N.nonzero().squeeze(1))
        wrong_N = wrong_N.to(self._network.device)
        self._network.module.train()
        losses: list[float] = []
        with isolated_randomness(self._network.device):
            torch.manual_seed(seed)
            while len(losses) < MAX_EPOCHS and not has_converged(losses):
                losses.append(self._epoch(validation, wrong_N, number=len(losses), seed=seed))

    def _epoch(self, validation: ValidationBatches, wrong_N: Tensor, *, number: int, seed: int) -> float:
        feed, seed = self._context.feed, derived_seed(seed, number)
        batches = epoch_batches(
            torch.arange(len(feed)), self._context.config.classifier.batch_size, seed=seed
        )
        validation.start_epoch(number, num_batches=len(batches))
        losses = []
        for batch in feed.training(batches, seed=seed):
            of_validation = validation.next()
            logits = self._logits(
                torch.cat([batch.images, of_validation.images]),
                torch.cat([batch.labels, of_validation.labels]),
            )
            logits_B, logits_V = logits.split([len(batch.labels), len(of_validation.labels)])
            wrong_V = wrong_N[of_validation.positions]
            loss = splitter_loss(
                logits_V, wrong_V, logits_B, batch.labels, self._class_prob_C, delta=self._delta
            )
            self._optimizer.zero_grad(set_to_none=True)
            loss.backward()
            self._optimizer.step()
            losses.append(loss.detach())
        return float(torch.stack(losses).mean())

    def _logits(self, images: Tensor, labels: Tensor) -> Tensor:
        logits_BC = self._network.forward(images).logits
        return logits_BC.gather(1, labels[:, None]).squeeze(1)

    def draw(self, generator: torch.Generator) -> Tensor:
        """A validation set drawn by val_prob and kept to delta of every class: bool (N,) on the CPU.

        With logistic noise on its logit, an example is above 0 with probability val_prob.
        """
        labels_N = self._context.labels
        logits_N = torch.cat(
            [
                logits_BC.gather(1, labels_B[:, None]).squeeze(1)
                for logits_BC, labels_B in predict_batches(self._network, self._context.feed)
            ]
        )
        uniform_N = torch.rand(len(labels_N), generator=generator, dtype=torch.float64)
        noisy_N = logits_N.double() + uniform_N.logit(eps=1e-12)
        return select_by_quota(labels_N, noisy_N, delta=self._delta)


def has_converged(losses: list[float]) -> bool:
    """Whether the last loss is not clearly below the mean of those before it."""
    return len(losses) > WINDOW and losses[-1] > fmean(losses[-1 - WINDOW : -1]) - TOLERANCE
