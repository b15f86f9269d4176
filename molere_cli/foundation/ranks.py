"""The processes that train one classifier together, and what passes between them.

Each has the whole classifier and the whole state of a run, and takes its part of every batch. What is of one
example (logits, weights, hypergradients) is gathered, so that all see the batch whole; what is of parameters
is summed. The numbers are those of one process up to the order of sums.

All of them run the same program. What hangs on a disk, a clock or a signal is rank 0's to say (`decided`).
One that fails leaves word in the store of the process group, where those that wait for it look: so all end by
the same sentence, or are all at the same place again (`agreed`).

Shapes: B examples of a batch, b of them on this rank.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import asdict, dataclass
from datetime import timedelta
from functools import partial
from itertools import pairwise
from typing import Any, TypeVar

import torch
from safetensors.torch import load, save
from torch import Tensor
from torch import distributed as dist
from torch.distributed.distributed_c10d import Store, _get_default_store

from molere_cli.foundation.errors import MolereError, TrainingError, error_of
from molere_cli.foundation.files import json_text, parse_json
from molere_cli.foundation.packing import pack, unpack
from molere_cli.foundation.stopping import Ended

FEW = 16384
"""Up to so many numbers of all ranks are added up by each of them: what a message costs then is its way."""
LOOK = timedelta(seconds=0.5)
"""For how long a call is waited for before a look at whether those who are to join it have failed."""
PATIENCE = 30.0
"""Seconds for which one that has failed waits for the others, who may be at something long."""
GONE = -1

T = TypeVar("T")


@dataclass
class Traffic:
    """What has passed between ranks: collective calls, and the bytes that each rank has put in."""

    num_calls: int = 0
    num_bytes: int = 0

    def count(self, values: Tensor) -> None:
        """Take down one call."""
        self.num_calls += 1
        self.num_bytes += values.numel() * values.element_size()


class RanksLost(Ended):
    """The ranks are no longer together, which ends all: one has failed alone, was stopped, or is gone."""


class ConnectionLost(RanksLost):
    """Another process is gone without a word."""

    def __init__(self) -> None:
        super().__init__(
            1,
            "another process has ended, so that this one cannot go on; `torchrun --max-restarts 3` starts "
            "them again, from the last checkpoint",
        )


@dataclass(frozen=True)
class _Failure:
    """What a rank leaves in the store as it fails.

    num_calls: those that it had made. level: that of the `agreed` block at whose end it waits, `GONE` if it
    waits for nobody. kind: the class of a MolereError.
    """

    num_calls: int
    level: int
    code: int
    sentence: str | None
    kind: str = ""


class Ranks:
    """This process among `size` of them, number `rank` from 0; alone, nothing passes.

    The calls that pass something are collective: all ranks make the same ones in the same order.

    Args:
        closings: a process group for the ends of `agreed` blocks alone. One that has failed comes there while
            others may be in another call, of which what it says must not be taken for a part.
    """

    def __init__(self, rank: int = 0, size: int = 1, *, closings: dist.ProcessGroup | None = None) -> None:
        self.rank = rank
        self.size = size
        self._closings = closings
        self.traffic = Traffic()
        self._num_calls = 0
        self._level = 0
        self._settled = 0
        """The number of the last call at which failures were agreed on."""

    @property
    def are_several(self) -> bool:
        return self.size > 1

    @property
    def is_first(self) -> bool:
        """Whether this one reads and writes runs, prints, and heeds signals."""
        return self.rank == 0

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

    def decided(self, make: Callable[[], T]) -> T:
        """What rank 0 makes, which the others do not: JSON, with tuples and tensors on the CPU in it.

        Raises:
            MolereError: rank 0 has; on all ranks.
        """
        if not self.are_several:
            return make()
        made: list[T] = []
        with self.agreed():
            if self.is_first:
                made.append(make())
        if self.is_first:
            self._broadcast(made[0])
            return made[0]
        heard: T = self._hear()
        return heard

    def _broadcast(self, made: Any) -> None:
        tensors: dict[str, Tensor] = {}
        text = json_text(pack(made, tensors)).encode()
        content = save(tensors) if tensors else b""
        message = torch.frombuffer(bytearray(text + content), dtype=torch.uint8)
        for sent in (torch.tensor([len(text), len(message)]), message):
            self._pass(partial(dist.broadcast, sent, src=0), sent)

    def _hear(self) -> Any:
        sizes = torch.zeros(2, dtype=torch.int64)
        self._pass(partial(dist.broadcast, sizes, src=0), sizes)
        end, size = sizes.tolist()
        message = torch.empty(size, dtype=torch.uint8)
        self._pass(partial(dist.broadcast, message, src=0), message)
        content = message.numpy().tobytes()
        return unpack(parse_json(content[:end].decode()), load(content[end:]) if size > end else {})

    def after_first(self, make: Callable[[], T]) -> T:
        """What each rank makes for itself, rank 0 before the others, which find what it has downloaded.

        Raises:
            MolereError: one of them has; on all ranks.
        """
        made: list[T] = []
        for first in (True, False):
            with self.agreed():
                if self.is_first == first:
                    made.append(make())
        return made[0]

    @contextmanager
    def first_holds(self, make: Callable[[], AbstractContextManager[T]]) -> Iterator[T | None]:
        """Within the block rank 0 is in the context that it makes, and has what that gives; None elsewhere.

        Raises:
            MolereError: it cannot be entered; on all ranks.
        """
        held: list[T] = []
        with ExitStack() as stack:
            self.decided(lambda: held.append(stack.enter_context(make())))
            yield held[0] if held else None

    @contextmanager
    def agreed(self) -> Iterator[None]:
        """All ranks come out of the block alike; what they pass within it may be anything.

        Raises:
            MolereError: one of them has; on all ranks that of the first one which has.
            RanksLost: one has while others were waiting for it within the block.
        """
        if not self.are_several:
            yield
            return
        self._level += 1
        own: MolereError | None = None
        try:
            try:
                yield
            except MolereError as error:
                own = error
                self._leave_word(1, str(error), level=self._level, kind=type(error).__name__)
            self._close(own)
        finally:
            self._level -= 1

    def _close(self, own: MolereError | None) -> None:
        mine = torch.tensor([self._level, self._num_calls, own is not None])
        found = [torch.empty_like(mine) for _ in range(self.size)]
        gather = partial(dist.all_gather, found, mine, group=self._closings)
        self._pass(gather, mine, closing=True, failed=own)
        self._settled = self._num_calls
        ends = [tuple(end.tolist()) for end in found]
        failed = [rank for rank, (_, _, has_failed) in enumerate(ends) if has_failed]
        if not failed:
            assert len({end[:2] for end in ends}) == 1
            return
        first = self._word_of(failed[0], at=ends[failed[0]][1])
        if len({end[:2] for end in ends}) > 1:  # of other blocks, or elsewhere in them
            raise RanksLost(1, first.sentence)
        if own is not None and failed[0] == self.rank:
            raise own
        raise error_of(first.kind, str(first.sentence)) from own

    def meet(self) -> None:
        """Wait until all are here."""
        with self.agreed():
            pass

    def leave(self, code: int, sentence: str | None) -> None:
        """End for oneself: the others end as well, by this exit code and sentence."""
        self._leave_word(code, sentence, level=GONE)

    def first_has_left(self, patience: float) -> bool:
        """Whether rank 0 has ended too, within so many seconds."""
        try:
            self._store.wait([_key(0, GONE)], timedelta(seconds=patience))
        except RuntimeError:
            return False
        return True

    @property
    def _store(self) -> Store:
        return _get_default_store()

    def _leave_word(self, code: int, sentence: str | None, *, level: int, kind: str = "") -> None:
        word = json_text(asdict(_Failure(self._num_calls, level, code, sentence, kind)))
        self._store.set(_key(self.rank, GONE if level == GONE else self._num_calls), word)
        self._store.set(_key(self.rank), word)

    def _word_of(self, rank: int, *, at: int | None = None) -> _Failure:
        return _Failure(**parse_json(self._store.get(_key(rank, at)).decode()))

    def _pass(
        self,
        call: Callable[..., Any],
        values: Tensor,
        *,
        closing: bool = False,
        failed: MolereError | None = None,
    ) -> None:
        """A collective call.

        Args:
            closing: whether it is the end of an `agreed` block. failed: what this rank has come upon in that.

        Raises:
            RanksLost: others will not join it.
        """
        try:
            # NCCL's calls end on the GPU; nobody waits for them here.
            work = call(async_op=not values.is_cuda)
            if work is not None:
                self._wait_for(work, closing=closing, failed=failed)
        except RuntimeError as error:
            self._look_at_others(closing=closing)
            raise ConnectionLost from error
        self._num_calls += 1

    def _wait_for(self, work: dist.Work, *, closing: bool, failed: MolereError | None) -> None:
        until = math.inf if failed is None else time.monotonic() + PATIENCE
        while not _has_come(work):
            self._look_at_others(closing=closing)
            if time.monotonic() > until:
                raise RanksLost(1, str(failed))

    def _look_at_others(self, *, closing: bool) -> None:
        """Raise RanksLost if one of them has failed and will not join the call that this one waits in."""
        for rank in range(self.size):
            if rank == self.rank or not self._store.check([_key(rank)]):
                continue
            failure = self._word_of(rank)
            is_over = failure.level != GONE and failure.num_calls < self._settled
            has_joined = failure.num_calls > self._num_calls
            joins = closing and (failure.level, failure.num_calls) == (self._level, self._num_calls)
            if not (is_over or has_joined or joins):
                raise RanksLost(failure.code, failure.sentence)


def _key(rank: int, at: int | None = None) -> str:
    """Of the last failure of a rank, of that after so many calls, or of its end."""
    return f"failure of {rank}" if at is None else f"failure of {rank} at {at}"


def _has_come(work: dist.Work) -> bool:
    """Whether a call is done, after some waiting; what has gone wrong with it is raised."""
    try:
        work.wait(LOOK)
    except RuntimeError:
        if not work.is_completed():
            return False
        work.wait()
    return True


ALONE = Ranks()
"""One process, as without torchrun."""
