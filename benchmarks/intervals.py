"""Whether 95% intervals hold the true gain: simulated runs whose gain is known.

Every test example has a difficulty, and something that the method makes easier or harder for it; every run
has luck of its own, and so has every draw of the data. An example is right where their sum is above 0. What
an interval is to hold is then a normal integral:

- over seeds: the mean over seeds on these test examples, with the data as drawn (`estimate`),
- over draws: the mean over draws of the data, on these test examples (`estimate`, of each draw the mean),
- seeds x examples: the mean over seeds and test examples (`crossed_estimate`),
- over examples: the gain of one pair of runs on all test examples that there might be (`example_estimate`).

Exits with 1 if one covers in less than 93% or more than 97% of the simulations.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass

import harness
import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from molere_cli.report.statistics import Estimate, crossed_estimate, estimate, example_estimate

Array = NDArray[np.float64]
Simulation = Callable[["World", np.random.Generator, int], tuple[Estimate, float]]

LOWEST, HIGHEST = 0.93, 0.97
SEEDS_A_DRAW = 3


@dataclass(frozen=True)
class World:
    """Standard deviations of what decides whether an example is right, and how much of it there is."""

    name: str
    num_examples: int
    luck_of_runs: float
    luck_of_draws: float = 0.05
    difficulty: float = 1.0
    response: float = 0.3
    rest: float = 0.5
    level: float = 0.5
    benefit: float = 0.1

    def examples(self, generator: np.random.Generator) -> tuple[Array, Array]:
        """The mean, over runs, of what decides: without the method and with it, (I,) each."""
        difficulty_I = self.level + self.difficulty * generator.normal(size=self.num_examples)
        response_I = self.benefit + self.response * generator.normal(size=self.num_examples)
        return difficulty_I, difficulty_I + response_I

    def differences(
        self, means: tuple[Array, Array], luck: tuple[Array, Array], generator: np.random.Generator
    ) -> Array:
        """100 * (right with the method - right without), (S, I), of runs with this luck, (S,) each."""
        right = [
            mean_I + luck_S[:, None] + self.rest * generator.normal(size=(len(luck_S), len(mean_I))) > 0
            for mean_I, luck_S in zip(means, luck, strict=True)
        ]
        return 100 * (right[1].astype(float) - right[0].astype(float))

    def luck(self, generator: np.random.Generator, number: int) -> tuple[Array, Array]:
        """Of so many pairs of runs on one draw."""
        plain_S, method_S = self.luck_of_runs * generator.normal(size=(2, number))
        return plain_S, method_S


def over_seeds(world: World, generator: np.random.Generator, number: int) -> tuple[Estimate, float]:
    means = world.examples(generator)
    found_SI = world.differences(means, world.luck(generator, number), generator)
    return estimate(found_SI.mean(axis=1).tolist()), on_these(means, world.rest, world.luck_of_runs)


def over_draws(world: World, generator: np.random.Generator, number: int) -> tuple[Estimate, float]:
    means, gains = world.examples(generator), []
    for _draw in range(number):
        plain_S, method_S = world.luck(generator, SEEDS_A_DRAW)
        shared = world.luck_of_draws * generator.normal(size=2)
        luck = (plain_S + shared[0], method_S + shared[1])
        gains.append(float(world.differences(means, luck, generator).mean()))
    return estimate(gains), on_these(means, world.rest, world.luck_of_runs, world.luck_of_draws)


def seeds_and_examples(world: World, generator: np.random.Generator, number: int) -> tuple[Estimate, float]:
    means = world.examples(generator)
    found_SI = world.differences(means, world.luck(generator, number), generator)
    return crossed_estimate(found_SI), on_all(world, (0.0, 0.0), world.luck_of_runs)


def over_examples(world: World, generator: np.random.Generator, _number: int) -> tuple[Estimate, float]:
    luck = world.luck(generator, 1)
    found_SI = world.differences(world.examples(generator), luck, generator)
    return example_estimate(found_SI[0]), on_all(world, (float(luck[0][0]), float(luck[1][0])))


def on_these(means: tuple[Array, Array], *deviations: float) -> float:
    """The expected gain on these test examples, in points, over what has these deviations."""
    spread = np.hypot.reduce(deviations)
    return 100 * float(np.mean(norm.cdf(means[1] / spread) - norm.cdf(means[0] / spread)))


def on_all(world: World, luck: tuple[float, float], *deviations: float) -> float:
    """The expected gain on all test examples, of runs with this luck and others with these deviations."""
    spread = np.hypot.reduce([world.difficulty, world.rest, *deviations])
    with_method = (world.level + world.benefit + luck[1]) / np.hypot(spread, world.response)
    return 100 * float(norm.cdf(with_method) - norm.cdf((world.level + luck[0]) / spread))


WORLDS = [
    World("runs alike", 400, luck_of_runs=0.005),
    World("runs differ", 400, luck_of_runs=0.05),
    World("many examples", 2000, luck_of_runs=0.02),
]
INTERVALS: dict[str, Simulation] = {
    "over seeds": over_seeds,
    "over draws": over_draws,
    "seeds x examples": seeds_and_examples,
    "over examples": over_examples,
}


def coverage(simulation: Simulation, world: World, *, number: int, simulations: int) -> tuple[float, float]:
    """How often the interval holds the truth, and its median length in points."""
    generator = np.random.default_rng([number, world.num_examples])
    hits, lengths = [], []
    for _ in range(simulations):
        found, truth = simulation(world, generator, number)
        if found.low is None or found.high is None:
            continue  # no interval is offered
        hits.append(found.low <= truth <= found.high)
        lengths.append(found.high - found.low)
    return float(np.mean(hits)), float(np.median(lengths))


def main() -> int:
    parser = harness.option_parser(__doc__, repetitions=1000)
    parser.add_argument("--seeds", nargs="+", type=int, default=[3, 5, 10])
    options = harness.parse(parser, quick={"repetitions": 50})
    harness.print_header(
        "Coverage of 95% intervals", f"{options.repetitions} simulations each; lengths in percentage points"
    )
    rows, outside = [], 0
    for name, simulation in INTERVALS.items():
        for world in WORLDS:
            cells = []
            for number in [1] if name == "over examples" else options.seeds:
                share, length = coverage(simulation, world, number=number, simulations=options.repetitions)
                outside += not LOWEST <= share <= HIGHEST
                cells.append(f"{share:.1%} ({length:.1f})")
            rows.append([name, world.name, *cells, *[""] * (len(options.seeds) - len(cells))])
    harness.print_table(["interval", "world", *(f"n = {number}" for number in options.seeds)], rows)
    return 1 if outside and not options.quick else 0


if __name__ == "__main__":
    sys.exit(main())
