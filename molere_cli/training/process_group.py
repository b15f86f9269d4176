"""Several processes under torchrun, which all run the same program: how they meet, and how they end.

The first alone reads and writes run directories, prints, and heeds signals; what it finds is told to all
(`Ranks.decided`).
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
from torch import distributed as dist
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

from molere_cli.config.plan import Plan
from molere_cli.config.sections import DataSettings
from molere_cli.data.source import LoadedDataset, load_dataset
from molere_cli.engine.method import Method
from molere_cli.foundation.company import ConnectionLost
from molere_cli.foundation.errors import ConfigError, DataError
from molere_cli.foundation.files import same_fingerprint
from molere_cli.foundation.ranks import ALONE, Ranks
from molere_cli.foundation.stopping import Ended, ignore_signals
from molere_cli.registry.registry import Registry

MEETING = timedelta(minutes=10)
WAIT = timedelta(days=7)
"""For others, which evaluate or have died: of those torchrun lets all know."""
TELLING = 5.0
"""Seconds that the first process has to tell what has ended another."""


class _Joined:
    """Whom this process trains with."""

    ranks = ALONE


def joined_ranks() -> Ranks:
    """Those that run the command together; `ALONE` where this process runs it by itself."""
    return _Joined.ranks


def is_started_again() -> bool:
    """Whether torchrun has started the processes anew, since one had died."""
    return joined_ranks().are_several and os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") != "0"


@contextmanager
def in_company() -> Iterator[Ranks]:
    """Around all that a process does under torchrun: what ends it, ends the others too.

    The first one tells its user; the others wait for that, or torchrun would end it before.
    """
    ranks = _Joined.ranks = _join()
    if not ranks.is_first:
        ignore_signals()
    try:
        yield ranks
    except BaseException as error:
        if isinstance(error, SystemExit) and not error.code:
            dist.destroy_process_group()
        else:
            _end(ranks, error)
        raise


def leave_to_first() -> bool:
    """What follows is the first process's alone, while the others wait; whether this is one of them."""
    ranks, _Joined.ranks = _Joined.ranks, ALONE
    return not ranks.is_first


def _join() -> Ranks:
    if torch.cuda.is_available():
        local = int(os.environ["LOCAL_RANK"])
        # Where there are fewer GPUs it must be --device cpu; of another, `resolve_device` says what is wrong.
        if local < torch.cuda.device_count():
            torch.cuda.set_device(local)
    # What is said goes over the CPU; NCCL takes what lies on GPUs.
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() and dist.is_nccl_available() else "gloo"
    store, rank, size = next(rendezvous("env://", timeout=MEETING))
    # Processes that are started again must not call on those before them, whose addresses the store keeps.
    store = PrefixStore(f"start {os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)
    dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=WAIT)
    closings = dist.new_group(backend="gloo", timeout=WAIT)
    assert isinstance(closings, dist.ProcessGroup)
    ranks = Ranks(rank, size, closings=closings)
    ranks.meet()  # so that nobody ends at once while others still connect to it
    return ranks


def _end(ranks: Ranks, error: BaseException) -> None:
    """Tell the others what ends this process, and see to it that somebody tells the user."""
    if isinstance(error, SystemExit):
        code = error.code if isinstance(error.code, int) else 1
        sentence = error.sentence if isinstance(error, Ended) else None
    else:
        code, sentence = 1, f"process {ranks.rank} has failed: {type(error).__name__}: {error}"
        if not ranks.is_first:
            traceback.print_exception(error, file=sys.__stderr__)
    ignore_signals()  # once one has ended, torchrun ends the others, which would end by its signal
    ranks.leave(code, sentence)
    # Of a connection that is lost the first one knows by itself, unless it is the one that has died.
    if ranks.is_first or isinstance(error, ConnectionLost) or ranks.first_has_left(TELLING):
        return
    if sentence is not None:
        print(f"molere: process {ranks.rank}: {sentence}", file=sys.__stderr__, flush=True)


def load_together(settings: DataSettings, registry: Registry) -> LoadedDataset:
    """The dataset, which each process loads for itself.

    Raises:
        ConfigError, DataError, UnknownNameError: as of `load_dataset`.
        DataError: another process has another dataset.
    """
    ranks = joined_ranks()
    data = ranks.after_first(lambda: load_dataset(settings, registry))
    of_first = ranks.decided(lambda: data.fingerprint)
    with ranks.agreed():
        if not same_fingerprint(data.fingerprint, of_first):
            raise DataError(
                f"dataset {data.name!r} is not the one that the first process has: its fingerprint is "
                f"{data.fingerprint} for process {ranks.rank}, {of_first} there"
            )
    return data


def check_shares(plan: Plan, method: Method, ranks: Ranks) -> None:
    """Raise ConfigError if these ranks cannot train by the method, or not at one precision."""
    if not ranks.are_several:
        return
    if method.batch_parts != "ranks":
        name = plan.config.method.method
        raise ConfigError(f"--method {name} trains in one process; start it without torchrun")
    of_first = ranks.decided(lambda: plan.precision)
    with ranks.agreed():
        if plan.precision != of_first:
            raise ConfigError(
                f"process {ranks.rank} would train at --precision {plan.precision}, the first one at "
                f"{of_first}; give --precision"
            )
