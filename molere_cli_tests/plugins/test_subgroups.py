"""For whom a method helped: every number against plain Python, part by part."""

from __future__ import annotations

import json
import math
from statistics import fmean, stdev

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from molere_report.detailed import NO_GROUP, Detailed
from molere_report.prediction_flips import Pair, confusions, flips
from molere_report.subgroups import gains_by_subgroup
from scipy.stats import t

from molere_cli.foundation.errors import RunError
from molere_cli.report import compare_runs, find_runs
from molere_cli_tests.fake_runs import erm_run, lrw_run

CLASSES, GROUPS = ["cat", "<script>"], ["land", "water"]
NUM = 40


def write(run, tested: dict, pool_groups) -> None:
    count = len(tested["label"])
    table = {"test_set": pa.array(["test"] * count).dictionary_encode(), "index": np.arange(count), **tested}
    table["group"] = pa.array(tested["group"], pa.int64())
    pq.write_table(pa.table(table), run / "predictions.parquet")
    if pool_groups is not None:
        pool = {"index": np.arange(len(pool_groups)), "group": pa.array(pool_groups, pa.int64())}
        pq.write_table(pa.table(pool), run / "pool.parquet")
    environment = json.loads((run / "environment.json").read_text())
    environment |= {"class_names": CLASSES, "group_names": GROUPS}
    (run / "environment.json").write_text(json.dumps(environment))


def make(root, *, seeds=5, groups=True, pool_groups=(0, 0, 0, 1), seed_of_data=lambda seed: 0):
    """Runs of ERM and of a method, and what was drawn for them: by seed, {erm, method} to rows."""
    generator = np.random.default_rng(7)
    label = generator.integers(2, size=NUM)
    group = np.where(np.arange(NUM) % 3 == 0, 1, 0)
    difficulty = generator.random(NUM)
    drawn = {}
    for seed in range(seeds):
        for name, make_run, skill in (("erm", erm_run, 0.5), ("method", lrw_run, 0.75)):
            margin = np.clip(skill - difficulty + 0.3 * generator.normal(size=NUM), -1, 1)
            prediction = np.where(margin > 0, label, 1 - label)
            tested = {
                "label": label,
                "prediction": prediction,
                "margin": margin.astype(np.float32),
                "probability": np.full(NUM, 0.75, np.float32),
                "group": [int(g) if groups and place != 1 else None for place, g in enumerate(group)],
            }
            accuracy = float((prediction == label).mean())
            path = make_run(
                root / f"{name}{seed}", accuracy, config={"seed": seed, "data_seed": seed_of_data(seed)}
            )
            write(path, tested, pool_groups)
            drawn[seed, name] = tested
    return drawn


def found(root):
    [result] = [each for each in compare_runs(find_runs(root)).results if not each.row.is_baseline]
    return result, gains_by_subgroup(result)


def accuracy(tested, members) -> float:
    return fmean(float(tested["label"][row] == tested["prediction"][row]) for row in members)


def check(parts, members_of, drawn, seeds=5):
    assert [part.name for part in parts] == list(members_of)
    for part in parts:
        rows = members_of[part.name]
        erm, method = (
            [accuracy(drawn[seed, name], rows) for seed in range(seeds)] for name in ("erm", "method")
        )
        gains = [100 * (ours - theirs) for ours, theirs in zip(method, erm, strict=True)]
        assert part.num_examples == len(rows)
        assert (part.erm, part.method) == pytest.approx((fmean(erm), fmean(method)), abs=1e-12)
        assert part.gain.mean == pytest.approx(fmean(gains), abs=1e-9)
        if len(set(gains)) > 1:
            reach = t.ppf(0.975, seeds - 1) * stdev(gains) / math.sqrt(seeds)
            assert part.gain.high - part.gain.mean == pytest.approx(reach, rel=1e-9)


