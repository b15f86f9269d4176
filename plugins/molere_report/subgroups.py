"""For whom a method helped: its gain over ERM in parts of a test set, and the examples that it turned.

Shapes: S seeds shared with ERM, I test examples.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy
from numpy.typing import NDArray

from molere_cli.report import (
    Estimate,
    Result,
    RunDir,
    SeedPair,
    Verdict,
    estimate,
    example_estimate,
    independent,
    verdicts,
)
from molere_report.detailed import NO_GROUP, Detailed
from molere_report.prediction_flips import Confusion, Flip, Pair, confusions, flips, read_pair

NUM_FIFTHS = 5

Mask = NDArray[numpy.bool_]


@dataclass(frozen=True)
class Subgroup:
    """Some test examples: how many (a mean over seeds, should they have different test sets), accuracies in
    [0, 1], the gain in points, and the verdict on it, adjusted for the other parts; None for one seed."""

    name: str
    num_examples: float
    erm: float
    method: float
    gain: Estimate
    verdict: Verdict | None


@dataclass(frozen=True)
class Averages:
    """Accuracies in [0, 1] of ERM and of the method, and the gain in points: over test examples, and with
    every group counting as much as it does in training (the average of Sagawa et al. 2020, arXiv 1911.08731,
    and of JTT, arXiv 2107.09044)."""

    over_examples: tuple[float, float, Estimate]
    as_in_training: tuple[float, float, Estimate]


@dataclass(frozen=True, kw_only=True)
class Subgroups:
    """A row beside ERM on one test set.

    groups, label_by_group: None where the test set has no groups. fifths: by how sure of the label the ERM
    runs of other seeds were, the hardest first; None for one seed, or where the seeds were tested on
    different examples.
    fixed, broken: ERM wrong and the method right in four of five seeds, and the reverse, those of most seeds
    first; None where the seeds were tested on different examples.
    """

    num_seeds: int
    classes: Sequence[Subgroup]
    groups: Sequence[Subgroup] | None
    label_by_group: Sequence[Subgroup] | None
    fifths: Sequence[Subgroup] | None
    averages: Averages | None
    fixed: Sequence[Flip] | None
    broken: Sequence[Flip] | None
    confusions: Sequence[Confusion]


def gains_by_subgroup(result: Result) -> Subgroups | None:
    """Of a row; None for one that shares no seed with ERM.

    Raises:
        RunError: a table of predictions is missing, damaged, or of a version that recorded less, or two runs
            of one seed were not tested on the same examples.
    """
    if result.baseline is None or not result.gains:
        return None
    pairs = {
        seeds: read_pair(result.row.runs[seeds].path, result.baseline.runs[seeds].path, result.test_set)
        for seeds in result.gains
    }
    first = next(iter(pairs.values())).erm
    alike = all(pair.erm.is_on_the_examples_of(first) for pair in pairs.values())
    environment = RunDir(result.row.runs[next(iter(pairs))].path).environment()
    classes, groups = environment.get("class_names", []), environment.get("group_names", [])
    has_groups = any((pair.erm.group != NO_GROUP).any() for pair in pairs.values())
    fixed, broken = flips(list(pairs.values())) if alike else (None, None)
    return Subgroups(
        num_seeds=len(pairs),
        classes=_parts(pairs, lambda one: _by_label(one, classes)),
        groups=_parts(pairs, lambda one: _by_group(one, groups)) if has_groups else None,
        label_by_group=_parts(pairs, lambda one: _by_both(one, classes, groups)) if has_groups else None,
        fifths=_fifths(pairs) if alike and len(pairs) > 1 else None,
        averages=_averages(pairs, RunDir(result.baseline.runs[next(iter(pairs))].path))
        if has_groups
        else None,
        fixed=fixed,
        broken=broken,
        confusions=confusions(list(pairs.values())),
    )


def _named(number: int, names: Sequence[str]) -> str:
    return str(names[number]) if 0 <= number < len(names) else str(number)


def _by_label(tested: Detailed, names: Sequence[str]) -> dict[str, Mask]:
    return {_named(label, names): tested.label == label for label in _values(tested.label)}


def _by_group(tested: Detailed, names: Sequence[str]) -> dict[str, Mask]:
    known = tested.group[tested.group != NO_GROUP]
    return {_named(group, names): tested.group == group for group in _values(known)}


def _by_both(tested: Detailed, classes: Sequence[str], groups: Sequence[str]) -> dict[str, Mask]:
    return {
        f"{label}, {group}": mask
        for label, of_label in _by_label(tested, classes).items()
        for group, of_group in _by_group(tested, groups).items()
        if (mask := of_label & of_group).any()
    }


def _values(column: NDArray[numpy.int64]) -> list[int]:
    found: list[int] = numpy.unique(column).tolist()
    return found


def _parts(
    pairs: Mapping[SeedPair, Pair], masks_of: Callable[[Detailed], Mapping[str, Mask]]
) -> list[Subgroup]:
    """A part for every name that some seed's test set has."""
    masks = {seeds: masks_of(pair.erm) for seeds, pair in pairs.items()}
    return _measured(pairs, masks)


