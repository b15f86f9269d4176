"""Where the dual pass's time goes: by kind of operator, and with and without MOLERE's own derivatives."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from functools import partial

import harness
import torch
from one_step import CPU, Problem, settled_state
from torch import Tensor
from torch.func import functional_call
from torch.profiler import ProfilerActivity, profile

from molere_cli.engine.hypergradient import alignment
from molere_cli.engine.random_state import RandomState

NETWORK = "wrn16_2"
# What an operator's name contains says what it is; the first that fits counts.
KINDS = {
    "convolution": ("conv", "mkldnn"),
    "batch norm": ("batch_norm",),
    "matrix product": ("addmm", "matmul", "linear", "aten::mm", "aten::bmm"),
    "element-wise": ("add", "mul", "sub", "div", "relu", "clamp", "threshold", "where", "copy", "sqrt"),
}
# Of these kinds an operator comes inside wrappers of the same kind (conv2d, _convolution, batch_norm).
KERNELS = {
    "convolution": ("aten::mkldnn_convolution", "aten::convolution_backward"),
    "batch norm": ("aten::native_batch_norm", "aten::native_batch_norm_backward"),
}


def kind_of(operator: str) -> str:
    """The kind of an operator, by its name; autograd's own work is none of them."""
    if not operator.startswith("aten::"):
        return "other"
    return next((kind for kind, parts in KINDS.items() if any(part in operator for part in parts)), "other")


def own_times(run: Callable[[], object]) -> dict[str, tuple[float, int]]:
    """Milliseconds and calls by kind of operator, each operator's own time without its children's."""
    run()
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        run()
    totals: dict[str, tuple[float, int]] = defaultdict(lambda: (0.0, 0))
    for event in profiler.key_averages():
        kind = kind_of(event.key)
        milliseconds, calls = totals[kind]
        counts = kind not in KERNELS or event.key in KERNELS[kind]
        totals[kind] = (
            milliseconds + event.self_cpu_time_total / 1000,
            calls + (event.count if counts else 0),
        )
    return totals


def main() -> None:
    parser = harness.option_parser(__doc__, repetitions=7)
    parser.add_argument("--batch-size", type=int, default=128)
    options = harness.parse(parser, quick={"batch_size": 16, "repetitions": 2})
    state = settled_state(NETWORK, batch_size=options.batch_size)
    problem = Problem(NETWORK, batch_size=options.batch_size, state=state)
    harness.print_header(
        "The dual pass",
        f"{NETWORK}, batch {options.batch_size}, fp32, channels last",
        "Own time of operators by torch.profiler over one pass after one unprofiled; calls of convolution "
        "and batch norm are those of their kernels",
        f"Second table: medians of {options.repetitions} interleaved rounds; without: the same losses "
        "under torch's own forward derivatives",
    )
    before = problem.copy_of_parameters()
    direction = {name: torch.randn_like(value) for name, value in before.items()}
    randomness = RandomState.capture(CPU)
    fast = problem.classifier.step_losses(problem.images, problem.labels, randomness)
    passes: dict[str, harness.Run] = {
        "forward": lambda: problem.losses(problem.classifier.forward(problem.images).logits),
        "backward": partial(_backward, problem),
        "dual forward": lambda: alignment(fast, before, direction),
    }
    rows = []
    for name, run in passes.items():
        found = own_times(run)
        if name == "backward":
            forward = own_times(passes["forward"])
            found = {k: (ms - forward[k][0], n - forward[k][1]) for k, (ms, n) in found.items()}
        total = sum(milliseconds for milliseconds, _ in found.values())
        cells = [
            f"{100 * found[kind][0] / total:.0f}% ({found[kind][1]})" if kind in found else "-"
            for kind in (*KINDS, "other")
        ]
        rows.append([name, f"{total:.0f}", *cells])
    harness.print_table(["pass", "own ms", *(f"{kind} (calls)" for kind in KINDS), "other (calls)"], rows)
    actions: dict[str, harness.Run] = {
        "plain step": problem.step,
        "dual pass": passes["dual forward"],
        "dual pass without": lambda: alignment(_plain_losses(problem), before, direction),
    }
    timings = harness.time_runs(actions, repetitions=options.repetitions)
    base = timings["plain step"]
    harness.print_table(
        ["pass", "ms", "+-", "/ plain step"],
        [[name, *own.cells(".1f", per_second=1000), own.over(base)] for name, own in timings.items()],
    )


def _backward(problem: Problem) -> None:
    """Forward and backward; the table takes the forward's part off again."""
    loss = problem.losses(problem.classifier.forward(problem.images).logits).mean()
    torch.autograd.grad(loss, list(problem.classifier.parameters.values()))


def _plain_losses(problem: Problem) -> Callable[[Mapping[str, Tensor]], Tensor]:
    def losses(parameters: Mapping[str, Tensor]) -> Tensor:
        buffers = {name: buffer.clone() for name, buffer in problem.module.named_buffers()}
        return problem.losses(functional_call(problem.module, {**parameters, **buffers}, (problem.images,)))

    return losses


if __name__ == "__main__":
    main()