def test_every_part_is_what_its_examples_say(tmp_path):
    drawn = make(tmp_path)
    _, subgroups = found(tmp_path)
    label, group = drawn[0, "erm"]["label"], drawn[0, "erm"]["group"]
    classes = {name: [row for row in range(NUM) if label[row] == c] for c, name in enumerate(CLASSES)}
    groups = {name: [row for row in range(NUM) if group[row] == g] for g, name in enumerate(GROUPS)}
    check(subgroups.classes, classes, drawn)
    check(subgroups.groups, groups, drawn)
    both = {f"{c}, {g}": sorted(set(classes[c]) & set(groups[g])) for c in CLASSES for g in GROUPS}
    check(subgroups.label_by_group, both, drawn)
    assert sum(part.num_examples for part in subgroups.classes) == NUM
    assert sum(part.num_examples for part in subgroups.groups) == NUM - 1


def test_parts_together_are_the_row(tmp_path):
    make(tmp_path)
    result, subgroups = found(tmp_path)
    for parts in (subgroups.classes, subgroups.fifths):
        weighted = math.fsum(part.num_examples * part.gain.mean for part in parts) / NUM
        assert weighted == pytest.approx(result.gain.mean, abs=1e-9)


def test_fifths_are_by_the_margins_of_other_seeds(tmp_path):
    drawn = make(tmp_path)
    _, subgroups = found(tmp_path)
    gains = [[] for _ in range(5)]
    for seed in range(5):
        others = [
            sum(float(drawn[other, "erm"]["margin"][row]) for other in range(5) if other != seed)
            for row in range(NUM)
        ]
        order = sorted(range(NUM), key=lambda row: others[row])
        for fifth in range(5):
            members = order[8 * fifth : 8 * (fifth + 1)]
            ours, theirs = (accuracy(drawn[seed, name], members) for name in ("method", "erm"))
            gains[fifth].append(100 * (ours - theirs))
    assert [part.gain.mean for part in subgroups.fifths] == pytest.approx([fmean(each) for each in gains])
    assert subgroups.fifths[0].name == "1, the hardest" and subgroups.fifths[-1].name == "5, the easiest"


def test_erm_does_not_gain_over_itself_where_it_had_bad_luck():
    """Two runs that differ by luck alone: by its own margin the hardest fifth would seem to gain."""
    from molere_report.subgroups import _fifths

    generator = np.random.default_rng(0)
    difficulty = generator.normal(size=4000)

    def run():
        margin = np.tanh(difficulty + generator.normal(size=4000))
        label = np.zeros(4000, np.int64)
        prediction = np.where(margin > 0, 0, 1)
        return Detailed(np.arange(4000), label, prediction, label, margin, np.abs(margin))

    pairs = {(0, seed): Pair(run(), run()) for seed in range(5)}
    found = _fifths(pairs)
    assert all(abs(part.gain.mean) < 4 for part in found)
    own = [pair.differences[np.argsort(pair.erm.margin)[:800]].mean() for pair in pairs.values()]
    assert fmean(own) > 10


def test_the_two_averages(tmp_path):
    drawn = make(tmp_path)
    result, subgroups = found(tmp_path)
    group = drawn[0, "erm"]["group"]
    expected = []
    for name in ("erm", "method"):
        by_group = [
            fmean(
                accuracy(drawn[seed, name], [row for row in range(NUM) if group[row] == g])
                for seed in range(5)
            )
            for g in (0, 1)
        ]
        expected.append(0.75 * by_group[0] + 0.25 * by_group[1])
    over, training = subgroups.averages.over_examples, subgroups.averages.as_in_training
    assert training[:2] == pytest.approx(expected)
    assert training[2].mean == pytest.approx(100 * (expected[1] - expected[0]))
    assert over[2].mean == pytest.approx(result.gain.mean)


@pytest.mark.parametrize("pool_groups", [(0, 1, 2), (None, None)])
def test_no_average_where_the_tests_lack_a_group_of_training(tmp_path, pool_groups):
    make(tmp_path, pool_groups=pool_groups)
    assert found(tmp_path)[1].averages is None


