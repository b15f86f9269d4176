"""What the finished cells say: results by row and seed, and gains paired by seed.

Tables, figures and prose of docs/concepts/results.md all read the files under results/ through here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import cache

from cells import Cell, Experiment, cells_of, experiments, results_of
from lines import Line, read_lines

from molere_cli.report.statistics import Estimate, estimate

Metric = Callable[[Line], float | None]
Place = tuple[str, str, str]
"""Experiment, variant, row."""


@cache
def programme() -> dict[str, Experiment]:
    return experiments()


@cache
def finished(experiment: str, variant: str) -> dict[str, dict[int, Line]]:
    """Results by row and seed, rows in the experiment's order; without the runs that stopped."""
    found: dict[str, dict[int, Line]] = {}
    for row, by_seed in ended(experiment, variant).items():
        if converged := {seed: result for seed, result in by_seed.items() if "stopped" not in result}:
            found[row] = converged
    return found


@cache
def ended(experiment: str, variant: str) -> dict[str, dict[int, Line]]:
    """Results by row and seed, rows in the experiment's order; a run that stopped has no metrics."""
    found: dict[str, dict[int, Line]] = {}
    for cell in cells_of(experiment, programme()[experiment]):
        if cell.variant == variant and (result := cell.result) is not None:
            found.setdefault(cell.row, {})[cell.seed] = result
    return {row: found[row] for row in programme()[experiment].rows if row in found}


def stopped(experiment: str, variant: str) -> dict[str, str]:
    """`3 of 5 stopped` by row, of the rows where some did."""
    found = ended(experiment, variant)
    counts = {row: sum("stopped" in result for result in runs.values()) for row, runs in found.items()}
    return {row: f"{num} of {len(found[row])} stopped" for row, num in counts.items() if num}


def metric(name: str, test_set: str = "test") -> Metric:
    """A metric of a cell; None where it has none."""
    return lambda result: result["metrics"][test_set].get(name)


def paired(experiment: str, variant: str, row: str, baseline: str, of: Metric) -> Estimate | None:
    """Mean difference between two rows over the seeds that both have; 95% interval by Student's t."""
    return difference((experiment, variant, row), (experiment, variant, baseline), of)


def difference(one: Place, other: Place, of: Metric) -> Estimate | None:
    """The same between rows of any two experiments on the same data."""
    ours, theirs = (finished(experiment, variant).get(row, {}) for experiment, variant, row in (one, other))
    pairs = [(of(ours[seed]), of(theirs[seed])) for seed in sorted(ours.keys() & theirs.keys())]
    gains = [a - b for a, b in pairs if a is not None and b is not None]
    return estimate(gains) if gains else None


def count(experiment: str, variant: str, row: str) -> int:
    """How many seeds a row and ERM share."""
    results = finished(experiment, variant)
    return len(results.get(row, {}).keys() & results.get("erm", {}).keys())


def hard_row(experiment: str) -> str:
    """How an experiment calls LRW-Hard that keeps its validation examples in training."""
    return "lrw-hard-all" if "lrw-hard-all" in programme()[experiment].rows else "lrw-hard"


def unmeasured(name: str, pools: Iterable[str], seeds: Iterable[int]) -> Iterator[Cell]:
    """The cells of LRW-Hard in these experiments that a measurement has no line of."""
    wanted, path = set(seeds), results_of(name)
    for pool in pools:
        for cell in cells_of(pool, programme()[pool]):
            if cell.row == hard_row(pool) and cell.seed in wanted and cell.name not in read_lines(path):
                yield cell


def oracle_rows(experiment: str, variant: str) -> list[str]:
    """The finished rows of a variant whose weights know the groups, classes or wrong labels."""
    rows = programme()[experiment].rows
    return [row for row in finished(experiment, variant) if rows[row].settings.get("method") == "oracle"]
