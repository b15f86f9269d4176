"""The tables of docs/concepts/results.md and docs/guide/methods.md, as Markdown.

Each takes an experiment's name (and a variant) and reads the finished cells alone.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from fnmatch import fnmatch
from itertools import pairwise
from statistics import fmean

from cells import RESULTS, cells_of, results_of
from evidence import (
    count,
    ended,
    finished,
    hard_row,
    metric,
    oracle_rows,
    paired,
    programme,
    stopped,
)
from lines import Line, place, read_lines

from molere_cli.report.statistics import Estimate, spread

NOT_RUN = "*Not run yet.*"
ORDER = ("lrw-easy", "lrw-random", "lrw-hard", "molere")
# Where the oracle's runs are, if they are an experiment of their own on the same data.
ORACLES = {"shortcut": "oracle-groups"}


def summary_table(*names: str) -> str:
    """A line for each data: gains of the four methods over ERM, and the largest of the oracle's."""
    rows = []
    for name in names:
        suffix = hard_row(name).removeprefix("lrw-hard")
        for variant, part in programme()[name].variants.items():
            knower = ORACLES.get(name, name)
            oracles = [
                paired(knower, variant, row, "erm", metric("accuracy"))
                for row in oracle_rows(knower, variant)
            ]
            bound = max((found for found in oracles if found), key=lambda found: found.mean, default=None)
            rows.append(
                [
                    part.label,
                    str(count(name, variant, hard_row(name))),
                    *(gain(name, variant, f"{method}{suffix}") for method in ORDER),
                    points(bound),
                ]
            )
    headings = ["gain over ERM, points", "n", "LRW-Easy", "LRW-Random", "LRW-Hard", "MOLERE", "oracle"]
    return table(headings, rows)


def points(value: Estimate | None, *, factor: float = 100, digits: int = 1) -> str:
    """`+10.8 [+7.2, +14.5]`, in points; `+0.0 in all 5` where all pairs have the same."""
    if value is None:
        return "-"
    mean = f"{factor * value.mean:+.{digits}f}"
    if value.low is None or value.high is None:
        return f"{mean} (n 1)" if value.num_pairs == 1 else f"{mean} in all {value.num_pairs}"
    return f"{mean} [{factor * value.low:+.{digits}f}, {factor * value.high:+.{digits}f}]"


def gain(experiment: str, variant: str, row: str, baseline: str = "erm", of: str = "accuracy") -> str:
    """A paired gain as text, for the prose."""
    return points(paired(experiment, variant, row, baseline, metric(of)))


def mean_and_deviation(values: list[float], *, factor: float = 100, digits: int = 1) -> str:
    found = spread(values)
    mean = f"{factor * found.mean:.{digits}f}"
    return mean if found.std is None else f"{mean} ± {factor * found.std:.{digits}f}"


def table(headings: list[str], rows: list[list[str]]) -> str:
    """Markdown; the first column to the left, the others to the right."""
    lines = ["| " + " | ".join(headings) + " |", "|---" + "|---:" * (len(headings) - 1) + "|"]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def gains_table(
    experiment: str, variant: str, test_set: str = "test", *, only: Sequence[str] = ("*",)
) -> str:
    """Accuracy, gains over ERM, worst group where there are groups; of the rows that match a pattern."""
    everything, lost = finished(experiment, variant), stopped(experiment, variant)
    results = {
        row: by_seed for row, by_seed in everything.items() if any(fnmatch(row, pattern) for pattern in only)
    }
    if not results:
        return NOT_RUN
    first = next(iter(results.values()))
    grouped = "worst_group" in next(iter(first.values()))["metrics"][test_set]
    headings = ["method", "n", "accuracy, %", "gain, points", "margin gain x 100"]
    headings += ["worst group, %", "its gain, points"] if grouped else []
    rows = []
    for row, by_seed in results.items():
        label = programme()[experiment].rows[row].label
        cells = [f"{label} ({lost[row]})" if row in lost else label, str(len(by_seed))]
        cells.append(mean_and_deviation([r["metrics"][test_set]["accuracy"] for r in by_seed.values()]))
        for name in ("accuracy", "margin"):
            own = row == "erm"
            cells.append("-" if own else points(paired(experiment, variant, row, "erm", metric(name))))
        if grouped:
            cells.append(
                mean_and_deviation([r["metrics"][test_set]["worst_group"] for r in by_seed.values()])
            )
            worst = paired(experiment, variant, row, "erm", metric("worst_group"))
            cells.append("-" if row == "erm" else points(worst))
        rows.append(cells)
    return table(headings, rows)


