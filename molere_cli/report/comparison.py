"""From run directories to what a table or a chart shows: one result a row."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from molere_cli.errors import RunError
from molere_cli.report.records import RunRecord, load_runs
from molere_cli.report.rows import Baseline, Row, SeedPair, find_baselines, make_rows, seeds_text
from molere_cli.report.statistics import Estimate, GainKind, Spread, estimate, gain, spread


@dataclass(frozen=True, kw_only=True, eq=False)
class Result:
    """A row's numbers.

    accuracy, worst_group: in [0, 1]; worst_group is None where the dataset has no groups.
    gains: by (data_seed, seed), for the seeds shared with the baseline; gain: over them, None without.
    margin_gain: in units of the margin, [-1, 1]. worst_group_gain: in percentage points.
    seconds: mean training time of a run. notes: what a reader has to know about the gain.
    """

    row: Row
    baseline: Row | None
    accuracy: Spread
    worst_group: Spread | None
    gains: Mapping[SeedPair, float]
    gain: Estimate | None
    margin_gain: Estimate | None
    worst_group_gain: Estimate | None
    seconds: float
    notes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class Comparison:
    """Results in the order of the table; warnings are about runs that were left out."""

    results: Sequence[Result]
    gain_kind: GainKind
    test_set: str
    warnings: Sequence[str]

    @property
    def groups(self) -> dict[tuple[str, str], list[Result]]:
        """Results by (dataset, backbone), each with its options."""
        groups: dict[tuple[str, str], list[Result]] = {}
        for result in self.results:
            groups.setdefault((result.row.dataset, result.row.backbone), []).append(result)
        return groups


def compare_runs(paths: Iterable[Path], *, gain: GainKind = "points", test_set: str = "test") -> Comparison:
    """Group runs into rows and measure each row against ERM, paired by (data_seed, seed).

    Args:
        paths: run directories; unfinished ones are left out with a warning.
        gain: how the gain is expressed, see `report.statistics.gain`.

    Raises:
        RunError: a path is no run directory, no run is finished, or none was tested on `test_set`.
    """
    records, warnings = load_runs(paths)
    tested, untested = tested_on(records, test_set)
    rows, repeated = make_rows(tested)
    results = [
        measure(row, baseline, gain_kind=gain, test_set=test_set)
        for row, baseline in zip(rows, find_baselines(rows), strict=True)
    ]
    return Comparison(
        results=results, gain_kind=gain, test_set=test_set, warnings=[*warnings, *untested, *repeated]
    )


def tested_on(records: Sequence[RunRecord], test_set: str) -> tuple[list[RunRecord], list[str]]:
    """The runs that were tested on `test_set`, and a warning that names the others."""
    tested = [record for record in records if test_set in record.test_sets]
    if not tested:
        known = sorted(set().union(*(record.test_sets for record in records)))
        raise RunError(f"no run has a test set {test_set!r}; there are: {', '.join(known) or 'none'}")
    others = ", ".join(str(record.path) for record in records if test_set not in record.test_sets)
    return tested, [f"left out, having no test set {test_set!r}: {others}"] if others else []


def measure(row: Row, baseline: Baseline, *, gain_kind: GainKind, test_set: str) -> Result:
    """A row's numbers, and its gains over the baseline where there is one."""
    erm = baseline.row
    notes = [baseline.note] if baseline.note else []
    gains: dict[SeedPair, float] = {}
    if erm is not None:
        gains, problems = _accuracy_gains(row, erm, gain_kind=gain_kind, test_set=test_set)
        notes += problems
    worst_group = list(row.values(f"{test_set}/worst_group").values())
    return Result(
        row=row,
        baseline=erm,
        accuracy=spread(list(row.values(f"{test_set}/accuracy").values())),
        worst_group=spread(worst_group) if worst_group else None,
        gains=gains,
        gain=estimate(list(gains.values()), with_interval=gain_kind != "ratio") if gains else None,
        margin_gain=_mean_gain(row, erm, f"{test_set}/margin", lambda ours, theirs: ours - theirs),
        worst_group_gain=_mean_gain(row, erm, f"{test_set}/worst_group", _points),
        seconds=fmean(run.seconds for run in row.runs.values()),
        notes=tuple(notes),
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


def _mean_gain(
    row: Row, erm: Row | None, metric: str, measured: Callable[[float, float], float]
) -> Estimate | None:
    gains = {} if erm is None else _paired(row, erm, metric, measured)
    return estimate(list(gains.values())) if gains else None


def _paired(
    row: Row, erm: Row, metric: str, measured: Callable[[float, float], float]
) -> dict[SeedPair, float]:
    ours, theirs = row.values(metric), erm.values(metric)
    return {pair: measured(ours[pair], theirs[pair]) for pair in ours if pair in theirs}


def _points(ours: float, theirs: float) -> float:
    return gain(ours, theirs, "points")
