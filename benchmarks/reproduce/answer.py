"""The head of docs/concepts/results.md: gains at one setting for all data, beside JTT and weights that know.

Each function reads the finished cells alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from statistics import fmean

from evidence import Place, count, difference, finished, metric, programme
from lines import Line
from tables import NOT_RUN, gain, mean_and_deviation, points, table

from molere_cli.report.statistics import Estimate

EXPERIMENTS = ("auto-digits", "auto-cifar")
# Other experiments that have JTT and the oracle on the same pools, with the same seeds.
JTT: dict[tuple[str, str], Place] = {
    ("auto-digits", "rho-0.90"): ("shortcut", "rho-0.90", "jtt"),
    ("auto-digits", "rho-0.95"): ("shortcut", "rho-0.95", "jtt"),
    ("auto-digits", "rho-0.98"): ("shortcut", "rho-0.98", "jtt"),
    ("auto-cifar", "patch"): ("shortcut-natural", "rho-0.95", "jtt"),
}
ORACLE: dict[tuple[str, str], Place] = {
    ("auto-digits", "rho-0.90"): ("oracle-groups", "rho-0.90", "oracle"),
    ("auto-digits", "rho-0.95"): ("oracle-groups", "rho-0.95", "oracle"),
    ("auto-digits", "rho-0.98"): ("oracle-groups", "rho-0.98", "oracle-lr-0.01"),
    ("auto-digits", "noise-40"): ("oracle-clean", "noise-40", "oracle"),
    ("auto-cifar", "patch"): ("shortcut-natural", "rho-0.95", "oracle"),
    ("auto-cifar", "noise-40"): ("biased", "noise-40", "oracle-clean"),
    ("auto-cifar", "skew-50"): ("biased", "skew-50", "method-class-balanced"),
}
ACCURACY = metric("accuracy")


def places() -> Iterator[tuple[str, str]]:
    """Experiment and variant of every pool."""
    for experiment in EXPERIMENTS:
        for variant in programme()[experiment].variants:
            yield experiment, variant


def answer_table() -> str:
    """A line a pool."""
    rows = []
    for experiment, variant in places():
        erm = [
            run["metrics"]["test"]["accuracy"]
            for run in finished(experiment, variant).get("erm", {}).values()
        ]
        rows.append(
            [
                programme()[experiment].variants[variant].label,
                str(count(experiment, variant, "lrw-auto")),
                mean_and_deviation(erm) if erm else "-",
                gain(experiment, variant, "lrw-auto"),
                gain(experiment, variant, "molere-auto"),
                _elsewhere(JTT.get((experiment, variant))),
                _elsewhere(ORACLE.get((experiment, variant))),
            ]
        )
    return table(["data", "n", "ERM, %", "LRW-Auto", "MOLERE from auto", "JTT", "oracle"], rows)


def _elsewhere(place: Place | None) -> str:
    return "-" if place is None else gain(*place)


def chosen_table() -> str:
    """How often `auto` chose each target set, over seeds."""
    rows = []
    for experiment, variant in places():
        runs = finished(experiment, variant).get("lrw-auto", {}).values()
        if not runs:
            continue
        chosen = Counter(target_set(run) for run in runs)
        fractions = [run["split_from"]["share"] for run in runs]
        rows.append(
            [
                programme()[experiment].variants[variant].label,
                *(str(chosen[name]) if chosen[name] else "" for name in ("errors", "learnable", "nothing")),
                f"{100 * fmean(fractions):.1f}%",
            ]
        )
    headings = [
        "data",
        "errors",
        "learnable",
        "nothing (ERM)",
        "represented fraction of the pool, on average",
    ]
    return table(headings, rows) if rows else NOT_RUN


def target_set(run: Line) -> str:
    """What `--split auto` chose in a run."""
    came_from = run["split_from"]
    if came_from["share"] == 1:
        return "nothing"
    return "learnable" if came_from["score"] == "aum" else "errors"


def price(row: str) -> str:
    """Seconds of a row by those of ERM where weights were learned: least and largest mean of a pool."""
    ratios = []
    for experiment, variant in places():
        results = finished(experiment, variant)
        erm, runs = results.get("erm", {}), results.get(row, {})
        each = [
            runs[seed]["seconds"] / erm[seed]["seconds"]
            for seed in runs.keys() & erm.keys()
            if target_set(runs[seed]) != "nothing"
        ]
        if each:
            ratios.append(fmean(each))
    return f"{min(ratios):.2f} to {max(ratios):.2f}" if ratios else "-"


def gain_and_cost(experiment: str, variant: str, row: str) -> tuple[Estimate, float] | None:
    """The gain over ERM, and all that had to be trained for it in ERM runs; None if it was not run."""
    place = (experiment, variant, row)
    if row == "jtt":
        if (experiment, variant) not in JTT:
            return None
        place = JTT[experiment, variant]
    results = finished(*place[:2])
    gained = difference(place, (*place[:2], "erm"), ACCURACY)
    if gained is None:
        return None
    erm, runs = results["erm"], results[place[2]]
    seeds = runs.keys() & erm.keys()
    seconds = fmean(runs[seed]["seconds"] / erm[seed]["seconds"] for seed in seeds)
    before = 0.0 if row == "jtt" else fmean(_runs_before(runs[seed]) for seed in seeds)
    return gained, before + seconds


def _runs_before(run: Line) -> int:
    """What `--split auto` trained, in ERM runs: for scores, on halves, on halves with errors up-weighted."""
    return 3 if target_set(run) == "errors" else 2


def versus_jtt() -> str:
    """LRW less JTT on every pool that has both, as a sentence."""
    parts = []
    for (experiment, variant), place in JTT.items():
        found = difference((experiment, variant, "lrw-auto"), place, ACCURACY)
        label = programme()[experiment].variants[variant].label
        parts.append(f"{points(found)} on {label}")
    return f"LRW-Auto less JTT, paired by seed: {'; '.join(parts)}."
