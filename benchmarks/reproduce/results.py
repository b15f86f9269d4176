"""Write docs/results.md, its figures and the tables of docs/methods.md from the files under results/ alone.

`--check` says whether they are current.

    python benchmarks/reproduce/results.py

The prose is in results.md.j2; every number comes from a cell file, or from a measurement's own file there.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import cache
from itertools import pairwise
from pathlib import Path
from statistics import fmean
from typing import Any

from cells import HERE, RESULTS, Experiment, cells_of, experiments, read_result
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from molere_cli.report.statistics import Estimate, estimate, spread

DOCS = HERE.parents[1] / "docs"
PAGE, METHODS, FIGURES = DOCS / "results.md", DOCS / "methods.md", DOCS / "figures"
MARGIN_ROWS = ("erm", "erm-hard-train", "lrw-easy-all", "lrw-random-all", "lrw-hard-all", "molere-all")

Result = dict[str, Any]
Metric = Callable[[Result], float | None]


@cache
def programme() -> dict[str, Experiment]:
    return experiments()


@cache
def finished(experiment: str, variant: str) -> dict[str, dict[int, Result]]:
    """Results by row and seed, rows in the experiment's order; without the runs that stopped."""
    found: dict[str, dict[int, Result]] = {}
    for row, by_seed in ended(experiment, variant).items():
        if converged := {seed: result for seed, result in by_seed.items() if "stopped" not in result}:
            found[row] = converged
    return found


@cache
def ended(experiment: str, variant: str) -> dict[str, dict[int, Result]]:
    """Results by row and seed, rows in the experiment's order; a run that stopped has no metrics."""
    found: dict[str, dict[int, Result]] = {}
    for cell in cells_of(experiment, programme()[experiment]):
        if cell.variant == variant and cell.is_done:
            found.setdefault(cell.row, {})[cell.seed] = read_result(cell.path)
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
    results = finished(experiment, variant)
    ours, theirs = results.get(row, {}), results.get(baseline, {})
    pairs = [(of(ours[seed]), of(theirs[seed])) for seed in sorted(ours.keys() & theirs.keys())]
    gains = [a - b for a, b in pairs if a is not None and b is not None]
    return estimate(gains) if gains else None


def points(value: Estimate | None, *, factor: float = 100, digits: int = 1) -> str:
    """`+10.8 [+7.2, +14.5]`, in points."""
    if value is None:
        return "-"
    mean = f"{factor * value.mean:+.{digits}f}"
    if value.low is None or value.high is None:
        return f"{mean} (n {value.num_pairs})"
    return f"{mean} [{factor * value.low:+.{digits}f}, {factor * value.high:+.{digits}f}]"


def gain(experiment: str, variant: str, row: str, baseline: str = "erm", of: str = "accuracy") -> str:
    """A paired gain as text, for the prose."""
    return points(paired(experiment, variant, row, baseline, metric(of)))


def verdict(experiment: str, variant: str, row: str, baseline: str = "erm", of: str = "accuracy") -> str:
    """`better`, `worse` or `not told apart`, by whether the interval excludes zero."""
    value = paired(experiment, variant, row, baseline, metric(of))
    if value is None or value.low is None or value.high is None:
        return "not measured"
    return "better" if value.low > 0 else "worse" if value.high < 0 else "not told apart"


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


ORDER = ("lrw-easy", "lrw-random", "lrw-hard", "molere")


def order_table(experiment: str) -> str:
    """The paper's ordering, step by step: the paired difference of each pair of neighbours."""
    own = programme()[experiment]
    rows = []
    for variant, part in own.variants.items():
        for suffix, kept in (("all", "kept in training"), ("train", "removed")):
            if f"lrw-hard-{suffix}" not in own.rows:
                continue
            names = [f"{name}-{suffix}" for name in ORDER]
            steps = [
                points(paired(experiment, variant, high, low, metric("accuracy")))
                for low, high in pairwise(names)
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


def share_of_validation(runs: Mapping[int, Result], kind: str) -> str:
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


def status_table() -> str:
    """What of the programme is finished, and what it cost."""
    rows = []
    for name, experiment in programme().items():
        own = list(cells_of(name, experiment))
        done = [read_result(cell.path) for cell in own if cell.is_done]
        minutes = sum(result.get("seconds", 0) for result in done) / 60
        rows.append([f"`{name}`", f"{len(done)} of {len(own)}", f"{minutes:.0f}", str(experiment.minutes)])
    return table(["experiment", "cells", "minutes of training", "its share"], rows)


def count(experiment: str, variant: str, row: str) -> int:
    """How many seeds a row and ERM share."""
    results = finished(experiment, variant)
    return len(results.get(row, {}).keys() & results.get("erm", {}).keys())


def left_by(pattern: str) -> list[tuple[Path, Any]]:
    """What measurement scripts left under results/."""
    return [(path, json.loads(path.read_text(encoding="utf-8"))) for path in sorted(RESULTS.glob(pattern))]


NOT_RUN = "*Not run yet.*"


def diagnosis_table() -> str:
    """Advice beside the gain of LRW-Hard on that pool; right if the gain has the sign foretold."""
    rows, right, judged = [], 0, 0
    for path, found in left_by("diagnosis/*/*/*.json"):
        experiment, variant, name = path.relative_to(RESULTS / "diagnosis").with_suffix("").parts
        results, seed = finished(experiment, variant), int(name[1:])
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
            f"{part.label}, {own.label.removeprefix('oracle: ')}",
            str(count(name, variant, row)),
            gain(name, variant, row),
            gain(name, variant, hard_row(name)),
        ]
        for name, experiment in programme().items()
        if not name.startswith("methods-")
        for variant, part in experiment.variants.items()
        for row, own in experiment.rows.items()
        if own.settings.get("method") == "oracle" and row in finished(name, variant)
    ]
    return table(["data, what the oracle weighs by", "n", "oracle", "LRW-Hard"], rows)


