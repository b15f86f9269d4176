"""What the size of the validation batch does to the hypergradient: its variance against its cost."""

from __future__ import annotations

from statistics import median as middle

import torch
from harness import (
    Clock,
    interleave,
    median,
    option_parser,
    print_header,
    print_table,
    set_threads,
    spread,
    timed,
    times,
)
from one_step import CPU, LR, NETWORKS, LabelledImages, Problem, real_batches
from torch import Tensor
from torch.nn import functional as F

from molere_cli.engine.classifier import RandomState
from molere_cli.engine.hypergradient import alignment

SIZES = (16, 32, 64, 128, 256, 512)
POOL = 1024
IMAGE_SIZE = 16
NETWORKS["small_cnn"] = ("small_cnn", IMAGE_SIZE)


def main() -> None:
    parser = option_parser(__doc__, repetitions=20)
    parser.add_argument(
        "--steps", type=int, default=80, help="steps of SGD beforehand (default: %(default)s)"
    )
    parser.add_argument("--batch-size", type=int, default=128)
    options = parser.parse_args()
    set_threads(options.threads)
    if options.quick:
        options.steps, options.repetitions = 4, 3
    num_batches = options.steps + 1 + POOL // options.batch_size
    batches = real_batches(IMAGE_SIZE, options.batch_size, num_batches=num_batches)
    training, pool = batches[: options.steps + 1], batches[options.steps + 1 :]
    val = (torch.cat([images for images, _ in pool]), torch.cat([labels for _, labels in pool]))
    problem = trained_problem(training, val)
    print_header(
        "The validation batch and the hypergradient",
        f"small_cnn on CIFAR-10 at {IMAGE_SIZE} px after {options.steps} steps of SGD, lr {LR}; a training "
        f"batch of {options.batch_size}, {options.repetitions} validation batches a size, drawn from "
        f"{len(val[1])} examples",
        "Cosine to the hypergradient of all these; signal to noise: an example's mean over draws by its "
        "standard deviation, absolute, median over examples; sign: share of examples whose draw has the sign "
        "of all; cost: validation gradient and dual pass by a plain step",
    )
    exact_B = _hypergradient(problem, val)
    generator = torch.Generator().manual_seed(0)
    draws = {size: [_part(val, size, generator) for _ in range(options.repetitions)] for size in SIZES}
    seconds = interleave(
        {
            "plain step": lambda clock: _plain_step(problem, clock),
            **{
                str(size): timed(lambda part=parts[0]: _hypergradient(problem, part))
                for size, parts in draws.items()
            },
        },
        repetitions=options.repetitions,
    )
    base = median(seconds["plain step"])
    rows = []
    for size, parts in draws.items():
        found_RB = torch.stack([_hypergradient(problem, part) for part in parts])
        cosine_R = F.cosine_similarity(found_RB, exact_B[None], dim=1)
        ratio_B = found_RB.mean(0).abs() / found_RB.std(0)
        sign = float((found_RB.sign() == exact_B.sign()).double().mean())
        own = seconds[str(size)]
        rows.append(
            [
                str(size),
                f"{float(cosine_R.mean()):.3f}",
                f"{float(cosine_R.min()):.3f}",
                f"{middle(ratio_B.tolist()):.2f}",
                f"{100 * sign:.0f}%",
                times(median(own) / base),
                spread(own),
            ]
        )
    columns = ["validation batch", "cosine, mean", "cosine, worst", "signal to noise", "sign", "cost", "+-"]
    print_table(columns, rows)


def trained_problem(training: list[LabelledImages], val: LabelledImages) -> Problem:
    """A problem on the last training batch, after a step on each of the others."""
    state = None
    for batch in training:
        problem = Problem("small_cnn", batch_size=len(batch[1]), state=state, batches=(batch, val))
        if batch is not training[-1]:
            problem.step()
        state = {name: value.clone() for name, value in problem.module.state_dict().items()}
    return problem


def _part(val: LabelledImages, size: int, generator: torch.Generator) -> LabelledImages:
    chosen = torch.randperm(len(val[1]), generator=generator)[:size]
    return val[0][chosen], val[1][chosen]


def _plain_step(problem: Problem, clock: Clock) -> None:
    with clock:
        problem.step()
    problem.reset()


def _hypergradient(problem: Problem, val: LabelledImages) -> Tensor:
    """Up to its scale: the alignments of the training batch with the validation gradient, (B,)."""
    _, gradient = problem.classifier.validation_gradient(*val)
    parameters = problem.classifier.parameters
    losses = problem.classifier.step_losses(problem.images, problem.labels, RandomState.capture(CPU))
    return alignment(losses, parameters, {name: gradient[p] for name, p in parameters.items()})


if __name__ == "__main__":
    main()
