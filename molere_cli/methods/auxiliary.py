"""ERM classifiers beside the one that counts: for methods that train one before, and for splits."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from molere_cli.data.feed import shared_feed
from molere_cli.engine.checkpoint import take_parameters_of_first
from molere_cli.engine.classifier import Classifier
from molere_cli.engine.loop import TrainingLoop
from molere_cli.engine.method import AuxiliaryFit, TrainingContext, positions_of
from molere_cli.engine.optimizer import build_optimizer
from molere_cli.foundation.randomness import derived_generator
from molere_cli.foundation.stopping import stop_if_asked
from molere_cli.methods.erm import ERM


class FittedERM(ERM):
    """ERM on what a fit is of."""

    def __init__(self, context: TrainingContext, fit: AuxiliaryFit) -> None:
        super().__init__(context)
        self.positions = fit.positions
        self._weights = None if fit.weights is None else fit.weights[self.positions].double()

    def before_epoch(self, epoch: int) -> Tensor:
        if self._weights is None:
            return self.positions
        generator = derived_generator(self.context.config.machine.seed, "drawn", epoch)
        drawn = torch.multinomial(self._weights, len(self.positions), replacement=True, generator=generator)
        return self.positions[drawn]


def fit_loop(context: TrainingContext, fit: AuxiliaryFit) -> TrainingLoop:
    """The loop that trains a classifier by ERM with the settings of the run, seed included, from where the
    run's classifier starts: on the whole pool it is what a run of ERM would train."""
    config = context.config if fit.num_epochs is None else context.config.updated(epochs=fit.num_epochs)
    classifier = context.make_classifier()
    classifier.ranks = context.fit_ranks
    take_parameters_of_first(classifier)
    own = replace(context, config=config, classifier=classifier, in_validation=None)
    return TrainingLoop(
        config.classifier,
        seed=config.machine.seed,
        classifier=classifier,
        optimizer=build_optimizer(config.classifier, classifier.module, scales=classifier.head_scales),
        feed=shared_feed(context.feed, context.fit_ranks),
        method=FittedERM(own, fit),
    )


def fit_epochs(context: TrainingContext, fit: AuxiliaryFit) -> Iterator[tuple[Classifier, dict[str, float]]]:
    """Train it; the classifier after every epoch, with the epoch's metrics."""
    loop = fit_loop(context, fit)
    for metrics in loop.epochs(lambda *_step: stop_if_asked()):
        yield loop.classifier, metrics


def erm_epochs(
    context: TrainingContext,
    trains: Tensor,
    *,
    weights: Tensor | None = None,
    num_epochs: int | None = None,
) -> Iterator[Classifier]:
    """Train a classifier by ERM on a part of the pool, with the settings of the run, seed included.

    It starts where the run's classifier starts. On the whole pool it is what a run of ERM would train.

    Args:
        trains: bool (N,) on the CPU, the examples to train on.
        weights: positive, (N,), how often each is drawn, relative to others (default: each once an epoch).
        num_epochs: the length of its schedule (default: the run's).

    Yields:
        The classifier, after every epoch.
    """
    fit = AuxiliaryFit(positions_of(trains), weights=weights, num_epochs=num_epochs)
    for classifier, _metrics in fit_epochs(context, fit):
        yield classifier
