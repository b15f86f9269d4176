"""How exact the hypergradient is in fp32 and in bf16, on real images."""

from __future__ import annotations

from statistics import median

import harness
import peers
import torch
from one_step import (
    CPU,
    NETWORKS,
    LabelledImages,
    Problem,
    error_and_cosine,
    forward_mode,
    forward_mode_alone,
    real_batches,
)
from torch import Tensor

from molere_cli.engine.random_state import RandomState


def ours(problem: Problem) -> Tensor:
    return forward_mode_alone(problem, harness.Clock())


def bf16_passes(problem: Problem) -> Tensor:
    """The validation and the dual pass in bf16, through a step that was taken in fp32."""
    before, randomness = problem.copy_of_parameters(), RandomState.capture(CPU)
    problem.step()
    problem.classifier.precision = torch.bfloat16
    return forward_mode(problem, before, randomness)


def second_order(problem: Problem) -> Tensor:
    found = peers.second_order(problem)(harness.Clock())
    assert found is not None
    return found


def main() -> None:
    parser = harness.option_parser(__doc__, repetitions=5)
    parser.add_argument("--networks", nargs="+", choices=list(NETWORKS), default=list(NETWORKS))
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument(
        "--warmup",
        type=int,
        default=10,
        help="steps of SGD beforehand, as in training (default: %(default)s)",
    )
    quick = {"batch_size": 8, "repetitions": 2, "networks": ["wrn16_2"], "warmup": 1}
    options = harness.parse(parser, quick=quick)
    harness.print_header(
        "Exactness of the hypergradient",
        f"CIFAR-10 images, batch {options.batch_size}, the same for validation; at each of "
        f"{options.repetitions} steps of SGD (lr 0.1) after {options.warmup} others, each on its own batch; "
        "train mode",
        "bf16 passes: validation and dual pass in bf16, through a step in fp32; bf16 throughout: the step as "
        "well, so that it is another step than the one that float64 takes",
        "Against second-order autograd in float64 at the same parameters; error: relative, Euclidean norm",
    )
    rows = []
    for network in options.networks:
        rows += _measure(network, options.batch_size, num_steps=options.repetitions, warmup=options.warmup)
    columns = ["network", "by", "error, median", "error, worst", "cosine, median", "cosine, worst"]
    harness.print_table(columns, rows)


def _measure(network: str, batch_size: int, *, num_steps: int, warmup: int) -> list[list[str]]:
    size = NETWORKS[network][1]
    batches = real_batches(size, batch_size, num_batches=2 * (num_steps + warmup))
    found: dict[str, list[tuple[float, float]]] = {}
    state: dict[str, Tensor] | None = None
    for step in range(warmup + num_steps):
        pair = (batches[2 * step], batches[2 * step + 1])

        def problem(
            dtype: torch.dtype = torch.float32,
            precision: torch.dtype = torch.float32,
            pair: tuple[LabelledImages, LabelledImages] = pair,
            state: dict[str, Tensor] | None = state,
        ) -> Problem:
            return Problem(
                network, batch_size=batch_size, dtype=dtype, precision=precision, state=state, batches=pair
            )

        if step >= warmup:
            harness.progress(f"{network}, step {step - warmup + 1} of {num_steps}")
            exact_B = second_order(problem(torch.float64))
            for name, found_B in {
                "MOLERE, fp32": ours(problem()),
                "second order, fp32": second_order(problem()),
                "MOLERE, bf16 passes": bf16_passes(problem()),
                "MOLERE, bf16 throughout": ours(problem(precision=torch.bfloat16)),
            }.items():
                found.setdefault(name, []).append(error_and_cosine(found_B, exact_B))
        trained = problem()
        trained.step()
        state = {name: value.clone() for name, value in trained.module.state_dict().items()}
    return [
        [
            network,
            name,
            f"{median(e for e, _ in values):.1e}",
            f"{max(e for e, _ in values):.1e}",
            f"{median(c for _, c in values):.6f}",
            f"{min(c for _, c in values):.6f}",
        ]
        for name, values in found.items()
    ]


if __name__ == "__main__":
    main()
