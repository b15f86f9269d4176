"""The tri-level optimum on a finite domain, against training for the hardest delta fraction.

The paper (arXiv 2403.12236) says that its tri-level problem tends, in a growing pool, to
`max over validation sets of size delta N, of min over classifiers of the validation loss`. Here every level
is solved exactly, so that the claim can be looked at.

Setting. Points x of a finite domain, labels y in {0, 1}, a pool of N pairs; examples of the same x share one
free probability p(x) = P(y = 1), kept within [CLIP, 1 - CLIP] so that losses (cross-entropy, nats) stay
bounded.

- Bottom, the classifier. The weighted loss separates by x, and p(x) is the weighted share of label 1 among
  the training examples at x, clipped. Where no training example has weight, p(x) = 1/2: nothing was learned.
- Middle, the weights. The validation loss sees them through p alone, so the middle problem is: for each x,
  the best p(x) among those that some weights can produce (`best_response`). Both labels in training: every
  p, so the validation share itself. One label only: that label, and 1/2 too if its weights may be 0. Neither:
  1/2. Scaling all weights changes nothing, so the simplex gives the same, but something must have weight.
- Top, the validation set. Its best-response loss is a sum over x of a function of how many examples of each
  label were taken there, so a max-plus convolution over x maximises over all sets of size k = floor(delta N).

The other side is min over p of the mean loss of the k worst examples, the CVaR of Rockafellar and Uryasev
(2000, Journal of Risk 2), with fractional membership. It is at least the max-min over whole sets, by what
cannot be divided.

RULES say what the weights are and whether validation examples train:

kept         free weights, validation examples stay in training (`--train-on all`)
overlap      removed, but the splitter leaves one example of every (x, y) that it takes from
nonnegative  removed, weights >= 0, one an example
positive     removed, weights > 0 (what exp(log-weight) gives)
x-only       removed, weights phi(x) > 0 that do not see the label, as the paper writes them

What follows, and the tables show:

- Where every (x, y) of the validation set is in training too, the middle level reaches min over p: no weights
  do better, some do as well. Under `kept` that is so for every set: tri-level and max-min are the same number
  at every N. Under `overlap` it is so for every set that is allowed, and what is forbidden, one example of
  each (x, y), matters less and less. This is the paper's "equal supports"; the weights must see the label.
- An (x, y) of probability below delta can be taken whole, and training has then nothing to put weight on: the
  gap stays, however large the pool. Weights that may be 0 escape where the hardest subset costs log 2 anyway,
  for they can always have p(x) = 1/2.
- phi(x) cannot move a free p(x) at all: under `x-only` the middle level is idle.
- A hardest-subset classifier is p(x) = the share of label 1, clipped to a band around 1/2 (`hardest_subset`):
  it takes no decision against ERM's. Once twice the minority labels reach delta the band is 1/2 alone, for
  the adversary takes as many of one label as of the other. So label noise that is frequent enough for overlap
  to hold by itself (more than delta of either label) makes the objective trivial.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, stats

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from harness import print_table, progress

from molere_cli.foundation.files import write_json
from molere_cli.splits.quota import validation_size
from molere_cli.training.run_environment import source_commit, versions

# Shapes: X points of the domain, 2 labels, N examples of the pool.
Array = NDArray[Any]

RULES = ("kept", "overlap", "nonnegative", "positive", "x-only")
CLIP = 0.01
UNTRAINED = 0.5
DELTA = 0.1
TOLERANCE = 1e-6
SIZES = (10, 20, 40, 80, 160, 320, 640, 1280)
RESULT = Path(__file__).parent / "results" / "theory.json"


@dataclass(frozen=True)
class Domain:
    """A distribution: P(x) and P(y = 1 | x) of each point."""

    name: str
    point_probs: tuple[float, ...]
    label_probs: tuple[float, ...]
    note: str

    @property
    def mass_X2(self) -> Array:
        """P(x, y)."""
        point_X, label_X = np.array(self.point_probs), np.array(self.label_probs)
        return np.stack([point_X * (1 - label_X), point_X * label_X], axis=1)


DOMAINS = (
    Domain("frequent labels", (0.5, 0.5), (0.3, 0.4), "every (x, y) has more than delta"),
    Domain(
        "noisy", (1 / 3, 1 / 3, 1 / 3), (0.05, 0.1, 0.2), "minority labels: each below delta, 2 x all above"
    ),
    Domain("rare labels", (1 / 3, 1 / 3, 1 / 3), (0.0, 0.02, 0.05), "2 x all minority labels: below delta"),
    Domain("rare point", (0.55, 0.4, 0.05), (0.0, 1.0, 1.0), "no label noise; one x below delta"),
)


# --- bottom: the classifier


def trained_prediction(weight_X2: Array) -> Array:
    """p(x) that minimises the weighted cross-entropy within [CLIP, 1 - CLIP]; UNTRAINED without weight."""
    total_X = weight_X2.sum(axis=-1)
    share_X = np.divide(weight_X2[..., 1], total_X, out=np.full(total_X.shape, UNTRAINED), where=total_X > 0)
    clipped_X: Array = share_X.clip(CLIP, 1 - CLIP)
    return clipped_X


def loss_sum(count_X2: Array, prediction_X: Array | float) -> Array:
    """Cross-entropy summed over the examples at each x, nats."""
    return np.asarray(
        -count_X2[..., 1] * np.log(prediction_X) - count_X2[..., 0] * np.log1p(-np.asarray(prediction_X))
    )


# --- middle: the weights


def best_response(val_X2: Array, pool_X2: Array, rule: str) -> Array:
    """Validation loss at each x, summed, under the best weights; -inf where the rule forbids the set.

    Args:
        val_X2, pool_X2: how many examples of each label are in validation, and in the pool.
    """
    train_X2 = pool_X2 - val_X2
    free_X = loss_sum(val_X2, trained_prediction(val_X2))
    if rule == "kept":
        return free_X
    if rule == "overlap":
        emptied_X = ((val_X2 > 0) & (train_X2 == 0)).any(axis=-1)
        return np.where(emptied_X, -np.inf, free_X)
    fixed_X = loss_sum(val_X2, trained_prediction(train_X2))
    if rule == "x-only":
        return fixed_X
    # With one label in training, or none, the prediction is what it is under any positive weights.
    positive_X = np.where((train_X2 > 0).all(axis=-1), free_X, fixed_X)
    if rule == "positive":
        return positive_X
    assert rule == "nonnegative"
    return np.minimum(positive_X, loss_sum(val_X2, UNTRAINED))


# --- top: the validation set


def tri_level(pool_X2: Array, size: int, rule: str) -> float:
    """Largest mean best-response loss over all validation sets of `size` examples of the pool."""
    best = np.full(size + 1, -np.inf)
    best[0] = 0.0
    for pool_2 in pool_X2:
        best = max_plus(best, best_by_size(pool_2, size, rule))
    return float(best[size]) / size


def best_by_size(pool_2: Array, size: int, rule: str) -> Array:
    """At one x: the largest best-response loss of 0, 1, ..., `size` examples taken from there."""
    zeros, ones = (np.arange(min(count, size) + 1) for count in pool_2)
    val_VW2 = np.stack(np.meshgrid(zeros, ones, indexing="ij"), axis=-1)
    loss_VW = best_response(val_VW2, pool_2, rule)
    taken_VW = val_VW2.sum(axis=-1)
    within_VW = taken_VW <= size
    best = np.full(size + 1, -np.inf)
    np.maximum.at(best, taken_VW[within_VW], loss_VW[within_VW])
    return best


def max_plus(one: Array, other: Array) -> Array:
    """max over j of one[j] + other[m - j], for each m."""
    best = np.full(len(one), -np.inf)
    for taken, value in enumerate(one):
        np.maximum(best[taken:], value + other[: len(one) - taken], out=best[taken:])
    return best


def brute_force(points_N: Array, labels_N: Array, size: int, rule: str, *, num_points: int) -> float:
    """The same as `tri_level`, by trying every subset of the examples."""
    pool_X2 = count_cells(points_N, labels_N, num_points=num_points)
    subsets = (list(chosen) for chosen in itertools.combinations(range(len(points_N)), size))
    return max(
        float(best_response(val_X2, pool_X2, rule).sum()) / size
        for val_X2 in (
            count_cells(points_N[chosen], labels_N[chosen], num_points=num_points) for chosen in subsets
        )
    )


def count_cells(points: Array, labels: Array, *, num_points: int) -> Array:
    """How many examples there are of each (x, y), int (X, 2)."""
    return np.bincount(2 * points + labels, minlength=2 * num_points).reshape(num_points, 2)


# --- the hardest subset


def hardest_subset(count_X2: Array, size: float) -> tuple[float, Array]:
    """min over p of the mean loss of the worst `size` of the examples, and the p(x) that does it.

    CVaR = min over t and p of t + sum (loss - t)+ / size. For a given t, a loss above t is worth lowering
    until the other label's rises above t too, so p(x) is the share of label 1 clipped to
    [1 - exp(-t), exp(-t)].
    At t = log 2 that is 1/2 and no loss is above t, so t need not be larger.

    Args:
        count_X2: examples or probabilities of each (x, y), in the unit of `size`.
    """

    def prediction(threshold: float) -> Array:
        low = max(CLIP, -np.expm1(-threshold))
        return trained_prediction(count_X2).clip(low, max(low, min(1 - CLIP, np.exp(-threshold))))

    def objective(threshold: float) -> float:
        p_X = prediction(threshold)
        loss_X2 = np.stack([-np.log1p(-p_X), -np.log(p_X)], axis=1)
        return threshold + float((count_X2 * (loss_X2 - threshold).clip(0)).sum()) / size

    found = optimize.minimize_scalar(
        objective, bounds=(0.0, np.log(2)), method="bounded", options={"xatol": 1e-13}
    )
    threshold = min((float(found.x), float(np.log(2))), key=objective)
    return objective(threshold), prediction(threshold)


# --- checks by other means


def searched_response(val_X2: Array, pool_X2: Array, rule: str, generator: np.random.Generator) -> float:
    """The middle level by numerical search over the log-weights of single training examples."""
    train_X2 = pool_X2 if rule == "kept" else pool_X2 - val_X2
    num_points = len(pool_X2)
    cells = np.repeat(np.arange(train_X2.size), train_X2.ravel())

    def loss(log_weights: Array, on_X: Array) -> float:
        shared = log_weights[cells // 2] if rule == "x-only" else log_weights
        weight_X2 = np.bincount(cells, np.exp(shared), minlength=train_X2.size).reshape(-1, 2)
        return float(loss_sum(val_X2, trained_prediction(weight_X2 * on_X[:, None])).sum())

    num_weights = num_points if rule == "x-only" else len(cells)
    starts = [np.zeros(num_weights), *generator.normal(0, 1, (2, num_weights))]
    # Weights of exactly 0 cannot be reached through a logarithm: whole points are switched off instead.
    switches = itertools.product((1, 0), repeat=num_points) if rule == "nonnegative" else [(1,) * num_points]
    return min(
        float(
            optimize.minimize(
                loss, start, args=(np.array(on),), method="L-BFGS-B", bounds=[(-12, 12)] * num_weights
            ).fun
        )
        for on in switches
        for start in starts
    )


def run_checks(generator: np.random.Generator, *, num_pools: int) -> dict[str, float]:
    """Largest differences in mean loss: every subset v convolution, searched weights v closed form."""
    top, middle = 0.0, 0.0
    size, num_examples = 4, 12
    for domain, _, rule in itertools.product(DOMAINS, range(num_pools), RULES):
        num_points = len(domain.point_probs)
        cells = generator.choice(2 * num_points, num_examples, p=domain.mass_X2.ravel())
        points, labels = cells // 2, cells % 2
        pool_X2 = count_cells(points, labels, num_points=num_points)
        by_subsets = brute_force(points, labels, size, rule, num_points=num_points)
        by_convolution = tri_level(pool_X2, size, rule)
        if by_subsets != by_convolution:  # both are -inf where overlap allows no set
            top = max(top, abs(by_subsets - by_convolution))
        chosen = generator.permutation(num_examples)[:size]
        val_X2 = count_cells(points[chosen], labels[chosen], num_points=num_points)
        closed = float(best_response(val_X2, pool_X2, rule).sum())
        if np.isfinite(closed):
            searched = searched_response(val_X2, pool_X2, rule, generator)
            middle = max(middle, abs(searched - closed) / size)
    return {"every_subset": top, "searched_weights": middle}


# --- experiment


def measure(domain: Domain, num_examples: int, *, num_pools: int, seed: int) -> dict[str, Any]:
    """Hardest-subset value and gaps (tri-level less hardest subset, nats an example) over random pools."""
    generator = np.random.default_rng([seed, DOMAINS.index(domain), num_examples])
    size = validation_size(num_examples, delta=DELTA)
    hardest, gaps = [], {rule: np.empty(num_pools) for rule in RULES}
    for number in range(num_pools):
        pool_X2 = generator.multinomial(num_examples, domain.mass_X2.ravel()).reshape(-1, 2)
        value, _ = hardest_subset(pool_X2, size)
        hardest.append(value)
        for rule in RULES:
            gaps[rule][number] = tri_level(pool_X2, size, rule) - value
    return {
        "pool": num_examples,
        "validation": size,
        "hardest_subset": interval(hardest),
        "gap": {rule: interval(values) for rule, values in gaps.items()},
        # Above what overlap allows: the best validation set takes all training examples of some (x, y).
        "emptying_pays": float((gaps["nonnegative"] > gaps["overlap"] + 1e-9).mean()),
    }


def interval(values: Sequence[float] | Array) -> dict[str, float]:
    """Mean and half width of its 95% interval (Student's t)."""
    factor = float(stats.t.ppf(0.975, len(values) - 1))
    half_width = factor * float(np.std(values, ddof=1)) / len(values) ** 0.5
    return {"mean": round(float(np.mean(values)), 6), "half_width": round(half_width, 6)}


def experiment(*, sizes: Sequence[int], num_pools: int, seed: int) -> Iterator[dict[str, Any]]:
    """One table a domain."""
    for domain in DOMAINS:
        value, prediction_X = hardest_subset(domain.mass_X2, DELTA)
        progress(domain.name)
        yield {
            "name": domain.name,
            "note": domain.note,
            "mass": domain.mass_X2.round(6).tolist(),
            "limit": {"hardest_subset": round(value, 6), "prediction": prediction_X.round(6).tolist()},
            "rows": [measure(domain, size, num_pools=num_pools, seed=seed) for size in sizes],
        }


def show(table: dict[str, Any]) -> None:
    """A domain's table in Markdown."""
    limit = table["limit"]
    predictions = ", ".join(f"{p:.3f}" for p in limit["prediction"])
    cells = "; ".join(f"{zero:.3f} / {one:.3f}" for zero, one in table["mass"])
    print(f"### {table['name']}: {table['note']}\n")
    print(f"P(x, y), label 0 / label 1: {cells}. Hardest subset in the limit: {limit['hardest_subset']:.4f},")
    print(f"at p(x) = {predictions}.\n")
    rows = [
        [
            str(row["pool"]),
            str(row["validation"]),
            f"{row['hardest_subset']['mean']:.3f}",
            *(f"{gap['mean']:+.4f} ± {gap['half_width']:.4f}" for gap in row["gap"].values()),
            f"{row['emptying_pays']:.0%}",
        ]
        for row in table["rows"]
    ]
    print_table(["N", "k", "hardest subset", *(f"gap: {rule}" for rule in RULES), "emptying pays"], rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--pools", type=int, default=200, help="random pools a row (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="few small pools, to see that it works")
    parser.add_argument("--out", type=Path, default=RESULT, help="result file (default: %(default)s)")
    options = parser.parse_args()
    sizes, num_pools = (SIZES[:3], 5) if options.quick else (SIZES, options.pools)
    checks = run_checks(np.random.default_rng(options.seed), num_pools=1 if options.quick else 4)
    if max(checks.values()) > TOLERANCE:
        sys.exit(f"theory.py: the closed forms differ from the checks: {checks}")
    print("## Tri-level optimum less hardest-subset min-max\n")
    print(f"- delta {DELTA}, {num_pools} pools a row, seed {options.seed}; p(x) within [{CLIP}, {1 - CLIP}]")
    print(
        "- Mean cross-entropy of the validation set in nats; gaps with 95% intervals (Student's t) over pools"
    )
    print(
        "- gap: kept is the gap of the max-min over whole validation sets, too: the two are the same number"
    )
    print("- emptying pays: share of pools whose best validation set, under nonnegative weights, takes every")
    print("  training example of some (x, y)")
    every_subset, searched = checks["every_subset"], checks["searched_weights"]
    print(f"- Checks: every subset {every_subset:.1e}, searched weights {searched:.1e}")
    print("  (largest difference in mean loss)\n")
    tables = []
    for table in experiment(sizes=sizes, num_pools=num_pools, seed=options.seed):
        show(table)
        tables.append(table)
    setting = {"delta": DELTA, "clip": CLIP, "untrained": UNTRAINED, "pools": num_pools, "seed": options.seed}
    write_json(
        options.out,
        {
            "format_version": 1,
            "setting": setting,
            "versions": {**versions(), "scipy": version("scipy")},
            "commit": source_commit(),
            "checks": checks,
            "domains": tables,
        },
    )
    progress(f"written: {options.out}")


if __name__ == "__main__":
    main()
