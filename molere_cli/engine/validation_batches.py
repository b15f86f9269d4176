"""Which validation examples the next meta-update sees."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from molere_cli.data.feed import Batch, Feed
from molere_cli.foundation.randomness import derived_generator, derived_seed


@dataclass
class ValidationCycle:
    """Validation batches drawn without replacement, round after round.

    Round r is a permutation derived from (seed, tag, r), so two integers are all of its state.
    """

    positions: Tensor
    batch_size: int
    seed: int
    tag: int = 0
    round: int = 0
    cursor: int = 0
    _order: Tensor | None = field(default=None, init=False)
    """This round's permutation, once it has been asked for."""

    def draw(self) -> Tensor:
        """The next min(batch_size, V) positions of V; a batch may reach into the next round."""
        # Never an example twice in one batch: its gradient would count twice.
        num_wanted = min(self.batch_size, len(self.positions))
        taken = self._rest_of_round()[:num_wanted]
        self.cursor += len(taken)
        if self.cursor == len(self.positions):
            self.round, self.cursor, self._order = self.round + 1, 0, None
        if missing := num_wanted - len(taken):
            taken = torch.cat([taken, self._rest_of_round()[:missing]])
            self.cursor = missing
        return taken

    def place(self) -> dict[str, int]:
        """Where it stands, for `at`."""
        return {"round": self.round, "cursor": self.cursor}

    def at(self, place: Mapping[str, int]) -> ValidationCycle:
        """The same cycle at another place."""
        return ValidationCycle(
            self.positions,
            self.batch_size,
            self.seed,
            self.tag,
            round=place["round"],
            cursor=place["cursor"],
        )

    def _rest_of_round(self) -> Tensor:
        if self._order is None:
            generator = derived_generator(self.seed, "validation", self.tag, self.round)
            self._order = self.positions[torch.randperm(len(self.positions), generator=generator)]
        return self._order[self.cursor :]


class ValidationBatches:
    """The validation batches of a run, augmented like training data and lined up an epoch at a time."""

    def __init__(self, feed: Feed, *, batch_size: int, seed: int) -> None:
        self.feed = feed
        self.batch_size = batch_size
        self.seed = seed
        self._cycle: ValidationCycle | None = None
        self._batches: Iterator[Batch] = iter(())
        self._epoch_start: dict[str, int] = {}
        """Where the cycle stood before what this epoch needs was drawn."""
        self._num_taken = 0

    def set_positions(self, positions: Tensor, *, tag: int = 0) -> None:
        """Draw from these positions (int64 on the CPU) from now on; another tag shuffles them otherwise."""
        self._cycle = ValidationCycle(positions, self.batch_size, self.seed, tag)

    def start_epoch(self, epoch: int, *, num_batches: int) -> None:
        """Line up what an epoch of at most `num_batches` meta-updates needs."""
        assert self._cycle is not None
        self._epoch_start, self._num_taken = self._cycle.place(), 0
        self._line_up(epoch, num_batches)

    def resume_epoch(self, epoch: int, *, num_batches: int) -> None:
        """Line up the rest of an epoch, after a `state_dict` from within it has been loaded."""
        assert self._cycle is not None
        self._cycle = self._cycle.at(self._epoch_start)
        self._line_up(epoch, num_batches)

    def _line_up(self, epoch: int, num_batches: int) -> None:
        assert self._cycle is not None
        # Drawn for as many updates as there can be; what an epoch leaves over is drawn and not used, so
        # that the next epoch begins at the same place however this one ended.
        drawn = [self._cycle.draw() for _ in range(num_batches)]
        seed = derived_seed(self.seed, "validation", epoch)
        self._batches = self.feed.training(drawn, seed=seed, start=self._num_taken)

    def next(self) -> Batch:
        """The next batch of the epoch."""
        self._num_taken += 1
        return next(self._batches)

    def state_dict(self) -> dict[str, Any]:
        """What a resume needs, between epochs and within one."""
        assert self._cycle is not None
        return {
            "val_positions": self._cycle.positions,
            "cycle": {"tag": self._cycle.tag, **self._cycle.place()},
            "epoch_start": self._epoch_start,
            "num_taken": self._num_taken,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a `state_dict`."""
        positions, cycle = state["val_positions"].cpu(), state["cycle"]
        self._cycle = ValidationCycle(positions, self.batch_size, self.seed, tag=cycle["tag"]).at(cycle)
        # Versions that wrote checkpoints between epochs alone had no need of these.
        self._epoch_start, self._num_taken = state.get("epoch_start", {}), state.get("num_taken", 0)
