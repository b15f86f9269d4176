"""Processes that run the same program: they decide, agree and end together.

What hangs on a disk, a clock or a signal is rank 0's to say (`decided`). One that fails leaves word in the
store of the process group, where those that wait for it look: so all end by the same sentence, or are all at
the same place again (`agreed`).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import asdict, dataclass
from datetime import timedelta
from functools import partial
from typing import Any, TypeVar

import torch
from safetensors.torch import load, save
from torch import Tensor
from torch import distributed as dist
from torch.distributed.distributed_c10d import Store, _get_default_store

from molere_cli.foundation.errors import MolereError, error_of
from molere_cli.foundation.files import json_text, parse_json
from molere_cli.foundation.packing import pack, unpack
from molere_cli.foundation.stopping import Ended

LOOK = timedelta(seconds=0.5)
"""For how long a call is waited for before a look at whether those who are to join it have failed."""
PATIENCE = 30.0
"""Seconds for which one that has failed waits for the others, who may be at something long."""
GONE = -1
HAS_LEFT = "the first has left"

T = TypeVar("T")


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
    waits for nobody.
    """

    num_calls: int
    level: int
    code: int
    sentence: str | None


class Company:
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
        self._num_calls = 0
        self._level = 0
        self._settled = 0
        """How many calls had been made when failures were last agreed on."""

    @property
    def are_several(self) -> bool:
        return self.size > 1

    @property
    def is_first(self) -> bool:
        """Whether this one reads and writes runs, prints, and heeds signals."""
        return self.rank == 0

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
        return self._said_by(0, *made)

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
                self._leave_word(1, str(error), level=self._level)
            self._close(own)
        finally:
            self._level -= 1

    def meet(self) -> None:
        """Wait until all are here."""
        with self.agreed():
            pass

    def leave(self, code: int, sentence: str | None) -> None:
        """End for oneself: the others end as well, by this exit code and sentence."""
        self._leave_word(code, sentence, level=GONE)
        if self.is_first:
            self._store.set(HAS_LEFT, "")

    def first_has_left(self, patience: float) -> bool:
        """Whether rank 0 has ended too, within so many seconds."""
        try:
            self._store.wait([HAS_LEFT], timedelta(seconds=patience))
        except RuntimeError:
            return False
        return True

    def _close(self, own: MolereError | None) -> None:
        mine = torch.tensor([own is not None, self._level, self._num_calls])
        found = [torch.empty_like(mine) for _ in range(self.size)]
        gather = partial(dist.all_gather, found, mine, group=self._closings)
        self._pass(gather, mine, closing=True, failed=own)
        self._settled = self._num_calls
        failed = [rank for rank in range(self.size) if found[rank][0]]
        are_at_one_place = all(torch.equal(place[1:], mine[1:]) for place in found)
        if not failed:
            assert are_at_one_place
            return
        kind, sentence = self._said_by(failed[0], (type(own).__name__, str(own)))
        if not are_at_one_place:
            raise RanksLost(1, sentence)
        raise own if own is not None and failed[0] == self.rank else error_of(kind, sentence)

    def _said_by(self, rank: int, *said: T) -> T:
        """What a rank says, on all; the others need not say anything."""
        tensors: dict[str, Tensor] = {}
        text = content = b""
        if rank == self.rank:
            text = json_text(pack(said[0], tensors)).encode()
            content = save(tensors) if tensors else b""
        sizes = torch.tensor([len(text), len(content)])
        self._pass(partial(dist.broadcast, sizes, src=rank), sizes)
        message = torch.empty(int(sizes.sum()), dtype=torch.uint8)
        if rank == self.rank:
            message = torch.frombuffer(bytearray(text + content), dtype=torch.uint8)
        self._pass(partial(dist.broadcast, message, src=rank), message)
        if rank == self.rank:
            return said[0]
        received, end = message.numpy().tobytes(), int(sizes[0])
        heard: T = unpack(parse_json(received[:end].decode()), load(received[end:]) if sizes[1] else {})
        return heard

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
            failure = _Failure(**parse_json(self._store.get(_key(rank)).decode()))
            is_over = failure.level != GONE and failure.num_calls < self._settled
            has_joined = failure.num_calls > self._num_calls
            joins = closing and (failure.level, failure.num_calls) == (self._level, self._num_calls)
            if not (is_over or has_joined or joins):
                raise RanksLost(failure.code, failure.sentence)

    def _leave_word(self, code: int, sentence: str | None, *, level: int) -> None:
        failure = _Failure(self._num_calls, level, code, sentence)
        self._store.set(_key(self.rank), json_text(asdict(failure)))

    @property
    def _store(self) -> Store:
        return _get_default_store()


def _key(rank: int) -> str:
    return f"failure of rank {rank}"


def _has_come(work: dist.Work) -> bool:
    """Whether a call is done, after some waiting; what has gone wrong with it is raised."""
    try:
        work.wait(LOOK)
    except RuntimeError:
        if not work.is_completed():
            return False
        work.wait()
    return True
