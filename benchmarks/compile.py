"""torch.compile against eager, in the passes of the engine itself."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from functools import partial

import harness
import torch
from one_step import CPU, NETWORKS, Problem
from torch import Tensor
from torch._dynamo.utils import counters

from molere_cli.engine.classifier import Classifier
from molere_cli.engine.hypergradient import alignment
from molere_cli.engine.random_state import RandomState

NETWORKS["small_cnn"] = ("small_cnn", 32)
Passes = dict[str, harness.Run]


def main() -> None:
    parser = harness.option_parser(__doc__, repetitions=5)
    parser.add_argument("--networks", nargs="+", choices=list(NETWORKS), default=["wrn16_2", "small_cnn"])
    parser.add_argument("--batch-size", type=int, default=128)
    options = harness.parse(parser, quick={"batch_size": 16, "repetitions": 2, "networks": ["small_cnn"]})
    harness.print_header(
        "torch.compile",
        f"Batch {options.batch_size}, channels last, default mode; medians of {options.repetitions} "
        "interleaved rounds after the first call and an untimed round",
        "First call: the passes in the order of the rows; the cache on disk is empty at the beginning",
        "Graphs: what the first call compiled; reused: it found one in memory; part: it compiled some, and "
        "runs the rest eagerly without saying so; the lines below the table ask for all of it or an error",
    )
    with tempfile.TemporaryDirectory() as folder:
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = folder
        _compile_something()
        rows, notes = [], []
        for network in options.networks:
            for precision in (torch.float32, torch.bfloat16):
                rows += _measure(network, precision, options.batch_size, options.repetitions)
            notes.append(f"- {network}, the dual pass: {_verdict(network, options.batch_size)}")
    columns = ["pass", "eager ms", "+-", "compiled ms", "+-", "compiled / eager", "first call, s", "graphs"]
    harness.print_table(columns, rows)
    print("\n".join(notes))


def _compile_something() -> None:
    """What the compiler does once on a machine, such as asking for its vector instructions."""
    harness.progress("starting the compiler")
    torch.compile(torch.nn.Linear(8, 8))(torch.ones(8, 8)).sum().backward()


def _passes(problem: Problem) -> Passes:
    return {
        "step": problem.step,
        "validation gradient": partial(
            problem.classifier.validation_gradient, problem.val_images, problem.val_labels
        ),
        "evaluation": partial(problem.classifier.predict, problem.images),
        "dual pass": _dual_pass(problem),
    }


def _problem(network: str, precision: torch.dtype, batch_size: int) -> Problem:
    return Problem(network, batch_size=batch_size, precision=precision)


def _compiled(problem: Problem, *, fullgraph: bool = False) -> Problem:
    """The problem with its module compiled wherever the engine calls it."""
    compiled = torch.compile(problem.module, fullgraph=fullgraph)
    assert isinstance(compiled, torch.nn.Module)
    problem.classifier = Classifier(compiled, device=CPU, precision=problem.classifier.precision)
    return problem


def _dual_pass(problem: Problem) -> Callable[[], Tensor]:
    """The dual pass, (B,), in a direction that is the same for every problem of a network."""
    generator = torch.Generator().manual_seed(4)
    parameters = problem.classifier.parameters
    direction = {name: torch.randn(p.shape, generator=generator) for name, p in parameters.items()}
    randomness = RandomState.capture(CPU)
    losses = problem.classifier.step_losses(problem.images, problem.labels, randomness)
    return partial(alignment, losses, parameters, direction)


def _measure(network: str, precision: torch.dtype, batch_size: int, repetitions: int) -> list[list[str]]:
    torch._dynamo.reset()
    label = f"{network}, {'bf16' if precision == torch.bfloat16 else 'fp32'}"
    eager = _passes(_problem(network, precision, batch_size))
    compiled = _passes(_compiled(_problem(network, precision, batch_size)))
    first, graphs = {}, {}
    for name, run in compiled.items():
        harness.progress(f"compiling {label}: {name}")
        counters.clear()
        started = time.perf_counter()
        run()
        first[name] = time.perf_counter() - started
        graphs[name] = _graphs()
    both = {"eager": eager, "compiled": compiled}
    order = {f"{label}: {name}/{kind}": of[name] for name in eager for kind, of in both.items()}
    found = harness.time_runs(order, repetitions=repetitions)
    rows = []
    for name in eager:
        plain, fast = found[f"{label}: {name}/eager"], found[f"{label}: {name}/compiled"]
        rows.append(
            [
                f"{label}: {name}",
                *plain.cells(".1f", per_second=1000),
                *fast.cells(".1f", per_second=1000),
                fast.over(plain),
                f"{first[name]:.1f}",
                graphs[name],
            ]
        )
    return rows


def _graphs() -> str:
    """What dynamo has compiled since its counters were cleared."""
    compiled, left_out = counters["stats"]["unique_graphs"], sum(counters["graph_break"].values())
    if left_out:
        return f"{compiled}, part" if compiled else "none"
    return str(compiled) if counters["frames"]["total"] else "reused"


def _verdict(network: str, batch_size: int) -> str:
    """How far its numbers are from eager's, and what the compiler says when it may not leave a part out."""
    torch._dynamo.reset()
    exact_B = _dual_pass(_problem(network, torch.float32, batch_size))()
    found_B = _dual_pass(_compiled(_problem(network, torch.float32, batch_size)))()
    error = float((found_B - exact_B).norm() / exact_B.norm())
    torch._dynamo.reset()
    try:
        _dual_pass(_compiled(_problem(network, torch.float32, batch_size), fullgraph=True))()
    except Exception as refusal:  # whatever the compiler raises is the answer
        whole = f"not compiled as a whole ({type(refusal).__name__}: {str(refusal).splitlines()[0]})"
    else:
        whole = "compiled as a whole"
    return f"{whole}; as in the table, {error:.1e} from eager in fp32 (relative, Euclidean norm)"


if __name__ == "__main__":
    main()
