"""The figures of docs/concepts/results.md, as SVG: the same bytes for the same results."""

from __future__ import annotations

from pathlib import Path
from statistics import fmean
from textwrap import fill

import answer
import matplotlib as mpl
from evidence import finished, metric, paired, programme
from matplotlib.axes import Axes
from matplotlib.figure import Figure

MARGIN_ROWS = ("erm-hard-train", "lrw-easy-all", "lrw-random-all", "lrw-hard-all", "molere-all")


def draw_gains(axes: Axes) -> bool:
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
    labels = [programme()[name].variants[variant].label for name, variant in places]
    axes.set_xticks(range(len(places)), [fill(label, 16) for label in labels], fontsize=7)
    axes.set_ylabel("gain over ERM, points (95% interval)")
    axes.legend(fontsize=7)
    return bool(places)


def draw_margins(axes: Axes) -> bool:
    """Quantiles of the test margin on CIFAR-100 less ERM's: the paper's figure 3 asks whether they grow."""
    results = finished("natural", "pool-10k")
    shown = [row for row in MARGIN_ROWS if row in results]
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


def draw_gain_against_cost(axes: Axes) -> bool:
    """Gain over ERM against all that has to be trained, in ERM runs; a colour a pool, a mark a method."""
    drawn = False
    for number, (experiment, variant) in enumerate(answer.places()):
        label = programme()[experiment].variants[variant].label
        for row, mark in (("lrw-auto", "o"), ("molere-auto", "s"), ("jtt", "^")):
            found = answer.gain_and_cost(experiment, variant, row)
            if found is None:
                continue
            gained, cost = found
            axes.errorbar(
                [cost],
                [100 * gained.mean],
                yerr=None if gained.high is None else [100 * (gained.high - gained.mean)],
                fmt=mark,
                color=f"C{number}",
                capsize=3,
                label=label if row == "lrw-auto" else None,
            )
            drawn = True
    axes.axhline(0, color="grey", linewidth=0.8)
    axes.set_xlabel(
        "cost in ERM runs, scores and evidence included (circle: LRW, square: MOLERE, triangle: JTT)"
    )
    axes.set_ylabel("gain over ERM, points (95% interval)")
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize=7)
    return drawn


def draw_figures(docs: Path) -> None:
    """Draw every figure that has results."""
    mpl.rcParams["svg.hashsalt"] = "molere"
    figures = {
        "concepts/figures/gain-against-cost.svg": draw_gain_against_cost,
        "dev/figures/gains-instance.svg": draw_gains,
        "dev/figures/margins.svg": draw_margins,
    }
    for name, draw in figures.items():
        figure = Figure(figsize=(8, 4), layout="constrained")
        if draw(figure.subplots()):
            (docs / name).parent.mkdir(parents=True, exist_ok=True)
            figure.savefig(docs / name, metadata={"Date": None})
