"""A second classifier, for methods that train one before the classifier that counts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from torch import Tensor

from molere_cli.engine.classifier import Classifier
from molere_cli.engine.loop import TrainingLoop
from molere_cli.engine.methods import ERM, Method, TrainingContext
from molere_cli.engine.optimizer import build_optimizer


def auxiliary_loop(
    context: TrainingContext, build: Callable[[TrainingContext], Method], **changes: Any
) -> TrainingLoop:
    """A loop that trains a classifier of its own, from where the run's starts, under any method.

    Args:
        build: the method, from a context of that classifier and its optimizer.
        changes: settings other than the run's.
    """
    config, classifier = context.config.updated(**changes), context.make_classifier()
    optimizer = build_optimizer(config, classifier.module)
    own = replace(context, config=config, classifier=classifier, optimizer=optimizer)
    return TrainingLoop(
        config, classifier=classifier, optimizer=optimizer, feed=context.feed, method=build(own)
    )


def erm_epochs(
    context: TrainingContext, trains: Tensor, *, num_epochs: int | None = None
) -> Iterator[Classifier]:
    """Train a classifier by ERM on a part of the pool, with the settings of the run, seed included.

    It starts where the run's classifier starts. On the whole pool it is what a run of ERM would train.

    Args:
        trains: bool (N,) on the CPU, the examples to train on.
        num_epochs: the length of its schedule (default: the run's).

    Yields:
        The classifier, after every epoch.
    """
    changes: dict[str, Any] = {"train_on": "train"} | ({} if num_epochs is None else {"epochs": num_epochs})
    loop = auxiliary_loop(replace(context, in_validation=~trains), ERM, **changes)
    for _ in loop.epochs():
        yield loop.classifier
