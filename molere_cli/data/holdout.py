"""Parts of a set of examples: stratified hold-outs, subsets that keep their stable indices."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from molere_cli.data.fingerprint import sample_of
from molere_cli.data.inspection import inspection_of
from molere_cli.data.origins import origin_of
from molere_cli.foundation.errors import DataError
from molere_cli.registry.specs import Examples, ImageReader


def stratified_holdout(labels: Tensor, held: float | int, *, seed: int) -> tuple[Tensor, Tensor]:
    """Hold out a fraction (float) or a number (int) of examples, class by class in proportion.

    Args:
        labels: int64 (N,).

    Returns:
        Positions kept and positions held out, int64, both ascending.

    Raises:
        DataError: a class is too small to be on both sides.
    """
    from sklearn.model_selection import train_test_split  # a second to import, and seldom needed

    try:
        kept, out = train_test_split(
            torch.arange(len(labels)).numpy(), test_size=held, stratify=labels.numpy(), random_state=seed
        )
    except ValueError as error:
        raise DataError(
            f"cannot hold out {held} of {len(labels)} examples class by class: every class must be large "
            "enough to have an example on both sides"
        ) from error
    return torch.from_numpy(kept).sort().values, torch.from_numpy(out).sort().values


def split_off(examples: Examples, held: float | int, *, seed: int) -> tuple[Examples, Examples | None]:
    """The examples kept, and those held out, class by class in proportion (None if `held` is 0)."""
    if not held:
        return examples, None
    kept, out = stratified_holdout(examples.labels, held, seed=seed)
    return subset(examples, kept), subset(examples, out)


def subset(examples: Examples, positions: Tensor) -> Examples:
    """The examples at `positions`, with their stable indices."""
    indices = torch.arange(len(examples)) if examples.indices is None else examples.indices
    return Examples(
        images=examples.images[positions]
        if isinstance(examples.images, Tensor)
        else ReaderSubset(examples.images, positions),
        labels=examples.labels[positions],
        groups=None if examples.groups is None else examples.groups[positions],
        indices=indices[positions],
        clean_labels=None if examples.clean_labels is None else examples.clean_labels[positions],
    )


class ReaderSubset:
    """Some of a reader's images, under new positions."""

    def __init__(self, reader: ImageReader, positions: Tensor) -> None:
        self.reader = reader
        self.positions = positions

    def __len__(self) -> int:
        return len(self.positions)

    def read(self, position: int) -> Tensor:
        return self.reader.read(int(self.positions[position]))

    def identities(self) -> Iterator[bytes]:
        every = list(self.reader.identities())
        return (every[position] for position in self.positions.tolist())

    def sample(self, position: int) -> bytes:
        return sample_of(self.reader, int(self.positions[position]))

    def inspect(self, position: int, *, whole: bool) -> list[str]:
        return inspection_of(self.reader, int(self.positions[position]), whole=whole)

    def origin(self, position: int) -> str | None:
        return origin_of(self.reader, int(self.positions[position]))
