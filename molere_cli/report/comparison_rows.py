"""Which runs are one row, what a row is called, and which ERM row it is measured against."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from statistics import fmean
from typing import Any

from molere_cli.foundation.files import same_fingerprint
from molere_cli.report.records import RunRecord

SeedPair = tuple[int, int]

# A setting `dataset_option.rho` belongs to `dataset_option`.
DATA_SETTINGS = frozenset(
    {
        "dataset",
        "dataset_option",
        "class_skew",
        "limit_train",
        "colour_patch",
        "label_noise",
        "noise_rate",
        "tuning",
        "fingerprint",
        "test_fingerprint",
    }
)
START_SETTINGS = frozenset({"backbone", "backbone_option", "init_from", "freeze_backbone"})
BASELINE_SETTINGS = DATA_SETTINGS | START_SETTINGS | {"precision"}
METHOD_SETTINGS = frozenset({"method", "method_option", "train_on"})
# What only some ERM runs have, and which is no matter of the method.
EXTENSION = frozenset({"extended_from"})
LABEL_ORDER = ("ERM", "LRW-Easy", "LRW-Random", "LRW-Hard", "MOLERE")
FINGERPRINTS = ("fingerprint", "test_fingerprint")
FINGERPRINT_SHOWN = 8


@dataclass(frozen=True, kw_only=True, eq=False)
class Row:
    """Runs of one experiment that differ in their seeds, by (data_seed, seed) in ascending order."""

    label: str
    settings: Mapping[str, Any]
    runs: Mapping[SeedPair, RunRecord]

    @property
    def dataset(self) -> str:
        """The dataset with its options: `colored-digits (rho=0.9)`."""
        return _with_options("dataset", self.settings)

    @property
    def backbone(self) -> str:
        """The backbone with its options."""
        return _with_options("backbone", self.settings)

    @property
    def is_baseline(self) -> bool:
        """Whether it is ERM on the whole pool."""
        return (self.settings["method"], self.settings.get("train_on", "all")) == ("erm", "all")

    @property
    def peak_memory(self) -> float | None:
        """In MiB, a mean over the runs that recorded it."""
        known = [run.peak_memory for run in self.runs.values() if run.peak_memory is not None]
        return fmean(known) if known else None

    def values(self, metric: str) -> dict[SeedPair, float]:
        """A metric of the last epoch in every run that has it."""
        return {pair: run.results[metric] for pair, run in self.runs.items() if metric in run.results}


@dataclass(frozen=True)
class Baseline:
    """The ERM row that a row is measured against, and what has to be said about that choice."""

    row: Row | None
    note: str | None = None


def make_rows(records: Sequence[RunRecord]) -> tuple[list[Row], list[str]]:
    """Rows in the order of the table, each with a label of its own among those of its dataset and backbone.

    Also a warning for every seed that a row has twice; its newest run counts.
    """
    experiments = defaultdict(list)
    for record, settings in zip(records, _settings_with_fingerprints(records), strict=True):
        experiments[_key(settings)].append((record, settings))
    rows, warnings = [], []
    for members in experiments.values():
        runs, repeated = _newest_by_seeds([record for record, _settings in members])
        label = next(iter(runs.values())).label
        rows.append(Row(label=label, settings=members[0][1], runs=runs))
        warnings += repeated
    return sorted(_told_apart(rows), key=_order), warnings


def find_baselines(rows: Sequence[Row]) -> list[Baseline]:
    """The baseline of every row: ERM on the whole pool with its settings, else the only one there is."""
    candidates = defaultdict(list)
    for row in rows:
        if row.is_baseline:
            candidates[_part_key(row.settings, BASELINE_SETTINGS)].append(row)
    return [
        Baseline(None)
        if row.is_baseline
        else choose_baseline(row, candidates[_part_key(row.settings, BASELINE_SETTINGS)])
        for row in rows
    ]


def choose_baseline(row: Row, candidates: Sequence[Row]) -> Baseline:
    """The one among whole-pool ERM rows (same data, backbone, precision) that `row` is measured against."""
    exact = [erm for erm in candidates if not _differences(erm, row)]
    if exact:
        return Baseline(max(exact, key=lambda erm: len(erm.settings)))
    if len(candidates) == 1:
        here = _listed(row.settings, _differences(candidates[0], row)) or "without"
        there = _listed(candidates[0].settings, _differences(candidates[0], row))
        return Baseline(candidates[0], f"measured against ERM with {there}, here {here}")
    if candidates:
        return Baseline(None, f"none of the {len(candidates)} ERM rows has the settings of this one")
    return Baseline(
        None,
        "no ERM run on the whole pool with this data, backbone and precision; "
        "make one with `molere train --method erm`",
    )


def seeds_text(pairs: Iterable[SeedPair]) -> str:
    """`0-4`; with a data seed other than 0, or several, `0-4 (data 0), 0-2 (data 1)`."""
    seeds = defaultdict(list)
    for data_seed, seed in sorted(pairs):
        seeds[data_seed].append(seed)
    if list(seeds) == [0]:
        return _ranges(seeds[0])
    return ", ".join(f"{_ranges(found)} (data {data_seed})" for data_seed, found in seeds.items())


def _settings_with_fingerprints(records: Sequence[RunRecord]) -> list[dict[str, Any]]:
    """Each record's settings; with its fingerprints where one data_seed has led to different data.

    Fingerprints differ between data seeds by right, so they only tell rows apart where they contradict.
    """
    found = defaultdict(set)
    identities = [_part_key(record.settings, DATA_SETTINGS) for record in records]
    for record, identity in zip(records, identities, strict=True):
        for name in FINGERPRINTS:
            found[identity, name, record.data_seed].add(getattr(record, name))
    contradicted = {(identity, name) for (identity, name, _seed), prints in found.items() if _differ(prints)}
    return [
        {
            **record.settings,
            **{name: getattr(record, name) for name in FINGERPRINTS if (identity, name) in contradicted},
        }
        for record, identity in zip(records, identities, strict=True)
    ]


def _differ(fingerprints: set[str | None]) -> bool:
    """Whether any two are of different data; None is not known."""
    known = [fingerprint for fingerprint in fingerprints if fingerprint is not None]
    return not all(same_fingerprint(one, other) for one, other in combinations(known, 2))


def _newest_by_seeds(records: Sequence[RunRecord]) -> tuple[dict[SeedPair, RunRecord], list[str]]:
    """The newest run of each (data_seed, seed), and a warning for each pair that has several."""
    by_pair = defaultdict(list)
    for record in sorted(records, key=lambda record: (record.started, str(record.path))):
        by_pair[record.data_seed, record.seed].append(record)
    warnings = [
        f"{', '.join(str(run.path) for run in runs)} are the same experiment with the same seed; "
        f"the newest, {runs[-1].path}, counts"
        for runs in by_pair.values()
        if len(runs) > 1
    ]
    return {pair: by_pair[pair][-1] for pair in sorted(by_pair)}, warnings


def _told_apart(rows: Sequence[Row]) -> list[Row]:
    """The rows, with the settings that differ behind each label that several of them share."""
    shared = defaultdict(list)
    for row in rows:
        shared[row.dataset, row.backbone, row.label].append(row)
    return [row for same in shared.values() for row in (_with_differences(same) if same[1:] else same)]


def _with_differences(rows: Sequence[Row]) -> list[Row]:
    names = sorted({name for row in rows for name in row.settings})
    differing = [name for name in names if len({_text(row.settings, name) for row in rows}) > 1]
    named = [(row, _listed(row.settings, differing)) for row in rows]
    return [replace(row, label=f"{row.label} [{text}]" if text else row.label) for row, text in named]


def _differences(erm: Row, row: Row) -> list[str]:
    """The settings of `erm` in which `row` differs, what makes the method aside."""
    ours = _part(erm.settings, lambda name: name not in METHOD_SETTINGS)
    names = {*ours, *(EXTENSION & row.settings.keys())}
    return sorted(name for name in names if _text(erm.settings, name) != _text(row.settings, name))


def _order(row: Row) -> tuple[Any, ...]:
    places = [place for place, start in enumerate(LABEL_ORDER) if row.label.split(" ")[0] == start]
    return row.dataset, row.backbone, places[0] if places else len(LABEL_ORDER), row.label


def _part(settings: Mapping[str, Any], belongs: Callable[[str], bool]) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if belongs(name.partition(".")[0])}


def _part_key(settings: Mapping[str, Any], names: frozenset[str]) -> str:
    return _key(_part(settings, names.__contains__))


def _key(settings: Mapping[str, Any]) -> str:
    return json.dumps(settings, sort_keys=True)


def _text(settings: Mapping[str, Any], name: str) -> str:
    """`lr=0.05`; empty for a setting that is not in play."""
    if name not in settings:
        return ""
    value = settings[name]
    if name in FINGERPRINTS:
        value = "+".join(part[:FINGERPRINT_SHOWN] for part in (value or "unknown").split("+"))
    return f"{name}={value if isinstance(value, str) else json.dumps(value)}"


def _listed(settings: Mapping[str, Any], names: Iterable[str]) -> str:
    return ", ".join(text for name in names if (text := _text(settings, name)))


def _with_options(name: str, settings: Mapping[str, Any]) -> str:
    prefix = f"{name}_option."
    options = ", ".join(
        f"{key.removeprefix(prefix)}={settings[key]}" for key in sorted(settings) if key.startswith(prefix)
    )
    return f"{settings[name]} ({options})" if options else str(settings[name])


def _ranges(seeds: Sequence[int]) -> str:
    """`0-4, 7` for ascending seeds."""
    runs: list[list[int]] = []
    for seed in seeds:
        if runs and seed == runs[-1][-1] + 1:
            runs[-1].append(seed)
        else:
            runs.append([seed])
    return ", ".join(f"{run[0]}-{run[-1]}" if run[1:] else str(run[0]) for run in runs)
