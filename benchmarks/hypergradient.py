"""One hypergradient on the same network, batch and weights, by MOLERE and its peers: time, memory, error."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import harness
import peers
import torch
from one_step import (
    NETWORKS,
    Problem,
    central_differences,
    error_and_cosine,
    forward_mode_alone,
    molere_alone,
    molere_on_top,
    plain_step,
    settled_state,
)
from torch import Tensor

BF16 = torch.bfloat16
PACKAGES = {"higher": "higher", "torchopt": "torchopt", "betty": "betty-ml"}
Make = Callable[[Problem], Callable[[harness.Clock], Tensor | None]]


@dataclass(frozen=True)
class Row:
    """make: from a problem to what is timed. work: what one run computes, in passes. layout: whichever is
    the faster for it."""

    label: str
    work: str
    make: Make
    precision: torch.dtype = torch.float32
    layout: torch.memory_format = torch.channels_last

    def problem(self, network: str, *, batch_size: int, state: Mapping[str, Tensor] | None = None) -> Problem:
        return Problem(
            network, batch_size=batch_size, precision=self.precision, layout=self.layout, state=state
        )


def _own(run: Callable[[Problem, harness.Clock], Tensor | None]) -> Make:
    return lambda problem: partial(run, problem)


def _own_rows(precision: torch.dtype, suffix: str) -> dict[str, Row]:
    return {
        f"plain{suffix}": Row(f"plain step{suffix}", "F B, SGD", _own(plain_step), precision=precision),
        f"ours{suffix}": Row(
            f"MOLERE, alone{suffix}",
            "step; F B val; dual F or layer rule; restore",
            _own(molere_alone),
            precision=precision,
        ),
        f"ours-on-top{suffix}": Row(
            f"MOLERE, on top of the step{suffix}",
            "F B val; dual F or layer rule",
            _own(molere_on_top),
            precision=precision,
        ),
    }


def _second_order_row(label: str, make: Make) -> Row:
    return Row(label, "F B in graph; F val; double B", make, layout=torch.contiguous_format)


ROWS = {
    **_own_rows(torch.float32, ""),
    "dual": Row("MOLERE by the dual pass, alone", "step; F B val; dual F; restore", _own(forward_mode_alone)),
    "differences": Row(
        "MOLERE, central differences", "step; F B val; 2 F; restore", _own(central_differences)
    ),
    "second-order": _second_order_row("second order by hand", peers.second_order),
    "higher": _second_order_row("higher", peers.higher),
    "torchopt": _second_order_row("torchopt MetaSGD", peers.torchopt),
    "betty": Row("betty-ml darts", "step; F val, 2 B; 2 F B", peers.betty),
    **_own_rows(BF16, " bf16"),
}


@dataclass
class Measured:
    """What is known of a row; `failure` says why nothing is."""

    timing: harness.Timing = field(default_factory=harness.Timing)
    found: Tensor | None = None
    peak: float = math.nan
    failure: str | None = None


def main() -> None:
    parser = harness.option_parser(__doc__, repetitions=15, memory=True)
    parser.add_argument("--networks", nargs="+", choices=list(NETWORKS), default=list(NETWORKS))
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--peers", nargs="*", choices=list(PACKAGES), default=list(PACKAGES))
    options = harness.parse(parser, quick={"batch_size": 32, "repetitions": 3})
    if options.memory_row:
        network, _, row = options.memory_row.partition("/")
        _report_row(row, network, options.batch_size)
        return
    harness.print_header(
        "One hypergradient",
        f"Batch {options.batch_size}, the same for validation; SGD; free per-example weights; train mode; "
        f"medians of {options.repetitions} interleaved rounds",
        "Channels last, except that the second-order rows take contiguous images and parameters, in which "
        "they are faster",
        "Error and cosine against second-order autograd in float64 of the derivative by the weights. "
        "F forward, B backward; a restore copies the parameters back",
        "betty-ml differentiates after the step, so that its derivative is another one; its release for "
        "this Python leaves the parameters perturbed, so that they are reset outside of its time",
        packages=[PACKAGES[name] for name in options.peers],
    )
    for network in options.networks:
        _measure_network(network, options)


def _report_row(name: str, network: str, batch_size: int) -> None:
    row = ROWS[name]
    run = row.make(row.problem(network, batch_size=batch_size))
    harness.report_peak(lambda: [run(harness.Clock()) for _ in range(3)])


def _measure_network(network: str, options: argparse.Namespace) -> None:
    state = settled_state(network, batch_size=options.batch_size)
    wanted = [name for name in ROWS if name not in PACKAGES or name in options.peers]
    measured = {name: Measured() for name in wanted}
    actions = {}
    for name in wanted:
        problem = ROWS[name].problem(network, batch_size=options.batch_size, state=state)
        action = _prepared(ROWS[name], problem, measured[name], may_fail=name in PACKAGES)
        if action is not None:
            actions[name] = action
    for name, timing in harness.interleave(actions, repetitions=options.repetitions).items():
        measured[name].timing = timing
        measured[name].peak = harness.peak_memory(f"{network}/{name}", options)
    harness.progress("reference in float64")
    double = Problem(network, batch_size=options.batch_size, dtype=torch.float64, state=state)
    reference_B = peers.second_order(double)(harness.Clock())
    print(f"### {network}, {NETWORKS[network][1]} px\n")
    harness.print_table(
        [
            "fp32 where not said",
            "computes",
            "ms",
            "+-",
            "/ plain step",
            "/ plain of its precision",
            "relative error",
            "cosine",
            "peak memory",
            "/ plain step",
        ],
        [_cells(name, measured, reference_B) for name in wanted],
    )


def _prepared(row: Row, problem: Problem, measured: Measured, *, may_fail: bool) -> harness.Action | None:
    """The row's action, once it has run; None, with the reason kept, where a peer does not work here."""
    try:
        run = row.make(problem)
        measured.found = run(harness.Clock())
    except Exception as error:  # a peer that is missing or broken is a row, not the end of the benchmark
        if not may_fail:
            raise
        measured.failure = " ".join(f"{type(error).__name__}: {error}".split())[:120]
        return None
    return run


def _cells(name: str, measured: dict[str, Measured], reference_B: Tensor) -> Sequence[str]:
    row, own = ROWS[name], measured[name]
    if own.failure is not None:
        return [row.label, f"does not run: {own.failure}", *[harness.NOTHING] * 8]
    plain = measured["plain"]
    of_precision = measured["plain bf16"] if row.precision == BF16 else plain
    return [
        row.label,
        row.work,
        *own.timing.cells(".1f", per_second=1000),
        own.timing.over(plain.timing),
        own.timing.over(of_precision.timing),
        *_agreement(own.found, reference_B),
        harness.mebibytes(own.peak),
        harness.times(own.peak / plain.peak),
    ]


def _agreement(found_B: Tensor | None, reference_B: Tensor) -> tuple[str, str]:
    if found_B is None:
        return harness.NOTHING, harness.NOTHING
    error, cosine = error_and_cosine(found_B.detach(), reference_B)
    return f"{error:.1e}", f"{cosine:.6f}"


if __name__ == "__main__":
    main()
