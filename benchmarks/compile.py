"""torch.compile against eager: the plain step, the validation gradient, evaluation, and the dual pass."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from harness import (
    Action,
    interleave,
    median,
    option_parser,
    print_header,
    print_table,
    progress,
    set_threads,
    spread,
    timed,
    times,
)
from one_step import CPU, NETWORKS, Problem
from torch import nn
from torch.nn import functional as F

from molere_cli.engine.classifier import RandomState
from molere_cli.engine.hypergradient import alignment

NETWORKS["small_cnn"] = ("small_cnn", 32)


class Passes:
    """The passes of one problem through a module, eager or compiled."""

    def __init__(self, problem: Problem, module: Callable[..., torch.Tensor]) -> None:
        self.problem = problem
        self.module = module

    def logits(self) -> torch.Tensor:
        bf16 = self.problem.classifier.precision == torch.bfloat16
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
            return self.module(self.problem.images).float()

    def step(self) -> None:
        """Forward, backward, SGD."""
        loss = F.cross_entropy(self.logits(), self.problem.labels)
        self.problem.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.problem.optimizer.step()

    @torch.no_grad()
    def evaluation(self) -> None:
        """A forward pass in eval mode."""
        self.problem.module.eval()
        self.logits()
        self.problem.module.train()


def main() -> None:
    parser = option_parser(__doc__, repetitions=7)
    parser.add_argument("--networks", nargs="+", choices=list(NETWORKS), default=["wrn16_2", "small_cnn"])
    parser.add_argument("--batch-size", type=int, default=128)
    options = parser.parse_args()
    set_threads(options.threads)
    if options.quick:
        options.batch_size, options.repetitions, options.networks = 16, 2, ["small_cnn"]
    print_header(
        "torch.compile",
        f"Batch {options.batch_size}, 32 px, channels last; default mode; medians of {options.repetitions} "
        "interleaved rounds after the first call, whose time is `first call`",
    )
    rows = []
    for network in options.networks:
        for precision in (torch.float32, torch.bfloat16):
            rows += _measure(network, precision, options.batch_size, options.repetitions)
    print_table(["pass", "eager ms", "+-", "compiled ms", "+-", "compiled / eager", "first call, s"], rows)
    for network in options.networks:
        print(f"- The dual pass through a compiled {network}: {_dual_pass(network, options.batch_size)}")


def _measure(network: str, precision: torch.dtype, batch_size: int, repetitions: int) -> list[list[str]]:
    eager = Problem(network, batch_size=batch_size, precision=precision)
    other = Problem(network, batch_size=batch_size, precision=precision)
    ours = {"eager": Passes(eager, eager.module), "compiled": Passes(other, torch.compile(other.module))}
    first: dict[str, float] = {}
    for name in ("step", "evaluation"):
        progress(f"compiling {network} {precision} {name}")
        started = time.perf_counter()
        getattr(ours["compiled"], name)()
        first[name] = time.perf_counter() - started
    actions: dict[str, Action] = {
        f"{name}/{which}": timed(getattr(passes, name)) for name in first for which, passes in ours.items()
    }
    seconds = interleave(actions, repetitions=repetitions)
    label = f"{network}, {'bf16' if precision == torch.bfloat16 else 'fp32'}"
    rows = []
    for name, compile_seconds in first.items():
        plain, compiled = seconds[f"{name}/eager"], seconds[f"{name}/compiled"]
        rows.append(
            [
                f"{label}: {name}",
                f"{1000 * median(plain):.1f}",
                spread(plain),
                f"{1000 * median(compiled):.1f}",
                spread(compiled),
                times(median(compiled) / median(plain)),
                f"{compile_seconds:.1f}",
            ]
        )
    return rows


def _dual_pass(network: str, batch_size: int) -> str:
    """Whether forward mode goes through a compiled module, and to the same numbers."""
    problem = Problem(network, batch_size=batch_size)
    parameters = problem.copy_of_parameters()
    direction = {name: torch.randn_like(value) for name, value in parameters.items()}
    losses = problem.classifier.step_losses(problem.images, problem.labels, RandomState.capture(CPU))
    exact_B = alignment(losses, parameters, direction)
    compiled = torch.compile(problem.module)
    assert isinstance(compiled, nn.Module)

    def compiled_losses(values: dict[str, torch.Tensor]) -> torch.Tensor:
        named = {f"_orig_mod.{name}": value for name, value in values.items()}
        logits = torch.func.functional_call(compiled, named, (problem.images,))
        return F.cross_entropy(logits, problem.labels, reduction="none")

    try:
        found_B = alignment(compiled_losses, parameters, direction)
    except Exception as error:  # whatever the compiler raises is the answer
        return f"fails ({type(error).__name__}: {str(error).splitlines()[0]})"
    same = torch.allclose(found_B, exact_B, rtol=1e-3, atol=1e-4 * float(exact_B.abs().max()))
    return "works, to the same numbers" if same else "runs, to other numbers"


if __name__ == "__main__":
    main()