def _measured(pairs: Mapping[SeedPair, Pair], masks: Mapping[SeedPair, Mapping[str, Mask]]) -> list[Subgroup]:
    names = list(dict.fromkeys(name for found in masks.values() for name in found))
    parts, gains = [], []
    for name in names:
        here = {seeds: found[name] for seeds, found in masks.items() if name in found}
        erm = [float(pairs[seeds].erm.right[mask].mean()) for seeds, mask in here.items()]
        method = [float(pairs[seeds].method.right[mask].mean()) for seeds, mask in here.items()]
        gained = independent(
            {seeds: float(pairs[seeds].differences[mask].mean()) for seeds, mask in here.items()}
        )
        gains.append(gained)
        size = fmean(int(mask.sum()) for mask in here.values())
        parts.append((name, size, fmean(erm), fmean(method), _estimate(pairs, here, gained)))
    judged = verdicts(gains) if len(pairs) > 1 else [None] * len(parts)
    return [Subgroup(*part, verdict) for part, verdict in zip(parts, judged, strict=True)]


def _estimate(
    pairs: Mapping[SeedPair, Pair], masks: Mapping[SeedPair, Mask], gains: Sequence[float]
) -> Estimate:
    """Over seeds; of one seed over the part's examples alone."""
    if len(pairs) > 1:
        return estimate(gains)
    [(seeds, mask)] = masks.items()
    return example_estimate(pairs[seeds].differences[mask])


def _fifths(pairs: Mapping[SeedPair, Pair]) -> list[Subgroup]:
    """By the margin under the ERM runs of the other seeds.

    Under the one of the same seed the hardest fifth would be where that run had bad luck, and any other, one
    of ERM too, would seem to gain there and to lose in the easiest.
    """
    margins = {seeds: pair.erm.margin for seeds, pair in pairs.items()}
    together = numpy.sum(list(margins.values()), axis=0)
    masks = {}
    for seeds, own in margins.items():
        order = numpy.argsort(together - own, kind="stable")
        fifth = numpy.empty(len(order), dtype=numpy.int64)
        for number, members in enumerate(numpy.array_split(order, NUM_FIFTHS)):
            fifth[members] = number
        found = {_fifth_name(number): fifth == number for number in range(NUM_FIFTHS)}
        masks[seeds] = {name: mask for name, mask in found.items() if mask.any()}
    return _measured(pairs, masks)


def _fifth_name(number: int) -> str:
    return {0: "1, the hardest", NUM_FIFTHS - 1: f"{NUM_FIFTHS}, the easiest"}.get(number, str(number + 1))


def _averages(pairs: Mapping[SeedPair, Pair], erm: RunDir) -> Averages | None:
    """None where training has a group that the tests lack, or says nothing of groups."""
    # Here, since it reads tables.
    from molere_cli.report import RunTable

    groups = RunTable.pool(erm).read(["group"])["group"].drop_null().to_numpy()
    if not len(groups):
        return None
    numbers, counts = numpy.unique(groups, return_counts=True)
    shares = dict(zip(numbers.tolist(), (counts / counts.sum()).tolist(), strict=True))
    if any(not (pair.erm.group == group).any() for pair in pairs.values() for group in shares):
        return None

    def plain(tested: Detailed) -> float:
        return float(tested.right.mean())

    def weighted(tested: Detailed) -> float:
        return math.fsum(
            share * float(tested.right[tested.group == group].mean()) for group, share in shares.items()
        )

    return Averages(_average(pairs, plain), _average(pairs, weighted))


def _average(
    pairs: Mapping[SeedPair, Pair], accuracy: Callable[[Detailed], float]
) -> tuple[float, float, Estimate]:
    erm = {seeds: accuracy(pair.erm) for seeds, pair in pairs.items()}
    method = {seeds: accuracy(pair.method) for seeds, pair in pairs.items()}
    gains = independent({seeds: 100 * (method[seeds] - erm[seeds]) for seeds in pairs})
    return fmean(erm.values()), fmean(method.values()), estimate(gains)
