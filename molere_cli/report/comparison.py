"""From run directories to what a table or a chart shows: one result a row and test set."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean

from molere_cli.foundation.errors import RunError
from molere_cli.report.comparison_rows import Baseline, Row, SeedPair, find_baselines, make_rows, seeds_text
from molere_cli.report.measures import MEASURES, Measure
from molere_cli.report.prediction_outcomes import Flipped, flipped
from molere_cli.report.records import RunRecord, load_runs
from molere_cli.report.significance import Flips, Verdict, verdicts
from molere_cli.report.statistics import Estimate, GainKind, Spread, estimate, gain, have_spread, spread

OF_ONE_SEED = "one seed: the interval is over test examples alone, and says nothing of other seeds"


@dataclass(frozen=True)
class Measured:
    """A measure over a row's runs, as recorded, and its difference from ERM's, in points if it is a
    percentage; the difference is None without an ERM run of the same seed."""

    spread: Spread
    gain: Estimate | None


@dataclass(frozen=True, kw_only=True, eq=False)
class Result:
    """A row's numbers on one test set.

    measured: by name of the measure (`report.measures`); what no run of the row has is left out.
    gains: of the accuracy, as the comparison's `gain_kind` says, by (data_seed, seed), for the seeds shared
    with the baseline; gain: over them, None without.
    verdict: on the differences in accuracy; None for a baseline and where no seed is shared.
    new_examples: the gain in points with its interval for new seeds and new test examples, and flips: of each
    shared seed, in the order of `gains`; None and empty where they were not asked for, or cannot be known.
    seconds: mean training time of a run. peak_memory: in MiB, a mean over the runs that recorded it.
    effective_sample_size: of the weights in the last epoch, as a fraction, None for a method without weights.
    notes: what a reader has to know about the gain.
    """

    row: Row
    baseline: Row | None
    test_set: str
    measured: Mapping[str, Measured]
    gains: Mapping[SeedPair, float]
    gain: Estimate | None
    verdict: Verdict | None
    new_examples: Estimate | None
    flips: Sequence[Flips]
    seconds: float
    peak_memory: float | None
    effective_sample_size: Spread | None
    notes: tuple[str, ...]

    @property
    def accuracy(self) -> Spread:
        """In [0, 1]."""
        return self.measured["accuracy"].spread

    def spread_of(self, measure: str) -> Spread | None:
        """Of a measure over the runs, as recorded; None where no run has it."""
        return self.measured[measure].spread if measure in self.measured else None

    def gain_in(self, measure: str) -> Estimate | None:
        """In a measure; None where there is none."""
        return self.measured[measure].gain if measure in self.measured else None

    @property
    def num_draws(self) -> int:
        """How many draws of the data (data seeds) its gains are of."""
        return len({data_seed for data_seed, _seed in self.gains})


@dataclass(frozen=True, kw_only=True, eq=False)
class Comparison:
    """Results in the order of the tables; warnings are about runs that were left out."""

    results: Sequence[Result]
    gain_kind: GainKind
    warnings: Sequence[str]

    @property
    def groups(self) -> dict[tuple[str, str, str], list[Result]]:
        """Results by (dataset, backbone, test set), the first two with their options."""
        return _tables(self.results)


def compare_runs(
    paths: Iterable[Path],
    *,
    gain: GainKind = "points",
    test_set: str | None = "test",
    with_examples: bool = False,
) -> Comparison:
    """Group runs into rows and measure each row against ERM, paired by (data_seed, seed).

    Args:
        paths: run directories; unfinished ones are left out with a warning.
        gain: how the gain is expressed, see `report.statistics.gain`.
        test_set: the one to compare on; None: on each that a run was tested on.
        with_examples: whether to read every run's predictions, for `Result.new_examples` and `flips`.

    Raises:
        RunError: a path is no run directory, no run is finished, or none was tested on `test_set`.
    """
    records, warnings = load_runs(paths)
    chosen = _all_test_sets(records) if test_set is None else [test_set]
    results: list[Result] = []
    for name in chosen:
        tested, untested = tested_on(records, name)
        rows, repeated = make_rows(tested)
        results += [
            measure(row, baseline, gain_kind=gain, test_set=name, with_examples=with_examples)
            for row, baseline in zip(rows, find_baselines(rows), strict=True)
        ]
        warnings += [*([] if test_set is None else untested), *repeated]
    judged = [result for table in _tables(results).values() for result in _judged(table)]
    return Comparison(results=judged, gain_kind=gain, warnings=list(dict.fromkeys(warnings)))


def tested_on(records: Sequence[RunRecord], test_set: str) -> tuple[list[RunRecord], list[str]]:
    """The runs that were tested on `test_set`, and a warning that names the others."""
    tested = [record for record in records if test_set in record.test_sets]
    if not tested:
        known = _all_test_sets(records)
        raise RunError(f"no run has a test set {test_set!r}; there are: {', '.join(known) or 'none'}")
    others = ", ".join(str(record.path) for record in records if test_set not in record.test_sets)
    return tested, [f"left out, having no test set {test_set!r}: {others}"] if others else []


def measure(
    row: Row, baseline: Baseline, *, gain_kind: GainKind, test_set: str, with_examples: bool = False
) -> Result:
    """A row's numbers, and its gains over the baseline where there is one; without a verdict yet."""
    erm = baseline.row
    notes = [*selection_notes(row, test_set), *([baseline.note] if baseline.note else [])]
    if num_plain := sum(run.trained_as_erm for run in row.runs.values()):
        whose = "" if num_plain == len(row.runs) else f" in {num_plain} of {len(row.runs)} runs"
        notes.append(f"no weight was learned{whose}: trained as ERM")
    gains: dict[SeedPair, float] = {}
    if erm is not None:
        gains, problems = _accuracy_gains(row, erm, gain_kind=gain_kind, test_set=test_set)
        notes += [*problems, *_cautions(gains)]
    found = estimate(independent(gains), with_interval=gain_kind != "ratio") if gains else None
    flips = None
    if erm is not None and (with_examples or (len(gains) == 1 and gain_kind == "points")):
        flips, problems = _flipped(row, erm, list(gains), test_set)
        notes += problems if with_examples else []
    if flips is not None and len(gains) == 1 and gain_kind == "points":
        found = flips.gain
        notes += [OF_ONE_SEED] if found.low is not None else []
    sizes = list(row.values("weights/ess").values())
    return Result(
        row=row,
        baseline=erm,
        test_set=test_set,
        measured={
            each.name: Measured(
                spread(list(values.values())), None if erm is None else _mean_difference(row, erm, key, each)
            )
            for each in MEASURES.values()
            if (values := row.values(key := f"{test_set}/{each.name}"))
        },
        gains=gains,
        gain=found,
        verdict=None,
        new_examples=flips.gain if flips is not None and with_examples else None,
        flips=flips.flips if flips is not None else [],
        seconds=fmean(run.seconds for run in row.runs.values()),
        peak_memory=row.peak_memory,
        effective_sample_size=spread(sizes) if sizes else None,
        notes=tuple(notes),
    )


