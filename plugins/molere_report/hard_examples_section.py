"""The sections on training examples: which are hard, what the weights did."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy

from molere_cli import RunError
from molere_cli.report import RunDir, gallery_choice
from molere_report.binned import weight_bins
from molere_report.charts import epochs_chart, hardness_chart, weights_chart
from molere_report.drawing import AnyChart, as_svg
from molere_report.gallery import ImageBudget, Picture
from molere_report.pool import Pool, quantile
from molere_report.study import Study, run_beside

HARDEST, EASIEST, MOVED = 60, 30, 18
"""Pictures of a gallery; the first two over all classes."""


@dataclass(frozen=True)
class Chart:
    """A drawing, with what it shows in words."""

    drawing: str
    caption: str


@dataclass(frozen=True)
class Gallery:
    """Pictures under a heading; none where there is nothing to show."""

    title: str
    pictures: Sequence[Picture]


@dataclass(frozen=True)
class Hard:
    """Which examples are hard."""

    run: str
    hardest: Sequence[Gallery]
    easiest: Gallery
    chart: Chart | None


def hard_examples(pool: Pool, budget: ImageBudget, *, delta: float) -> Hard:
    """Galleries by class and the histogram of a run's pool, by area under the margin."""
    labels, aum = pool.numbers("label"), pool.numbers("aum")
    rows = gallery_choice.by_class(labels, aum, most=HARDEST)
    galleries = [
        Gallery(str(pool.name(label)), pool.pictures([row for row in rows if labels[row] == label], budget))
        for label in sorted(set(labels[rows].tolist()))
    ]
    if len(galleries) == len(rows):  # one picture a class
        galleries = [Gallery("of all classes", [each for found in galleries for each in found.pictures])]
    easiest = pool.pictures(gallery_choice.by_class(labels, -aum, most=EASIEST), budget)
    return Hard(
        run=str(pool.run.path),
        hardest=galleries,
        easiest=Gallery("The easiest, of every class", easiest),
        chart=_histogram(aum, delta),
    )


def _histogram(aum: numpy.ndarray, delta: float) -> Chart | None:
    cut = quantile(aum, delta)
    if cut is None:
        return None
    known = aum[~numpy.isnan(aum)]
    below = f"{int((known < 0).sum()):,} of {len(known):,}"
    caption = (
        f"How hard the {len(known):,} training examples are: area under the margin, the mean over training "
        f"of the label's probability less that of the next likely class. {below} are below 0: for most of "
        f"training the network preferred another class. The line is where the hardest {100 * delta:.0f}% of "
        "all end; a split takes as large a share of every class."
    )
    chart = hardness_chart(known, score="AUM", cut=cut, cut_label=f"hardest {100 * delta:.0f}%")
    return drawn(chart, "Hardness of the training examples", caption)


def drawn(chart: AnyChart, title: str, caption: str) -> Chart:
    """A chart as it stands in the page."""
    return Chart(as_svg(chart, title=title, description=caption), caption)


@dataclass(frozen=True)
class Weights:
    """What the weights of a row did, in the run that is shown."""

    label: str
    run: str
    chart: Chart | None
    raised: Gallery
    lowered: Gallery
    sentence: str


def weights(label: str, run: RunDir, hardness: Pool, budget: ImageBudget) -> Weights | None:
    """Of a run beside ERM's pool, which says how hard the examples are; None where all weights are equal.

    Raises:
        RunError: the table cannot be read.
    """
    pool = Pool.of(run)
    weight = pool.numbers("mean_weight")
    raised, lowered = gallery_choice.raised_and_lowered(weight, most=MOVED)
    if not len(raised):
        return None
    return Weights(
        label=label,
        run=str(run.path),
        chart=_against_hardness(pool, hardness, label),
        raised=Gallery("Most raised", pool.pictures(raised, budget, hardness.run)),
        lowered=Gallery("Most lowered", pool.pictures(lowered, budget, hardness.run)),
        sentence=_sides(pool),
    )


def _against_hardness(pool: Pool, hardness: Pool, label: str) -> Chart | None:
    if not numpy.array_equal(pool.numbers("index"), hardness.numbers("index")):
        return None
    aum, weight = hardness.numbers("aum"), pool.numbers("mean_weight")
    known = ~(numpy.isnan(aum) | numpy.isnan(weight))
    if not known.any():
        return None
    caption = (
        f"The weight that {label} gave, over training (geometric mean), against how hard an example was "
        "for ERM: median, and the band from the 10th to the 90th percentile, of examples of like hardness. "
        "1 is no weighting."
    )
    bins = weight_bins(aum[known], weight[known])
    return drawn(weights_chart(bins, score="AUM under ERM"), f"Weight against hardness, {label}", caption)


def _sides(pool: Pool) -> str:
    weight = pool.numbers("mean_weight")
    known = weight[~numpy.isnan(weight)]
    more, less = int((known > 1).sum()), int((known < 1).sum())
    return (
        f"{more:,} of {len(known):,} training examples counted for more than they would under ERM, "
        f"{less:,} for less; the median weight is {numpy.median(known):.2f}, the largest {known.max():.2f}."
    )


def sizes_by_epoch(study: Study) -> Chart | None:
    """Effective sample size of the weights, epoch by epoch, of every run of the rows that are looked into."""
    lines = lines_of(study, "weights/ess", scale=100.0)
    if not lines:
        return None
    caption = (
        "Effective sample size of the weights by epoch, in percent of the batch: 100 is ERM, and the lower, "
        "the fewer examples carry the training. A line a run."
    )
    return drawn(epochs_chart(lines, y="effective sample size, %"), "Effective sample size by epoch", caption)


MOST_LINES = 120
"""Runs of which curves are drawn."""


def lines_of(
    study: Study, metric: str, *, scale: float = 1.0, with_erm: bool = False
) -> dict[str, dict[str, list[tuple[int, float]]]]:
    """A metric by epoch, from 1, of the runs of the rows that are looked into, by label and run."""
    rows = [result.row for result in study.measured]
    rows = [*([study.erm] if with_erm and study.erm is not None else []), *rows]
    lines: dict[str, dict[str, list[tuple[int, float]]]] = {}
    each = max(1, MOST_LINES // max(1, len(rows)))
    for row in rows:
        for record in list(row.runs.values())[:each]:
            values = [
                (number + 1, scale * value)
                for number, epoch in enumerate(RunDir(record.path).metrics())
                if (value := epoch.get(metric)) is not None
            ]
            if values:
                lines.setdefault(row.label, {})[record.path.name] = values
    return lines


def all_weights(study: Study, pool: Pool, budget: ImageBudget) -> tuple[list[Weights], list[str]]:
    """Of every row that is looked into and has weights, and what could not be read."""
    found, problems = [], []
    for result in study.measured:
        if result.effective_sample_size is None:
            continue
        try:
            made = weights(result.row.label, run_beside(result.row, study), pool, budget)
        except RunError as error:
            problems.append(str(error))
        else:
            found += [made] if made is not None else []
    return found, problems