def order_table(*names: str) -> str:
    """The paper's ordering, step by step: the paired difference of each pair of neighbours."""
    rows = []
    for name in names:
        own = programme()[name]
        for variant, part in own.variants.items():
            for suffix, kept in (("all", "kept in training"), ("train", "removed")):
                if f"lrw-hard-{suffix}" not in own.rows:
                    continue
                steps = [
                    points(paired(name, variant, f"{high}-{suffix}", f"{low}-{suffix}", metric("accuracy")))
                    for low, high in pairwise(ORDER)
                ]
                rows.append([f"{part.label}, {kept}", *steps])
    return table(["accuracy, points", "Random - Easy", "Hard - Random", "MOLERE - Hard"], rows)


def who_table(experiment: str, variant: str) -> str:
    """Who is in the validation set and who ends up with how much weight, means over seeds."""
    results = finished(experiment, variant)
    weighted = {row: runs for row, runs in results.items() if any("weights" in r for r in runs.values())}
    if not weighted:
        return NOT_RUN
    kinds = list(next(iter(next(iter(weighted.values())).values()))["pool"])
    rows = []
    for row, runs in weighted.items():
        has_weights = [r for r in runs.values() if "weights" in r]
        shares = [
            f"{share_of_validation(runs, kind)} / "
            f"{fmean(r['weights']['mean_by_kind'].get(kind, 1.0) for r in has_weights):.2f}"
            for kind in kinds
        ]
        ess = fmean(fmean(r["ess_by_epoch"]) for r in has_weights)
        rows.append([programme()[experiment].rows[row].label, *shares, f"{ess:.2f}"])
    return table(["share of validation / mean weight", *kinds, "ess"], rows)


def share_of_validation(runs: Mapping[int, Line], kind: str) -> str:
    """The mean share of a kind in the validation sets; `-` where there are none."""
    shares = [run["split"]["share_of_val"][kind] for run in runs.values() if "split" in run]
    return f"{100 * fmean(shares):.0f}%" if shares else "-"


def ablation_table(experiment: str, variant: str) -> str:
    """Gain over ERM of every row, and its paired difference to the defaults of its method."""
    results, lost = finished(experiment, variant), stopped(experiment, variant)
    if not results:
        return NOT_RUN
    rows = []
    for row in ended(experiment, variant):
        runs = results.get(row, {})
        base = "molere" if row.startswith("molere") else "lrw-hard"
        difference = paired(experiment, variant, row, base, metric("accuracy"))
        told_apart = difference is not None and difference.low is not None and difference.high is not None
        clear = told_apart and (difference.low > 0 or difference.high < 0)
        rows.append(
            [
                programme()[experiment].rows[row].label + (f" ({lost[row]})" if row in lost else ""),
                str(len(runs)),
                "-" if row == "erm" else gain(experiment, variant, row),
                "-" if row in (base, "erm") else points(difference),
                "yes" if clear and row not in (base, "erm") else "",
            ]
        )
    return table(["setting", "n", "gain over ERM", "v its default", "told apart"], rows)


def tuning_table(*names: str) -> str:
    """Tuning accuracy of every setting tried, and on average; the best of each method is marked."""
    rows, scores = [], {}
    variants = list(dict.fromkeys(v for name in names for v in programme()[name].variants))
    for name in names:
        by_variant = {variant: finished(name, variant) for variant in programme()[name].variants}
        for row, part in programme()[name].rows.items():
            means = [
                fmean(r["metrics"]["tuning"]["accuracy"] for r in found[row].values())
                for found in by_variant.values()
                if row in found
            ]
            if len(means) == len(by_variant):
                scores[part.label] = means
    if not scores:
        return NOT_RUN
    best = {
        method: max((label for label in scores if label.startswith(method)), key=lambda k: fmean(scores[k]))
        for method in dict.fromkeys(label.partition(",")[0] for label in scores)
    }
    for label, means in scores.items():
        mark = " **best**" if label in best.values() else ""
        average = [f"{100 * fmean(means):.1f}{mark}"]
        each = [f"{100 * mean:.1f}" for mean in means] if len(means) > 1 else []
        rows.append([label, *each, *average])
    labels = [programme()[names[0]].variants[variant].label for variant in variants]
    return table(["tuning accuracy, %", *(labels if len(labels) > 1 else []), "mean"], rows)


