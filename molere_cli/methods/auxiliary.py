"""A second classifier, for methods that train one before the classifier that counts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from molere_cli.engine.classifier import Classifier
from molere_cli.engine.loop import TrainingLoop
from molere_cli.engine.method import TrainingContext
from molere_cli.engine.optimizer import build_optimizer
from molere_cli.methods.erm import ERM
from molere_cli.randomness import derived_generator
from molere_cli.stopping import stop_if_asked


class DrawnERM(ERM):
    """ERM on epochs that are drawn by weights, with replacement, each as long as without."""

    def __init__(self, context: TrainingContext, weights_N: Tensor) -> None:
        super().__init__(context)
        self._weights = weights_N[self.positions].double()

    def before_epoch(self, epoch: int) -> Tensor:
        generator = derived_generator(self.context.config.machine.seed, "drawn", epoch)
        drawn = torch.multinomial(self._weights, len(self.positions), replacement=True, generator=generator)
        return self.positions[drawn]


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
    # What does not train is marked as validation, which `--train-on train` leaves out.
    changes = {"train_on": "train"} if num_epochs is None else {"train_on": "train", "epochs": num_epochs}
    config = context.config.updated(**changes)
    own = replace(context, config=config, in_validation=~trains)
    classifier = context.make_classifier()
    loop = TrainingLoop(
        config.classifier,
        seed=config.machine.seed,
        classifier=classifier,
        optimizer=build_optimizer(config.classifier, classifier.module),
        feed=context.feed,
        method=ERM(own) if weights is None else DrawnERM(own, weights),
    )
    for _ in loop.epochs(lambda *_step: stop_if_asked()):
        yield classifier