def selection_notes(row: Row, test_set: str) -> list[str]:
    """By what rule the row's classifiers were chosen, where they are not those of the last epoch."""
    settings = row.settings
    by = str(settings.get("select_by", "accuracy")).replace("_", " ")
    rule = f"by {by} on the tuning set"
    notes = []
    if settings.get("select") == "best":
        notes.append(f"the best epoch {rule}")
    if settings.get("patience") is not None:
        notes.append(f"stopped early {rule}, patience {settings['patience']}")
    for rates in sorted({", ".join(run.grid["lr"]) for run in row.runs.values() if run.grid is not None}):
        notes.append(f"lr {settings['lr']:g} chosen from {rates} {rule}")
    if notes and test_set == "tuning":
        notes.append("chosen by this very set, so that its numbers are too good")
    return notes


def independent(gains: Mapping[SeedPair, float]) -> list[float]:
    """The gains that an interval may take for independent: of each draw of the data its mean, since runs on
    one draw share its luck; where all are on one draw, of each seed."""
    by_draw: dict[int, list[float]] = {}
    for (data_seed, _seed), value in gains.items():
        by_draw.setdefault(data_seed, []).append(value)
    return list(gains.values()) if len(by_draw) == 1 else [fmean(values) for values in by_draw.values()]


def _tables(results: Iterable[Result]) -> dict[tuple[str, str, str], list[Result]]:
    tables: dict[tuple[str, str, str], list[Result]] = {}
    for result in results:
        tables.setdefault((result.row.dataset, result.row.backbone, result.test_set), []).append(result)
    return tables