def diagnosis_table() -> str:
    """Advice beside the gain of LRW-Hard on that pool; right if the gain has the sign foretold."""
    rows, right, judged = [], 0, 0
    for found in read_lines(results_of("diagnosis")).values():
        experiment, variant, _, seed = place(found["cell"])
        results = finished(experiment, variant)
        runs = [results.get(row, {}).get(seed) for row in (hard_row(experiment), "erm")]
        verdict = gained = "-"
        if all(runs) and found["advice"] != "unclear":
            difference = 100 * (
                runs[0]["metrics"]["test"]["accuracy"] - runs[1]["metrics"]["test"]["accuracy"]
            )
            judged += 1
            correct = (difference > 0) == (found["advice"] == "reweight")
            right += correct
            gained, verdict = f"{difference:+.1f}", "yes" if correct else "no"
        rows.append(
            [
                f"{programme()[experiment].variants[variant].label}, seed {seed}",
                f"{100 * found['hard']['plain']:.0f} -> {100 * found['hard']['upweighted']:.0f}",
                f"{100 * found['others']['plain']:.0f} -> {100 * found['others']['upweighted']:.0f}",
                found["advice"],
                gained,
                verdict,
            ]
        )
    if not rows:
        return NOT_RUN
    headings = ["pool", "hard, right %", "others, right %", "advice", "gain of LRW-Hard", "right"]
    return table(headings, rows) + f"\n\nRight in {right} of {judged} that can be judged."


def oracle_table() -> str:
    """Gain of the oracle's weights over ERM, beside LRW-Hard's; tables of methods show their own."""
    rows = [
        [
            f"{part.label}, {experiment.rows[row].label.removeprefix('oracle: ')}",
            str(count(name, variant, row)),
            gain(name, variant, row),
            gain(name, variant, hard_row(name)),
        ]
        for name, experiment in programme().items()
        if not name.startswith("methods-")
        for variant, part in experiment.variants.items()
        for row in oracle_rows(name, variant)
    ]
    return table(["data, what the oracle weighs by", "n", "oracle", "LRW-Hard"], rows)


def signal_table() -> str:
    """Signal to noise and mean alignments along training."""
    rows = []
    for found in read_lines(results_of("signal")).values():
        experiment, variant, _, _ = place(found["cell"])
        for epoch in found["epochs"]:
            kinds = epoch["alignment_by_kind"]
            named = ", ".join(
                f"{kind} {value:+.2f}"
                for kind, value in kinds.items()
                if kind != "other" and value is not None
            )
            rows.append(
                [
                    programme()[experiment].variants[variant].label,
                    str(epoch["epoch"]),
                    f"{100 * epoch['train_accuracy']:.0f}",
                    f"{epoch['mean_absolute_alignment']:.3g}",
                    "-" if epoch["signal_to_noise"] is None else f"{epoch['signal_to_noise']:.2f}",
                    named,
                ]
            )
    headings = ["data", "epoch", "train acc, %", "mean abs alignment", "signal to noise", "who it favours"]
    return table(headings, rows) if rows else NOT_RUN


def theory_table() -> str:
    """The gap of each domain under each rule at the smallest, a middling and the largest pool."""
    path = RESULTS / "theory.json"
    if not path.exists():
        return NOT_RUN
    theory = json.loads(path.read_text(encoding="utf-8"))
    rules = list(theory["domains"][0]["rows"][0]["gap"])
    rows = [
        [
            f"{domain['name']}: {domain['note']}" if number == 0 else "",
            str(row["pool"]),
            *(f"{row['gap'][rule]['mean']:+.3f} ± {row['gap'][rule]['half_width']:.3f}" for rule in rules),
        ]
        for domain in theory["domains"]
        for number, row in enumerate(r for r in domain["rows"] if r["pool"] in (20, 160, 1280))
    ]
    return table(["domain", "N", *rules], rows)


def status_table() -> str:
    """What of the programme is finished, and what it cost."""
    rows = []
    for name, experiment in programme().items():
        own = list(cells_of(name, experiment))
        done = [result for cell in own if (result := cell.result) is not None]
        minutes = sum(result.get("seconds", 0) for result in done) / 60
        rows.append([f"`{name}`", f"{len(done)} of {len(own)}", f"{minutes:.0f}", str(experiment.minutes)])
    return table(["experiment", "cells", "minutes of training", "its share"], rows)
