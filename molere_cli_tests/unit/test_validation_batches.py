"""Validation batches: every example once a round, in another order each time."""

from __future__ import annotations

import torch

from molere_cli.engine.validation_batches import ValidationCycle

POSITIONS = torch.arange(10, 17)


def rounds(cycle: ValidationCycle, number: int) -> list[list[int]]:
    """What is drawn over so many rounds, cut where rounds end."""
    size = len(POSITIONS)
    drawn: list[int] = []
    while len(drawn) < number * size:
        drawn += cycle.draw().tolist()
    return [drawn[size * turn : size * (turn + 1)] for turn in range(number)]


def test_a_round_has_every_example_once_wherever_batches_end():
    for batch_size in (1, 3, 4, 7, 50):
        for found in rounds(ValidationCycle(POSITIONS, batch_size, seed=0), 6):
            assert sorted(found) == POSITIONS.tolist()


def test_rounds_tags_and_seeds_have_orders_of_their_own():
    first = rounds(ValidationCycle(POSITIONS, 3, seed=0), 3)
    assert len({tuple(found) for found in first}) == 3
    assert rounds(ValidationCycle(POSITIONS, 3, seed=0, tag=1), 3) != first
    assert rounds(ValidationCycle(POSITIONS, 3, seed=1), 3) != first
    assert rounds(ValidationCycle(POSITIONS, 3, seed=0), 3) == first
