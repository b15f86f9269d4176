"""Ranks that decide, agree and fail, for test_ranks.py: FOLDER CASE.

Two processes do what the case says, and each writes into FOLDER/RANK.json what has come of it.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import distributed as dist

from molere_cli.foundation.company import RanksLost
from molere_cli.foundation.errors import DamagedCheckpoint, DataError, RunError
from molere_cli.foundation.ranks import Ranks

NUMBERS = torch.tensor([0.1, float("nan"), 3], dtype=torch.float64)


def refuse(error: Exception) -> Any:
    raise error


def caught(block: Callable[[], Any]) -> list[str]:
    """The class and the text of what the block raises."""
    try:
        block()
    except Exception as error:
        return [type(error).__name__, str(error)]
    except RanksLost as lost:
        return [type(lost).__name__, str(lost.sentence)]
    return ["nothing", ""]


def in_agreement(ranks: Ranks, block: Callable[[], Any]) -> None:
    with ranks.agreed():
        block()


def deciding(ranks: Ranks) -> Any:
    """What rank 0 makes comes whole, and only rank 0 makes it."""
    made = []

    def make() -> Any:
        made.append(ranks.rank)
        return {"path": "runs/ä", "pair": (1, 0.1), "numbers": {"a": NUMBERS}, "none": None, 3: float("inf")}

    found = ranks.decided(make)
    same = torch.equal(found["numbers"]["a"].nan_to_num(), NUMBERS.nan_to_num())
    nothing = ranks.decided(lambda: None)
    return [made, same, found["path"], found["pair"] == (1, 0.1), found[3] == float("inf"), nothing]


def failing_to_decide(ranks: Ranks) -> Any:
    """And then going on."""
    error = DamagedCheckpoint("run/state.json", "it is not there")
    failed = caught(lambda: ranks.decided(lambda: refuse(error)))
    return [failed, ranks.decided(lambda: ranks.rank)]


def failing_by_oneself(ranks: Ranks) -> Any:
    """Either rank, in a block without calls and after some; then all go on."""
    found = []
    for rank in (0, 1):
        for num_calls in (0, 2):

            def block(rank: int = rank, num_calls: int = num_calls) -> None:
                for _ in range(num_calls):
                    ranks.sum_([torch.ones(1)])
                if ranks.rank == rank:
                    raise RunError(f"rank {rank} after {num_calls}")

            found.append(caught(partial(in_agreement, ranks, block)))
    total = torch.ones(1)
    ranks.sum_([total])
    return [*found, total.item()]


def failing_alike(ranks: Ranks) -> Any:
    """Both say what the first one has come upon; in a block within a block, and late on one of them."""

    def block() -> None:
        time.sleep(1.5 * ranks.rank)
        raise DataError(f"by rank {ranks.rank}")

    inner = caught(partial(in_agreement, ranks, block))
    outer = caught(partial(in_agreement, ranks, partial(in_agreement, ranks, block)))
    return [inner, outer, ranks.decided(lambda: "on")]


def failing_between_calls(ranks: Ranks) -> Any:
    """The other one waits in a call that this one never makes."""

    def block() -> None:
        ranks.sum_([torch.ones(1)])
        if ranks.rank == 1:
            raise RunError("rank 1 alone")
        ranks.sum_([torch.ones(100_000)])

    started = time.monotonic()
    try:
        with ranks.agreed():
            block()
    except RanksLost as lost:
        ranks.leave(1, lost.sentence)
        return [lost.sentence, time.monotonic() - started < 5]
    return "no rank was lost"


def failing_in_another_block(ranks: Ranks) -> Any:
    """One has left an inner block by an error, the other comes to its end."""

    def block() -> None:
        if ranks.rank == 0:
            raise RunError("outside of it")
        in_agreement(ranks, lambda: None)

    return caught(partial(in_agreement, ranks, block))


def leaving(ranks: Ranks) -> Any:
    """One ends for itself, by a signal or a bug."""
    if ranks.is_first:
        ranks.leave(143, None)
        return 143
    try:
        ranks.decided(lambda: None)
    except RanksLost as lost:
        return [lost.code, lost.sentence, ranks.first_has_left(1)]
    return "nobody has left"


def dying(ranks: Ranks) -> Any:
    """Without a word."""
    if not ranks.is_first:
        os._exit(0)
    return caught(ranks.meet)


CASES = {
    case.__name__: case
    for case in (
        *(deciding, failing_to_decide, failing_by_oneself, failing_alike, failing_between_calls),
        *(failing_in_another_block, leaving, dying),
    )
}


def take_part(rank: int, *, folder: Path, case: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    ranks = Ranks(rank, 2, closings=dist.new_group(backend="gloo"))
    ranks.meet()
    found = CASES[case](ranks)
    (folder / f"{rank}.json").write_text(json.dumps(found))


def main() -> None:
    folder, case = Path(sys.argv[1]), sys.argv[2]
    torch.set_num_threads(1)
    torch.multiprocessing.start_processes(
        partial(take_part, folder=folder, case=case), nprocs=2, start_method="fork"
    )


if __name__ == "__main__":
    main()
