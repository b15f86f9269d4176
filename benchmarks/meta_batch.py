"""What the size of the validation batch does to the hypergradient: its variance against its cost."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from statistics import fmean, median

import harness
import torch
from one_step import CPU, LR, NETWORKS, LabelledImages, Problem, forward_mode, real_batches
from torch import Tensor
from torch.nn import functional as F

from molere_cli.engine.random_state import RandomState

SIZES = (16, 32, 64, 128, 256, 512)
IMAGE_SIZE = 16
NETWORKS["small_cnn"] = ("small_cnn", IMAGE_SIZE)


@dataclass(frozen=True)
class Point:
    """A classifier somewhere in training, right after a step: the problem holds the parameters after it."""

    problem: Problem
    before: dict[str, Tensor]

    def hypergradient(self, val: LabelledImages) -> Tensor:
        """Of the mean loss on `val` after the step, by the step's weights, (B,)."""
        self.problem.val_images, self.problem.val_labels = val
        return forward_mode(self.problem, self.before, RandomState.capture(CPU))


def main() -> None:
    parser = harness.option_parser(__doc__, repetitions=20)
    parser.add_argument("--epochs", type=int, default=10, help="of training (default: %(default)s)")
    parser.add_argument("--train", type=int, default=5120, help="training examples (default: %(default)s)")
    parser.add_argument("--val", type=int, default=4096, help="validation pool (default: %(default)s)")
    parser.add_argument("--batch-size", type=int, default=128)
    options = harness.parse(parser, quick={"epochs": 2, "train": 512, "val": 512, "repetitions": 3})
    num_train, num_val = (count // options.batch_size for count in (options.train, options.val))
    batches = real_batches(IMAGE_SIZE, options.batch_size, num_batches=num_train + num_val)
    images, labels = (torch.cat(parts) for parts in zip(*batches[num_train:], strict=True))
    points = trained_points(batches[:num_train], (images, labels), num_epochs=options.epochs)
    harness.print_header(
        "The validation batch and the hypergradient",
        f"small_cnn on CIFAR-10 at {IMAGE_SIZE} px, fp32, {num_train * options.batch_size} training "
        f"examples, SGD with lr {LR}; through the first step after each of {len(points)} epochs, on another "
        f"training batch of {options.batch_size} each",
        f"{options.repetitions} validation batches of each size an epoch, independent of one another (drawn "
        f'with replacement) from {len(labels)} examples, over all of which ("the pool\'s") their '
        "expectation is taken: the network has no batch norm",
        "Cosine to the pool's; sign: share of training examples with the pool's; signal to noise: an "
        "example's value over the pool by the standard deviation of the draws, absolute, median over "
        "examples and epochs, which should grow with the root of the size",
        "Cost: validation gradient and dual pass over a plain step",
    )
    _measure(points, (images, labels), num_draws=options.repetitions)


def trained_points(training: list[LabelledImages], val: LabelledImages, *, num_epochs: int) -> list[Point]:
    """A point after every epoch over the training batches."""
    points = []
    state: dict[str, Tensor] | None = None
    for epoch in range(num_epochs):
        for batch in training:
            problem = _problem(state, batch, val)
            problem.step()
            state = problem.module.state_dict()
        harness.progress(f"epoch {epoch + 1} of {num_epochs}")
        problem = _problem(state, training[epoch % len(training)], val)
        before = problem.copy_of_parameters()
        problem.step()
        points.append(Point(problem, before))
    return points


def _problem(state: dict[str, Tensor] | None, batch: LabelledImages, val: LabelledImages) -> Problem:
    return Problem("small_cnn", batch_size=len(batch[1]), state=state, batches=(batch, val))


def _measure(points: list[Point], pool: LabelledImages, *, num_draws: int) -> None:
    generator = torch.Generator().manual_seed(0)
    exact_B = [point.hypergradient(pool) for point in points]
    cosines: dict[int, list[float]] = {size: [] for size in SIZES}
    signs: dict[int, list[float]] = {size: [] for size in SIZES}
    ratios: dict[int, list[float]] = {size: [] for size in SIZES}
    for number, (point, whole_B) in enumerate(zip(points, exact_B, strict=True)):
        harness.progress(f"draws of point {number + 1} of {len(points)}")
        for size in SIZES:
            found_RB = torch.stack(
                [point.hypergradient(_draw(pool, size, generator)) for _ in range(num_draws)]
            )
            cosines[size] += F.cosine_similarity(found_RB, whole_B[None], dim=1).tolist()
            signs[size].append(float((found_RB.sign() == whole_B.sign()).double().mean()))
            ratios[size] += (whole_B.abs() / found_RB.std(0)).tolist()
    timings = _timings(points[-1], {size: _draw(pool, size, generator) for size in SIZES}, num_draws)
    rows = [
        [
            str(size),
            f"{fmean(cosines[size]):.3f}",
            f"{torch.tensor(cosines[size]).quantile(0.05):.3f}",
            f"{min(cosines[size]):.3f}",
            f"{100 * fmean(signs[size]):.0f}%",
            f"{median(ratios[size]):.2f}",
            timings[str(size)].over(timings["plain step"]),
            timings[str(size)].spread,
        ]
        for size in SIZES
    ]
    columns = [
        "validation batch",
        "cosine, mean",
        "5% below",
        "worst",
        "sign",
        "signal to noise",
        "cost",
        "+-",
    ]
    harness.print_table(columns, rows)


def _timings(point: Point, val: dict[int, LabelledImages], num_rounds: int) -> dict[str, harness.Timing]:
    """Of a plain step and, by size, of what comes on top of it; the steps move on from the point."""
    updates = {str(size): partial(point.hypergradient, part) for size, part in val.items()}
    return harness.time_runs({"plain step": point.problem.step, **updates}, repetitions=num_rounds)


def _draw(pool: LabelledImages, size: int, generator: torch.Generator) -> LabelledImages:
    chosen = torch.randint(len(pool[1]), (size,), generator=generator)
    return pool[0][chosen].contiguous(memory_format=torch.channels_last), pool[1][chosen]


if __name__ == "__main__":
    main()