def _judged(table: Sequence[Result]) -> list[Result]:
    """The results of one table with their verdicts, adjusted for one another."""
    differences = {
        number: independent(found)
        for number, result in enumerate(table)
        if result.baseline is not None
        and (found := _paired(result.row, result.baseline, f"{result.test_set}/accuracy", _points))
    }
    judged = dict(zip(differences, verdicts(list(differences.values())), strict=True))
    return [replace(result, verdict=judged.get(number)) for number, result in enumerate(table)]


def _all_test_sets(records: Sequence[RunRecord]) -> list[str]:
    return sorted(
        set().union(*(record.test_sets for record in records)), key=lambda name: (name != "test", name)
    )


def _accuracy_gains(
    row: Row, erm: Row, *, gain_kind: GainKind, test_set: str
) -> tuple[dict[SeedPair, float], list[str]]:
    """The gain of each shared seed, and what is wrong with the pairing, if anything."""
    shared = row.runs.keys() & erm.runs.keys()
    if not shared:
        return {}, ["no ERM run has a seed of this row"]
    try:
        gains = _paired(row, erm, f"{test_set}/accuracy", lambda ours, erm: gain(ours, erm, gain_kind))
    except ZeroDivisionError:
        return {}, [f"no {gain_kind} gain over an ERM accuracy of 0; use --gain points"]
    unpaired = row.runs.keys() - shared
    if unpaired:
        note = f"gain over {len(shared)} of {len(row.runs)} runs: no ERM run for {seeds_text(unpaired)}"
        return gains, [note]
    return gains, []


def _flipped(
    row: Row, erm: Row, shared: Sequence[SeedPair], test_set: str
) -> tuple[Flipped | None, list[str]]:
    """What the seeds' runs flip, and why it is not known, if so."""
    draws = {data_seed for data_seed, _seed in shared}
    if not shared:
        return None, []
    if 1 < len(draws) < len(shared):
        return None, ["several seeds on several draws of the data: nothing is said of new test examples"]
    try:
        return flipped([(row.runs[pair].path, erm.runs[pair].path) for pair in shared], test_set), []
    except RunError as error:
        return None, [f"nothing is said of new test examples: {error}"]


def _cautions(gains: Mapping[SeedPair, float]) -> list[str]:
    """What to know about an interval over these gains."""
    values = independent(gains) if gains else []
    cautions = []
    if len(values) < len(gains):
        cautions.append(
            f"the interval is over {len(values)} draws of the data (data seeds), of each its seeds' mean"
        )
    if len(values) > 1 and not have_spread(values):
        cautions.append(
            "all its gains are equal, so that they show no spread that an interval could be made from"
        )
    return cautions


def _mean_difference(row: Row, erm: Row, key: str, measure: Measure) -> Estimate | None:
    found = _paired(row, erm, key, lambda ours, theirs: measure.scale * (ours - theirs))
    return estimate(independent(found)) if found else None


def _paired(
    row: Row, erm: Row, metric: str, measured: Callable[[float, float], float]
) -> dict[SeedPair, float]:
    ours, theirs = row.values(metric), erm.values(metric)
    return {pair: measured(ours[pair], theirs[pair]) for pair in ours if pair in theirs}


def _points(ours: float, theirs: float) -> float:
    return gain(ours, theirs, "points")
