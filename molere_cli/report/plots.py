"""The bar chart of gains over ERM, after the paper's figure 1."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from molere_cli.errors import ConfigError, RunError
from molere_cli.files import replacing
from molere_cli.report.columns import GAIN_UNITS
from molere_cli.report.comparison import Comparison, Result
from molere_cli.shown import harmless

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CLUSTER_WIDTH = 0.8
DOTS_PER_INCH = 150
FIGURE_HEIGHT = 4.0
CHARACTERS_PER_INCH = 10
LABEL_CHARACTERS = 16


def write_plot(comparison: Comparison, path: Path) -> None:
    """Write the chart to `path`, in the format of its ending: a bar a row, its interval as error bar.

    Several datasets or backbones stand side by side, with a colour a label.

    Raises:
        ConfigError: the ending is no image format.
        RunError: no row has a gain.
    """
    with _without_backend_of_the_environment():
        from matplotlib.backends.backend_agg import FigureCanvasAgg

    image_format = path.suffix[1:].lower()
    known = FigureCanvasAgg.get_supported_filetypes()
    if image_format not in known:
        raise ConfigError(f"cannot draw {path}: its ending must be one of {', '.join(sorted(known))}")
    figure = gains_figure(comparison)
    with replacing(path) as temporary:
        figure.savefig(temporary, format=image_format, dpi=DOTS_PER_INCH)


@contextmanager
def _without_backend_of_the_environment() -> Iterator[None]:
    # The first import of matplotlib fails where MPLBACKEND names a module that this environment lacks, as the
    # kernels of notebooks do; the chart is drawn by Agg in any case.
    backend = os.environ.pop("MPLBACKEND", None)
    try:
        yield
    finally:
        if backend is not None:
            os.environ["MPLBACKEND"] = backend


def gains_figure(comparison: Comparison) -> Figure:
    """The chart as a figure of its own, outside pyplot."""
    with _without_backend_of_the_environment():
        from matplotlib.figure import Figure

    several = len({result.test_set for result in comparison.results}) > 1
    groups = {
        ", ".join(names if several else names[:2]): gained
        for names, results in comparison.groups.items()
        if (gained := [result for result in results if result.gain is not None])
    }
    if not groups:
        raise RunError("there is no gain to draw: no run shares settings and seed with a run of ERM")
    num_bars = sum(len(results) for results in groups.values())
    figure = Figure(figsize=(max(4.0, 1.5 + 0.9 * num_bars), FIGURE_HEIGHT), layout="constrained")
    axes = figure.add_subplot()
    if len(groups) == 1:
        [(title, results)] = groups.items()
        _draw_one(axes, title, results)
    else:
        _draw_clusters(axes, groups)
    axes.axhline(0, color="black", linewidth=0.8)
    on = "" if several else f" on {comparison.results[0].test_set}"
    measured = f"gain over ERM{on}, {GAIN_UNITS[comparison.gain_kind]}"
    axes.set_ylabel(_wrapped(measured, int(CHARACTERS_PER_INCH * FIGURE_HEIGHT)), parse_math=False)
    return figure


def _draw_one(axes: Axes, title: str, results: Sequence[Result]) -> None:
    for position, result in enumerate(results):
        _draw_bar(axes, float(position), result, width=CLUSTER_WIDTH, colour=f"C{position}")
    labels = [
        "\n".join(_wrapped(part, LABEL_CHARACTERS) for part in result.row.label.split(" ", 1))
        for result in results
    ]
    # A dollar sign in a name is no formula.
    axes.set_xticks(range(len(results)), labels, parse_math=False)
    axes.set_title(_wrapped(title, _characters_across(axes)), parse_math=False)


def _draw_clusters(axes: Axes, groups: dict[str, list[Result]]) -> None:
    from matplotlib.patches import Patch

    labels = list(dict.fromkeys(result.row.label for results in groups.values() for result in results))
    for cluster, results in enumerate(groups.values()):
        width = CLUSTER_WIDTH / len(results)
        for position, result in enumerate(results):
            centre = cluster + (position - (len(results) - 1) / 2) * width
            colour = f"C{labels.index(result.row.label)}"
            _draw_bar(axes, centre, result, width=width, colour=colour)
    names = ["\n".join(_wrapped(part, LABEL_CHARACTERS) for part in name.split(", ")) for name in groups]
    axes.set_xticks(range(len(groups)), names, parse_math=False)
    handles = [Patch(color=f"C{number}") for number in range(len(labels))]
    legend = axes.legend(handles, [_wrapped(label, _characters_across(axes)) for label in labels])
    for text in legend.get_texts():
        text.set_parse_math(False)


def _wrapped(text: str, width: int) -> str:
    return textwrap.fill(harmless(text), width)


def _characters_across(axes: Axes) -> int:
    figure = axes.get_figure(root=True)
    assert figure is not None
    return int(CHARACTERS_PER_INCH * figure.get_figwidth())


def _draw_bar(axes: Axes, centre: float, result: Result, *, width: float, colour: str) -> None:
    estimate = result.gain
    assert estimate is not None
    axes.bar(centre, estimate.mean, width=0.9 * width, color=colour)
    if estimate.low is not None:
        reach = estimate.mean - estimate.low
        axes.errorbar(centre, estimate.mean, yerr=reach, color="black", capsize=3, linewidth=1)