def test_without_groups_there_are_classes(tmp_path):
    make(tmp_path, groups=False)
    _, subgroups = found(tmp_path)
    assert subgroups.groups is subgroups.label_by_group is subgroups.averages is None
    assert [part.name for part in subgroups.classes] == CLASSES


def test_one_seed_has_intervals_over_examples_and_no_fifths(tmp_path):
    drawn = make(tmp_path, seeds=1)
    _, subgroups = found(tmp_path)
    assert subgroups.fifths is None and subgroups.num_seeds == 1
    part = subgroups.classes[0]
    rows = [row for row in range(NUM) if drawn[0, "erm"]["label"][row] == 0]
    right = [[accuracy(drawn[0, name], [row]) for row in rows] for name in ("method", "erm")]
    differences = [100 * (ours - theirs) for ours, theirs in zip(*right, strict=True)]
    reach = t.ppf(0.975, len(rows) - 1) * stdev(differences) / math.sqrt(len(rows))
    assert part.gain.high - part.gain.mean == pytest.approx(reach)
    assert part.verdict is None and part.gain.num_pairs == 1


def test_draws_of_the_data_count_as_one_value_each(tmp_path):
    make(tmp_path, seeds=4, seed_of_data=lambda seed: seed // 2)
    _, subgroups = found(tmp_path)
    assert {part.gain.num_pairs for part in subgroups.classes} == {2}


def test_a_run_that_was_tested_on_others_is_named(tmp_path):
    make(tmp_path)
    path = tmp_path / "method2" / "predictions.parquet"
    table = pq.read_table(path)
    pq.write_table(table.slice(1), path)
    with pytest.raises(RunError, match=r"method2 and .*erm2 were not tested on the same examples"):
        found(tmp_path)


# --- what is turned


def seen(label, right, margin) -> Detailed:
    label = np.array(label)
    prediction = np.where(right, label, (label + 1) % 3)
    nothing = np.full(len(label), NO_GROUP)
    return Detailed(
        np.arange(len(label)) + 100, label, prediction, nothing, np.array(margin), np.ones(len(label))
    )


@given(st.integers(1, 7), st.integers(0, 2**32 - 1))
@settings(suppress_health_check=[HealthCheck.too_slow])
def test_what_is_turned_is_turned_in_four_of_five_seeds(num_seeds, number):
    generator = np.random.default_rng(number)
    label = generator.integers(3, size=12)
    pairs = [
        Pair(*(seen(label, generator.random(12) < p, generator.random(12)) for p in (0.8, 0.3)))
        for _ in range(num_seeds)
    ]
    fixed, broken = flips(pairs)
    for sign, turns in ((1, fixed), (-1, broken)):
        expected = {}
        for row in range(12):
            num_flips = sum(sign * pair.differences[row] > 0 for pair in pairs)
            if 5 * num_flips >= 4 * num_seeds:
                change = fmean(pair.method.margin[row] - pair.erm.margin[row] for pair in pairs)
                expected[row + 100] = (-int(num_flips), -sign * change)
        assert [turn.index for turn in turns] == sorted(expected, key=lambda index: (*expected[index], index))
        for turn in turns:
            assert turn.label == label[turn.index - 100]
            wrong = turn.erm_prediction if sign > 0 else turn.prediction
            assert wrong == (turn.label + 1) % 3


def test_confusions_are_means_over_seeds():
    label = [0, 0, 1, 2]
    pairs = [
        Pair(seen(label, [True, False, True, True], [0] * 4), seen(label, [False] * 4, [0] * 4)),
        Pair(seen(label, [True] * 4, [0] * 4), seen(label, [False, False, True, True], [0] * 4)),
    ]
    first, second, third = confusions(pairs)
    assert (first.label, first.prediction, first.erm, first.method) == (0, 1, 2.0, 0.5)
    assert (second.label, second.prediction, second.erm, second.method) == (1, 2, 0.5, 0.0)
    assert (third.label, third.prediction) == (2, 0)
    assert len(confusions(pairs, most=1)) == 1