def hard_row(experiment: str) -> str:
    """How an experiment calls LRW-Hard that keeps its validation examples in training."""
    return "lrw-hard-all" if "lrw-hard-all" in programme()[experiment].rows else "lrw-hard"


def signal_table() -> str:
    """Signal to noise and mean alignments along training."""
    rows = []
    for path, found in left_by("signal/*/*.json"):
        experiment, variant = path.relative_to(RESULTS / "signal").with_suffix("").parts
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
    found = left_by("theory.json")
    if not found:
        return NOT_RUN
    ((_, theory),) = found
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


@dataclass(frozen=True)
class Figure:
    """A figure to draw: its file name and what draws it."""

    name: str
    draw: Callable[[Any], bool]


def draw_gains(axes: Any) -> bool:
    """Gains over ERM of the kept rows, one panel position a variant."""
    rows = ("lrw-easy-all", "lrw-random-all", "lrw-hard-all", "molere-all")
    drawn = ("shortcut", "shortcut-natural", "biased", "natural")
    places = [(n, v) for n in drawn for v in programme()[n].variants]
    places = [place for place in places if "lrw-hard-all" in finished(*place)]
    for offset, row in enumerate(rows):
        found = [paired(name, variant, row, "erm", metric("accuracy")) for name, variant in places]
        shown = [(x, e) for x, e in enumerate(found) if e is not None and e.low is not None]
        axes.errorbar(
            [x + 0.15 * (offset - 1.5) for x, _ in shown],
            [100 * e.mean for _, e in shown],
            yerr=[100 * (e.high - e.mean) for _, e in shown],
            fmt="o",
            capsize=3,
            label=programme()["shortcut"].rows[row].label,
        )
    axes.axhline(0, color="grey", linewidth=0.8)
    axes.set_xticks(range(len(places)), [programme()[n].variants[v].label for n, v in places], fontsize=7)
    axes.set_ylabel("gain over ERM, points (95% interval)")
    axes.legend(fontsize=7)
    return bool(places)


def draw_margins(axes: Any) -> bool:
    """Quantiles of the test margin on CIFAR-100 less ERM's: the paper's figure 3 asks whether they grow."""
    results = finished("natural", "pool-10k")
    shown = [row for row in MARGIN_ROWS[1:] if row in results]
    if "erm" not in results or not shown:
        return False
    levels = [number / 20 for number in range(21)]

    def quantiles(row: str) -> list[float]:
        runs = [r["predictions"]["test"]["margin_quantiles"] for r in results[row].values()]
        return [fmean(values) for values in zip(*runs, strict=True)]

    base = quantiles("erm")
    for row in shown:
        difference = [a - b for a, b in zip(quantiles(row), base, strict=True)]
        axes.plot(levels, difference, label=programme()["natural"].rows[row].label)
    axes.axhline(0, color="grey", linewidth=0.8)
    axes.set_xlabel("quantile of the test set")
    axes.set_ylabel("margin less ERM's")
    axes.legend(fontsize=7)
    return True


FIGURE_LIST = (Figure("gains.svg", draw_gains), Figure("margins.svg", draw_margins))


def draw_figures() -> None:
    """The figures as SVG, the same bytes for the same results."""
    import matplotlib as mpl
    from matplotlib.figure import Figure as Canvas

    FIGURES.mkdir(parents=True, exist_ok=True)
    mpl.rcParams["svg.hashsalt"] = "molere"
    for figure in FIGURE_LIST:
        canvas = Canvas(figsize=(8, 4), layout="constrained")
        if figure.draw(canvas.subplots()):
            canvas.savefig(FIGURES / figure.name, metadata={"Date": None})


def render() -> str:
    """The page."""
    environment = Environment(
        loader=FileSystemLoader(HERE), undefined=StrictUndefined, keep_trailing_newline=True
    )
    helpers: Mapping[str, Any] = {
        "gain": gain,
        "verdict": verdict,
        "gains_table": gains_table,
        "order_table": order_table,
        "who_table": who_table,
        "ablation_table": ablation_table,
        "tuning_table": tuning_table,
        "status_table": status_table,
        "count": count,
        "diagnosis_table": diagnosis_table,
        "oracle_table": oracle_table,
        "signal_table": signal_table,
        "theory_table": theory_table,
        "table": table,
        "programme": programme(),
        "points": points,
    }
    return environment.get_template("results.md.j2").render(helpers)


def with_tables(text: str) -> str:
    """A page whose blocks `<!-- gains: EXPERIMENT VARIANT -->` to `<!-- end -->` hold the present tables."""

    def block(found: re.Match[str]) -> str:
        experiment, variant = found.group(1), found.group(2)
        return f"<!-- gains: {experiment} {variant} -->\n\n{gains_table(experiment, variant)}\n\n<!-- end -->"

    return re.sub(r"<!-- gains: (\S+) (\S+) -->.*?<!-- end -->", block, text, flags=re.DOTALL)


def main() -> int:
    pages = {PAGE: render(), METHODS: with_tables(METHODS.read_text(encoding="utf-8"))}
    if "--check" in sys.argv[1:]:
        stale = [
            path.name
            for path, page in pages.items()
            if not path.exists() or path.read_text(encoding="utf-8") != page
        ]
        if stale:
            print(f"docs/{', docs/'.join(stale)} out of date; run `make results`", file=sys.stderr)
        return 1 if stale else 0
    for path, page in pages.items():
        path.write_text(page, encoding="utf-8")
    draw_figures()
    return 0


if __name__ == "__main__":
    sys.exit(main())
