"""The charts of reports: plain numbers in, a chart of Altair out, which `drawing` makes a file or an `svg`.

No chart says anything by colour alone, and text has the colour of what surrounds it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy
from numpy.typing import NDArray

from molere_cli import RunError
from molere_cli.commands import harmless
from molere_cli.report import GAIN_UNITS, Comparison, Result
from molere_report.binned import CalibrationBin, WeightBin, histogram

if TYPE_CHECKING:
    import altair

    Layers = altair.LayerChart | altair.FacetChart

WIDTH, HEIGHT = 560, 240
ROW_HEIGHT = 34
# Of middling lightness, so that each can be told from white and from black.
COLOURS = ["#2f7dc1", "#c8620c", "#16906a", "#b84f8f", "#8a63d2", "#92730f"]
DASHES = [[1, 0], [6, 3], [2, 2], [8, 3, 2, 3], [12, 4], [4, 4]]
SHAPES = ["circle", "square", "triangle-up", "diamond", "cross", "triangle-down"]
MOST_LABELS = len(COLOURS)
"""Labels that one chart of lines can tell apart."""


def gains_chart(comparison: Comparison) -> altair.VConcatChart:
    """A forest plot: a row of the comparison with its mean gain, its interval, where there is one, and a dot
    a seed; a part a dataset, backbone and test set.

    Raises:
        RunError: no row has a gain.
    """
    import altair

    several = len({result.test_set for result in comparison.results}) > 1
    parts = {
        ", ".join(names if several else names[:2]): gained
        for names, results in comparison.groups.items()
        if (gained := [result for result in results if result.gain is not None])
    }
    if not parts:
        raise RunError("there is no gain to draw: no run shares settings and seed with a run of ERM")
    on = "" if several else f" on {comparison.results[0].test_set}"
    measured = f"gain over ERM{on}, {GAIN_UNITS[comparison.gain_kind]}"
    drawn = [_forest(title, results, measured) for title, results in parts.items()]
    together: altair.VConcatChart = altair.vconcat(*drawn).resolve_scale(x="shared")
    return together


def _forest(title: str, results: Sequence[Result], measured: str) -> Layers:
    import altair

    rows = [
        {"label": harmless(result.row.label), "mean": gain.mean, "low": gain.low, "high": gain.high}
        for result in results
        if (gain := result.gain) is not None
    ]
    seeds = [
        {"label": harmless(result.row.label), "seed": str(seed), "data_seed": str(data_seed), "gain": value}
        for result in results
        for (data_seed, seed), value in result.gains.items()
    ]
    label = altair.Y("label:N", title=None, sort=None, axis=altair.Axis(labelLimit=260, ticks=False))
    of_rows = altair.Chart(altair.InlineData(values=rows)).encode(y=label)
    known = [row for row in rows if row["low"] is not None]
    zero = (
        altair.Chart(altair.InlineData(values=[{"zero": 0}])).mark_rule(strokeDash=[4, 3]).encode(x="zero:Q")
    )
    dots = (
        altair.Chart(altair.InlineData(values=seeds))
        .mark_point(size=28, opacity=0.75, color=COLOURS[0])
        .encode(y=label, x=altair.X("gain:Q", title=measured))
    )
    intervals = (
        altair.Chart(altair.InlineData(values=known))
        .mark_rule(strokeWidth=2)
        .encode(y=label, x="low:Q", x2="high:Q")
    )
    means = of_rows.mark_point(shape="diamond", filled=True, size=110, color="currentColor").encode(
        x="mean:Q"
    )
    return altair.layer(zero, intervals, dots, means).properties(
        title=harmless(title), width=WIDTH, height=altair.Step(ROW_HEIGHT)
    )


def hardness_chart(values: NDArray[numpy.float64], *, score: str, cut: float, cut_label: str) -> Layers:
    """A histogram of scores (N,), with a line at `cut`."""
    import altair

    bars = (
        altair.Chart(altair.InlineData(values=[asdict(each) for each in histogram(values)]))
        .mark_bar(color=COLOURS[0])
        .encode(
            x=altair.X("low:Q", title=score, bin="binned", scale=altair.Scale(zero=False)),
            x2="high:Q",
            y=altair.Y("count:Q", title="examples"),
        )
    )
    at = altair.Chart(altair.InlineData(values=[{"cut": cut, "label": cut_label}])).encode(x="cut:Q")
    text = at.mark_text(align="left", dx=5, dy=8, baseline="top").encode(y=altair.value(0), text="label:N")
    return altair.layer(bars, at.mark_rule(strokeDash=[5, 3]), text).properties(width=WIDTH, height=HEIGHT)


def weights_chart(bins: Sequence[WeightBin], *, score: str) -> Layers:
    """The median weight by hardness, with the band of the middle four fifths; a line at 1, which is none."""
    import altair

    base = altair.Chart(altair.InlineData(values=[asdict(each) for each in bins])).encode(
        x=altair.X("score:Q", title=score, scale=altair.Scale(zero=False))
    )
    band = base.mark_area(opacity=0.3, color=COLOURS[0]).encode(
        y=altair.Y("low:Q", title="weight"), y2="high:Q"
    )
    line = base.mark_line(point=True, color=COLOURS[0]).encode(y="median:Q")
    none = altair.Chart(altair.InlineData(values=[{"one": 1}])).mark_rule(strokeDash=[4, 3]).encode(y="one:Q")
    return altair.layer(band, none, line).properties(width=WIDTH, height=HEIGHT)


def epochs_chart(lines: Mapping[str, Mapping[str, Sequence[tuple[int, float]]]], *, y: str) -> altair.Chart:
    """A line a run, by label and name of the run: (epoch, value) each.

    Raises:
        ValueError: there are more labels than can be told apart.
    """
    import altair

    labels = _few(lines)
    values = [
        {"label": harmless(label), "run": name, "epoch": epoch, "value": value}
        for label, runs in lines.items()
        for name, points in runs.items()
        for epoch, value in points
    ]
    chart: altair.Chart = (
        altair.Chart(altair.InlineData(values=values))
        .mark_line(strokeWidth=1.5, opacity=0.8)
        .encode(
            x=altair.X("epoch:Q", axis=altair.Axis(tickMinStep=1)),
            y=altair.Y("value:Q", title=y, scale=altair.Scale(zero=False)),
            color=_coloured(labels),
            strokeDash=altair.StrokeDash("label:N", scale=altair.Scale(domain=labels, range=DASHES)),
            detail="run:N",
        )
        .properties(width=WIDTH, height=HEIGHT)
    )
    return chart


def calibration_chart(bins: Mapping[str, Sequence[CalibrationBin]]) -> Layers:
    """How often each label is right against how sure it is; where the two are one, a dashed line.

    Raises:
        ValueError: there are more labels than can be told apart.
    """
    import altair

    labels = _few(bins)
    values = [{"label": harmless(label), **asdict(each)} for label, of in bins.items() for each in of]
    base = altair.Chart(altair.InlineData(values=values)).encode(
        x=altair.X("confidence:Q", title="mean probability of the predicted class", scale=_unit()),
        y=altair.Y("accuracy:Q", title="accuracy", scale=_unit()),
        color=_coloured(labels),
    )
    shapes = altair.Shape("label:N", scale=altair.Scale(domain=labels, range=SHAPES))
    ends = altair.InlineData(values=[{"end": 0}, {"end": 1}])
    ideal = altair.Chart(ends).mark_line(strokeDash=[4, 3], color="currentColor", strokeWidth=1)
    return altair.layer(
        ideal.encode(x="end:Q", y="end:Q"),
        base.mark_line(strokeWidth=1.5),
        base.mark_point(filled=True, size=50).encode(shape=shapes),
    ).properties(width=HEIGHT * 1.4, height=HEIGHT * 1.4)


def _unit() -> Any:
    import altair

    return altair.Scale(domain=[0, 1])


def _coloured(labels: Sequence[str]) -> Any:
    import altair

    scale = altair.Scale(domain=labels, range=COLOURS[: len(labels)])
    return altair.Color("label:N", title=None, scale=scale)


def _few(labelled: Mapping[str, object]) -> list[str]:
    if len(labelled) > MOST_LABELS:
        raise ValueError(f"{len(labelled)} labels in one chart; it can tell {MOST_LABELS} apart")
    return [harmless(label) for label in labelled]
