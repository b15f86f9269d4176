"""Methods: which examples train, which weight each gets, what is learned after a step.

ERM, LRW and MOLERE; a plugin's method implements the same calls.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from molere_cli.config.run_config import RunConfig
from molere_cli.data.feed import Batch, Feed, epoch_batches
from molere_cli.engine.classifier import Classifier
from molere_cli.engine.step import Step
from molere_cli.engine.validation_batches import ValidationBatches
from molere_cli.foundation.ranks import ALONE, Ranks
from molere_cli.registry.specs import MethodSpec, ReweighterSpec
from molere_cli.splits.split_file import Split


@dataclass(frozen=True, eq=False)
class AuxiliaryFit:
    """What a classifier beside the run's own trains on, by ERM.

    positions: int64, on the CPU; one may occur more than once. weights: positive, (N,) of the pool, how often
    each position is drawn relative to others, with replacement; None: each once an epoch. num_epochs: the
    length of its schedule, None for the run's.
    """

    positions: Tensor
    weights: Tensor | None = None
    num_epochs: int | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class TrainingContext:
    """What a method is built from.

    options: the method's own. feed, labels: the pool (labels int64 (N,) on the CPU). groups: int64 (N,) where
    the dataset has them. clean_labels: int64 (N,), the labels before label noise, None where there is none:
    for analysis, and for an oracle that says it is one, never for a method that competes.
    in_validation: the split, bool (N,) on the CPU, None without one or where validation is another dataset:
    then validation_feed has all of that, and is None otherwise. split: the same as it was made, with its
    scores and what it represents, None without one. reweighter: the one that the configuration names, None
    where the method has none.
    make_classifier: another classifier as this one was before training. make_reweighter, make_splitter: build
    the networks that the configuration names, on the device. note: tells the user, in one sentence, what else
    would pass unseen. fit_ranks: the processes that train classifiers beside the run's own together.
    """

    config: RunConfig
    options: Any
    classifier: Classifier
    optimizer: torch.optim.Optimizer
    feed: Feed
    labels: Tensor
    groups: Tensor | None
    clean_labels: Tensor | None
    num_classes: int
    in_validation: Tensor | None
    reweighter: ReweighterSpec | None
    make_classifier: Callable[[], Classifier]
    make_reweighter: Callable[[], nn.Module]
    make_splitter: Callable[[], nn.Module]
    note: Callable[[str], None]
    validation_feed: Feed | None = None
    split: Split | None = None
    fit_ranks: Ranks = ALONE

    def num_steps(self, positions: Tensor) -> int:
        """An upper bound on the classifier steps of an epoch over `positions`."""
        return -(-len(positions) // self.config.classifier.batch_size)

    def validation_batches(self, *, batch_size: int) -> ValidationBatches:
        """Batches of the validation examples, wherever they are; needs a split."""
        batches = ValidationBatches(
            self.validation_feed or self.feed, batch_size=batch_size, seed=self.config.machine.seed
        )
        batches.set_positions(validation_positions(self))
        return batches


class Method(ABC):
    """A way to weight or choose training examples, on the loop's calls: `weights` alone has no default.

    `batches`, `select` and `loss` are there for the few methods that need more than a choice of positions and
    a weight for each example.

    context: what it was built from. options: its own, of the class that its spec names. positions: int64, on
    the CPU, those that train: the whole pool, or the split's training part.
    """

    weights_read: Literal["nothing", "losses", "features"] = "losses"
    """What of a step is looked at before it is taken: nothing; `Step.logits` and `losses`; or `features` too,
    which are filled for such methods alone. Where a batch comes in chunks, anything but nothing costs another
    forward pass."""

    resumes_within_epoch: bool = False
    """Whether `state_dict` is all that a resume needs after any step, and not between epochs alone. Then the
    epoch goes on by `resume_epoch`; else a run that has stopped within one trains it from its start."""

    batch_parts: Literal["whole", "chunks", "ranks"] = "whole"
    """How a batch may come. `chunks`: one after another, under `--accumulate`, where the method takes no
    gradient of `Step.losses` or `logits`, which have no graph then, but in `loss`, a mean over examples,
    called for each chunk. `ranks`: that, and in parts of several processes; `Step` and `Batch` are then this
    rank's part, `Step.whole` is all."""

    spec: MethodSpec | None = None
    """How it was registered, set by the engine; None for what trains beside a run."""

    options: Any

    def __init__(self, context: TrainingContext) -> None:
        self.context = context
        self.options = context.options
        self.positions = training_positions(context.config, context.labels, context.in_validation)

    def before_epoch(self, epoch: int) -> Tensor:
        """The positions to train on in this epoch, int64, on the CPU, `positions` by default; one may occur
        more than once."""
        return self.positions

    def resume_epoch(self, epoch: int) -> Tensor:
        """In place of `before_epoch` where a state from within this epoch has just been loaded: the same
        positions. Right by default for a `before_epoch` that changes nothing in the method."""
        return self.before_epoch(epoch)

    @abstractmethod
    def weights(self, step: Step) -> Tensor | None:
        """The weights (B,) of a batch, detached; None represents all 1."""

    def follows(self, epoch: int, in_epoch: int) -> bool:
        """Whether `Step.trace` is of use: for a method of which `loss` is the default, and that takes
        gradients of single examples after the step."""
        return False

    def after_step(self, step: Step) -> None:
        """Learn from a step that has just been taken: nothing by default."""
        return

    def batches(self, epoch: int, positions: Tensor, *, batch_size: int, seed: int) -> list[Tensor]:
        """The batches to load for an epoch over `positions`: shuffled and cut by default."""
        num_ranks = self.context.classifier.ranks.size
        return epoch_batches(positions, batch_size, seed=seed, num_ranks=num_ranks)

    def select(self, batch: Batch) -> Batch:
        """The part of a loaded batch to take the classifier's step on: all of it by default."""
        return batch

    def loss(self, step: Step, weights: Tensor | None) -> Tensor:
        """What the classifier's step goes down, 0-dim with its graph: by default the mean of the losses, each
        times its weight."""
        return (step.losses if weights is None else weights * step.losses).mean()

    def metrics(self) -> dict[str, float]:
        """What to log at the epoch's end."""
        return {}

    def in_validation(self) -> Tensor | None:
        """The split in force, bool (N,) on the CPU, None without one: by default the one made beforehand."""
        return self.context.in_validation

    def state_dict(self) -> dict[str, Any]:
        """Tensors, numbers and strings that a resume needs: between epochs, and after any step if
        `resumes_within_epoch`."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a `state_dict`."""
        assert not state


def training_positions(config: RunConfig, labels: Tensor, in_validation: Tensor | None) -> Tensor:
    """The positions that train: the whole pool, or the split's training part."""
    if config.split.train_on == "all" or in_validation is None:
        return torch.arange(len(labels))
    return positions_of(~in_validation)


def validation_positions(context: TrainingContext) -> Tensor:
    """The validation examples, as positions in the feed that has them."""
    if context.validation_feed is not None:
        return torch.arange(len(context.validation_feed))
    assert context.in_validation is not None
    return positions_of(context.in_validation)


def positions_of(mask: Tensor) -> Tensor:
    """Where a bool (N,) is true, int64."""
    return mask.nonzero().squeeze(1)


def stacked(numbers: list[Tensor]) -> Tensor:
    """0-dim tensors of one dtype as one, (n,), for a state; `list` of it gives them back."""
    return torch.stack(numbers) if numbers else torch.empty(0)
