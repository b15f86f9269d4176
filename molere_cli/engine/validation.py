"""Which validation examples the next meta-update sees."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from molere_cli.randomness import derived_generator


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

    def draw(self) -> Tensor:
        """The next min(batch_size, V) positions of V; a batch may reach into the next round."""
        num_wanted = min(self.batch_size, len(self.positions))
        taken = self._rest_of_round()[:num_wanted]
        self.cursor += len(taken)
        if self.cursor == len(self.positions):
            self.round, self.cursor = self.round + 1, 0
        if missing := num_wanted - len(taken):
            taken = torch.cat([taken, self._rest_of_round()[:missing]])
            self.cursor = missing
        return taken

    def _rest_of_round(self) -> Tensor:
        generator = derived_generator(self.seed, "validation", self.tag, self.round)
        return self.positions[torch.randperm(len(self.positions), generator=generator)][self.cursor :]
