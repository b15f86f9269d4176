"""The processes that train one classifier together, and what passes between them.

Each has the whole classifier and the whole state of a run, and takes its part of every batch. What is of one
example (logits, weights, hypergradients) is gathered, so that all see the batch whole; what is of parameters
is summed. The numbers are those of one process up to the order of sums.

Shapes: B examples of a batch, b of them on this rank.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor
from torch import distributed as dist

from molere_cli.foundation.company import Company
from molere_cli.foundation.errors import TrainingError

FEW = 16384
"""Up to so many numbers of all ranks are added up by each of them: what a message costs then is its way."""


@dataclass
class Traffic:
    """What has passed between ranks: collective calls, and the bytes that each rank has put in."""

    num_calls: int = 0
    num_bytes: int = 0

    def count(self, values: Tensor) -> None:
        """Take down one call."""
        self.num_calls += 1
        self.num_bytes += values.numel() * values.element_size()


class Ranks(Company):
    """This process among those that train together; alone, nothing passes."""

    def __init__(self, rank: int = 0, size: int = 1, *, closings: dist.ProcessGroup | None = None) -> None:
        super().__init__(rank, size, closings=closings)
        self.traffic = Traffic()

    def part(self, number: int) -> slice:
        """Which of `number` examples in a row are this rank's; those of all ranks differ by one at most.

        Raises:
            TrainingError: there are fewer examples than ranks.
        """
        if number < self.size:
            raise TrainingError(
                f"a batch of {number} examples cannot be shared by {self.size} processes; start fewer, or "
                "take larger batches"
            )
        ends = self._ends(number)
        return slice(ends[self.rank], ends[self.rank + 1])

    def share(self, number: int) -> float:
        """Of a batch of `number` examples, the share that is this rank's."""
        part = self.part(number)
        size: int = part.stop - part.start
        return size / number

    def _ends(self, number: int) -> list[int]:
        return [rank * number // self.size for rank in range(self.size + 1)]

    def gathered(self, own: Tensor, number: int) -> Tensor:
        """(B, ...) from every rank's (b, ...), in order, detached; the same bits on all.

        Args:
            number: B.
        """
        own = own.detach()
        if not self.are_several:
            return own
        if own.dtype == torch.bool:  # which gloo does not take
            return self.gathered(own.to(torch.uint8), number).bool()
        ends = self._ends(number)
        sizes = [stop - start for start, stop in pairwise(ends)]
        # All of one size, as a collective wants them.
        padded = own.new_zeros(max(sizes), *own.shape[1:])
        padded[: len(own)] = own
        found = [torch.empty_like(padded) for _ in range(self.size)]
        self._pass(partial(dist.all_gather, found, padded), padded)
        self.traffic.count(padded)
        return torch.cat([part[:size] for part, size in zip(found, sizes, strict=True)])

    def gathered_around(self, own: Tensor, number: int) -> Tensor:
        """As `gathered`, with this rank's own part in its place with its graph: what is made of the whole has
        its derivative for the own part, and summed over ranks all of it."""
        if not self.are_several:
            return own
        whole, part = self.gathered(own, number), self.part(number)
        return torch.cat([whole[: part.start], own, whole[part.stop :]])

    def sum_(self, tensors: Iterable[Tensor]) -> None:
        """Add up over all ranks, in place; as one message for each dtype."""
        if not self.are_several:
            return
        by_dtype: dict[torch.dtype, list[Tensor]] = {}
        for tensor in tensors:
            by_dtype.setdefault(tensor.dtype, []).append(tensor)
        for of_dtype in by_dtype.values():
            flat = torch.cat([tensor.detach().reshape(-1) for tensor in of_dtype])
            flat = self._sum(flat)
            self.traffic.count(flat)
            parts = flat.split([tensor.numel() for tensor in of_dtype])
            for tensor, part in zip(of_dtype, parts, strict=True):
                tensor.detach().copy_(part.view(tensor.shape))

    def _sum(self, flat: Tensor) -> Tensor:
        if flat.numel() * self.size > FEW:
            self._pass(partial(dist.all_reduce, flat), flat)
            return flat
        # One trip in place of two.
        found = [torch.empty_like(flat) for _ in range(self.size)]
        self._pass(partial(dist.all_gather, found, flat), flat)
        return torch.stack(found).sum(dim=0)

    def gradients_of(self, parameters: Iterable[Tensor]) -> list[Tensor]:
        """Their gradients, to be added up; one that this rank's part has not reached becomes 0 if there are
        others, whose part may have."""
        gradients = []
        for parameter in parameters:
            if parameter.grad is None and self.are_several:
                parameter.grad = torch.zeros_like(parameter)
            if parameter.grad is not None:
                gradients.append(parameter.grad)
        return gradients

    def from_first_(self, tensor: Tensor) -> Tensor:
        """Rank 0's values, in place."""
        if self.are_several:
            self._pass(partial(dist.broadcast, tensor, src=0), tensor)
            self.traffic.count(tensor)
        return tensor


ALONE = Ranks()
"""One process, as without torchrun."""
