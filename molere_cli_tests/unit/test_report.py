import json
import re
import subprocess
import sys
import time

import numpy as np
import pytest
from scipy.stats import ttest_rel

from molere_cli.foundation.errors import RunError
from molere_cli.report import compare_runs, find_runs, render
from molere_cli.report.comparison_rows import seeds_text
from molere_cli.report.statistics import estimate, gain, spread
from molere_cli.runs.run_directory import RunDir
from molere_cli_tests.fake_runs import erm_run, lrw_run, molere_run

ERM_ACCURACIES = (0.70, 0.72, 0.69, 0.75)
HARD_ACCURACIES = (0.74, 0.71, 0.76, 0.78)


@pytest.fixture
def root(tmp_path):
    """Four seeds of ERM and of LRW-Hard."""
    for seed, (erm, hard) in enumerate(zip(ERM_ACCURACIES, HARD_ACCURACIES, strict=True)):
        erm_run(tmp_path / f"erm{seed}", erm, config={"seed": seed})
        lrw_run(tmp_path / f"hard{seed}", hard, config={"seed": seed})
    return tmp_path


def compared(root, **kwargs):
    return compare_runs(find_runs(root), **kwargs)


def labels(comparison):
    return [result.row.label for result in comparison.results]


def by_label(comparison, label):
    [result] = [result for result in comparison.results if result.row.label == label]
    return result


# --- statistics


@pytest.mark.parametrize("num_pairs", [2, 3, 10])
def test_interval_is_the_paired_t_interval_of_scipy(num_pairs):
    ours, theirs = np.random.default_rng(num_pairs).uniform(0.1, 0.9, (2, num_pairs))
    found = estimate([gain(a, b, "points") for a, b in zip(ours, theirs, strict=True)])
    oracle = ttest_rel(ours, theirs).confidence_interval(0.95)
    assert found.mean == pytest.approx(100 * (ours.mean() - theirs.mean()))
    assert (found.low, found.high) == pytest.approx((100 * oracle.low, 100 * oracle.high))
    assert found.num_pairs == num_pairs


@pytest.mark.parametrize("gains", [[2.0, 2.0, 2.0], [0.1 + 0.2, 0.3], [0.0] * 5])
def test_equal_gains_have_no_interval(gains):
    found = estimate(gains)
    assert (found.low, found.mean, found.high) == (None, pytest.approx(gains[0]), None)


def test_one_value_has_neither_interval_nor_deviation():
    assert (estimate([1.0]).low, estimate([1.0]).high, spread([1.0]).std) == (None, None, None)


def test_spread_is_the_sample_deviation():
    found = spread(ERM_ACCURACIES)
    assert found.mean == pytest.approx(np.mean(ERM_ACCURACIES))
    assert found.std == pytest.approx(np.std(ERM_ACCURACIES, ddof=1))


@pytest.mark.parametrize(
    ("kind", "better", "worse", "equal"),
    [("points", 10.0, -10.0, 0.0), ("relative", 20.0, -20.0, 0.0), ("ratio", 1.2, -0.8, 1.0)],
)
def test_gain_kinds(kind, better, worse, equal):
    assert gain(0.6, 0.5, kind) == pytest.approx(better)
    assert gain(0.4, 0.5, kind) == pytest.approx(worse)
    assert gain(0.5, 0.5, kind) == pytest.approx(equal)


# --- gains of runs


def test_gain_margin_gain_and_accuracy_are_exact(root):
    hard = by_label(compared(root), "LRW-Hard")
    oracle = ttest_rel(HARD_ACCURACIES, ERM_ACCURACIES).confidence_interval(0.95)
    assert hard.accuracy.mean == pytest.approx(np.mean(HARD_ACCURACIES))
    assert hard.gain.mean == pytest.approx(100 * (np.mean(HARD_ACCURACIES) - np.mean(ERM_ACCURACIES)))
    assert (hard.gain.low, hard.gain.high) == pytest.approx((100 * oracle.low, 100 * oracle.high))
    assert (hard.gain_in("margin").low, hard.gain_in("margin").high) == pytest.approx(
        (2 * oracle.low, 2 * oracle.high)
    )
    assert hard.seconds == 4.0
    assert hard.notes == ()


def test_relative_gain_is_the_mean_of_each_seeds_own(root):
    hard = by_label(compared(root, gain="relative"), "LRW-Hard")
    expected = 100 * (np.divide(HARD_ACCURACIES, ERM_ACCURACIES) - 1)
    assert list(hard.gains.values()) == pytest.approx(list(expected))
    assert hard.gain.mean == pytest.approx(expected.mean())


def test_ratio_has_a_mean_but_no_interval(root):
    hard = by_label(compared(root, gain="ratio"), "LRW-Hard")
    assert hard.gains[0, 1] == pytest.approx(-0.71 / 0.72)
    assert (hard.gain.low, hard.gain.high) == (None, None)
    assert hard.gain_in("margin").low is not None


def test_gain_over_an_accuracy_of_zero_is_left_out_with_a_note(tmp_path):
    erm_run(tmp_path / "erm", 0.0)
    lrw_run(tmp_path / "hard", 0.5)
    hard = by_label(compared(tmp_path, gain="relative"), "LRW-Hard")
    assert hard.gain is None
    assert "accuracy of 0" in hard.notes[0]
    assert by_label(compared(tmp_path), "LRW-Hard").gain.mean == pytest.approx(50.0)


def test_runs_are_paired_by_data_seed_and_seed(tmp_path):
    seeds = [(0, 0), (0, 1), (1, 0), (1, 1)]
    for position, (data_seed, seed) in enumerate(seeds):
        pair = {"data_seed": data_seed, "seed": seed}
        made = {"fingerprint": f"f{data_seed}"}
        erm_run(tmp_path / f"z{9 - position}", 0.5 + 0.1 * position, config=pair, environment=made)
        accuracy = 0.5 + 0.1 * position + 0.01 * (position + 1)
        lrw_run(tmp_path / f"a{position}", accuracy, config=pair, environment=made)
    hard = by_label(compared(tmp_path), "LRW-Hard")
    assert hard.gains == pytest.approx(dict(zip(seeds, (1.0, 2.0, 3.0, 4.0), strict=True)))


def test_gain_counts_shared_seeds_alone_and_says_so(root):
    lrw_run(root / "hard7", 0.1, config={"seed": 7})
    hard = by_label(compared(root), "LRW-Hard")
    assert hard.gain.mean == pytest.approx(100 * (np.mean(HARD_ACCURACIES) - np.mean(ERM_ACCURACIES)))
    assert hard.gain.num_pairs == 4
    assert hard.notes == ("gain over 4 of 5 runs: no ERM run for 7",)


def test_no_shared_seed_means_no_gain(tmp_path):
    erm_run(tmp_path / "erm", 0.5)
    lrw_run(tmp_path / "hard", 0.6, config={"seed": 1})
    hard = by_label(compared(tmp_path), "LRW-Hard")
    assert (hard.gain, hard.gain_in("margin")) == (None, None)
    assert hard.notes == ("no ERM run has a seed of this row",)


def test_worst_group_has_a_gain_of_its_own_where_there_are_groups(tmp_path):
    erm_run(tmp_path / "erm", 0.7, worst_group=0.2)
    lrw_run(tmp_path / "hard", 0.8, worst_group=0.5)
    hard = by_label(compared(tmp_path), "LRW-Hard")
    assert (hard.spread_of("worst_group").mean, hard.gain_in("worst_group").mean) == pytest.approx(
        (0.5, 30.0)
    )


# --- rows


def test_order_is_that_of_the_paper(tmp_path):
    molere_run(tmp_path / "a", 0.7)
    lrw_run(tmp_path / "b", 0.7, environment={"label": "JTT"})
    for strategy in ("hard", "random", "easy"):
        lrw_run(tmp_path / strategy, 0.7, strategy=strategy)
    erm_run(tmp_path / "z", 0.7)
    lrw_run(tmp_path / "c", 0.7, strategy="hard", environment={"label": "FSR"}, config={"method": "fsr"})
    (tmp_path / "b" / "config.json").write_text(
        (tmp_path / "b" / "config.json").read_text().replace('"lrw"', '"jtt"')
    )
    expected = ["ERM", "LRW-Easy", "LRW-Random", "LRW-Hard", "MOLERE (LRW-Opt)", "FSR", "JTT"]
    assert labels(compared(tmp_path)) == expected


@pytest.mark.parametrize(
    ("setting", "values"),
    [
        ("lr", (0.05, 0.1)),
        ("train_on", ("all", "train")),
        ("reweighter_lr", (0.05, 0.01)),
        ("weight_decay_filter", (False, True)),
    ],
)
def test_runs_with_other_hyper_parameters_are_other_rows_and_say_so(tmp_path, setting, values):
    for seed, value in enumerate(values):
        lrw_run(tmp_path / f"hard{seed}", 0.7, config={setting: value, "seed": seed})
    shown = [value if isinstance(value, str) else json.dumps(value) for value in values]
    assert sorted(labels(compared(tmp_path))) == sorted(f"LRW-Hard [{setting}={text}]" for text in shown)


def test_options_are_told_apart_by_their_own_names(tmp_path):
    lrw_run(tmp_path / "a", 0.7, config={"reweighter_option": {"hidden": "64"}})
    lrw_run(tmp_path / "b", 0.7)
    assert labels(compared(tmp_path)) == ["LRW-Hard", "LRW-Hard [reweighter_option.hidden=64]"]


@pytest.mark.parametrize(("key", "value"), [("delta", 0.2), ("score", "loss")])
def test_rows_follow_the_splits_provenance(tmp_path, key, value):
    split = {"strategy": "hard", "score": "aum", "delta": 0.1, "seed": 0}
    lrw_run(tmp_path / "a", 0.7, environment={"split": split}, config={"split": "a.parquet"})
    lrw_run(tmp_path / "b", 0.7, environment={"split": {**split, key: value}}, config={"split": "b.parquet"})
    assert len(compared(tmp_path).results) == 2


def test_a_split_file_and_its_strategy_are_one_row(tmp_path):
    path = lrw_run(tmp_path / "file", 0.7, config={"split": "splits/a.parquet", "seed": 1})
    settings = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(
        json.dumps({key: value for key, value in settings.items() if key not in {"delta", "score"}})
    )
    lrw_run(tmp_path / "made", 0.7)
    assert [len(result.row.runs) for result in compared(tmp_path).results] == [2]


def test_machine_settings_and_paths_differ_freely(tmp_path):
    machine = {"device": "cuda", "threads": 4, "workers": 0, "data_dir": "/elsewhere", "eval_interval": 5}
    lrw_run(tmp_path / "a", 0.7, config={"precision": "fp32", "download": True, **machine})
    lrw_run(tmp_path / "b", 0.7, config={"seed": 1})
    assert [len(result.row.runs) for result in compared(tmp_path).results] == [2]


def test_resolved_precision_makes_another_row(tmp_path):
    lrw_run(tmp_path / "a", 0.7)
    lrw_run(tmp_path / "b", 0.7, config={"seed": 1}, environment={"precision": "bf16"})
    assert labels(compared(tmp_path)) == ["LRW-Hard [precision=bf16]", "LRW-Hard [precision=fp32]"]


def test_fingerprints_may_differ_between_data_seeds(tmp_path):
    for data_seed in (0, 1):
        made = {"fingerprint": f"f{data_seed}"}
        lrw_run(tmp_path / f"a{data_seed}", 0.7, config={"data_seed": data_seed}, environment=made)
    assert [len(result.row.runs) for result in compared(tmp_path).results] == [2]


def test_other_data_under_one_data_seed_is_neither_merged_nor_paired(tmp_path):
    erm_run(tmp_path / "erm", 0.5, environment={"fingerprint": "aaaaaaaaaaaa"})
    lrw_run(tmp_path / "old", 0.6, environment={"fingerprint": "aaaaaaaaaaaa"})
    lrw_run(tmp_path / "new", 0.7, config={"seed": 1}, environment={"fingerprint": "bbbbbbbbbbbb"})
    found = compared(tmp_path)
    assert labels(found) == ["ERM", "LRW-Hard [fingerprint=aaaaaaaa]", "LRW-Hard [fingerprint=bbbbbbbb]"]
    assert [result.gain is None for result in found.results] == [True, False, True]


def test_newest_run_of_a_repeated_seed_counts_and_is_warned_of(tmp_path):
    lrw_run(tmp_path / "b", 0.7, environment={"started": "2025-01-02T00:00:00+00:00"})
    lrw_run(tmp_path / "a", 0.9, environment={"started": "2025-01-03T00:00:00+00:00"})
    lrw_run(tmp_path / "c", 0.8, environment={"started": "2025-01-01T00:00:00+00:00"})
    found = compared(tmp_path)
    assert found.results[0].accuracy.mean == 0.9
    [warning] = found.warnings
    assert warning.endswith(f"the newest, {tmp_path / 'a'}, counts")


def test_one_directory_given_twice_is_one_run(tmp_path):
    path = erm_run(tmp_path / "erm", 0.7)
    found = compare_runs([path, tmp_path / "." / "erm", path])
    assert (len(found.results[0].row.runs), found.warnings) == (1, [])


def test_a_seed_pair_is_written_in_ranges():
    assert seeds_text([(0, seed) for seed in (4, 0, 1, 2, 7)]) == "0-2, 4, 7"
    assert seeds_text([(3, 0), (3, 1)]) == "0-1 (data 3)"
    assert seeds_text([(0, 0), (1, 0), (1, 1)]) == "0 (data 0), 0-1 (data 1)"


# --- baselines


def test_the_erm_row_with_the_same_settings_is_the_baseline(root):
    erm_run(root / "fast", 0.1, config={"lr": 0.5})
    hard = by_label(compared(root), "LRW-Hard")
    assert hard.baseline.settings["lr"] == 0.05
    assert hard.notes == ()


def test_the_only_erm_row_serves_with_a_note_of_what_differs(tmp_path):
    erm_run(tmp_path / "erm", 0.5, config={"lr": 0.5, "schedule": "step", "lr_decay_epochs": 50})
    lrw_run(tmp_path / "hard", 0.6)
    hard = by_label(compared(tmp_path), "LRW-Hard")
    assert hard.gain.mean == pytest.approx(10.0)
    assert hard.notes == (
        "measured against ERM with lr=0.5, lr_decay_epochs=50, schedule=step, here lr=0.05, schedule=cosine",
    )


def test_several_erm_rows_none_of_which_fits_give_no_gain(tmp_path):
    for lr in (0.5, 0.25):
        erm_run(tmp_path / f"erm{lr}", 0.5, config={"lr": lr})
    lrw_run(tmp_path / "hard", 0.6)
    hard = by_label(compared(tmp_path), "LRW-Hard")
    assert (hard.gain, hard.baseline) == (None, None)
    assert hard.notes == ("none of the 2 ERM rows has the settings of this one",)


@pytest.mark.parametrize(
    "config",
    [
        {"dataset": "cifar10"},
        {"dataset_option": {"rho": "0.9"}},
        {"limit_train": 100},
        {"label_noise": "uniform", "noise_rate": 0.4},
        {"class_skew": 50.0},
        {"colour_patch": 0.9},
        {"backbone": "timm:resnet18"},
        {"backbone_option": {"pretrained": "true"}},
        {"train_on": "train"},
    ],
)
def test_erm_on_other_data_backbone_or_pool_is_no_baseline(tmp_path, config):
    erm_run(tmp_path / "erm", 0.5, config=config)
    lrw_run(tmp_path / "hard", 0.6)
    hard = by_label(compared(tmp_path), "LRW-Hard")
    assert hard.gain is None
    assert "molere train --method erm" in hard.notes[0]


def test_a_row_trained_on_the_training_part_is_measured_against_the_whole_pool(tmp_path):
    erm_run(tmp_path / "erm", 0.5)
    erm_run(tmp_path / "part", 0.4, config={"train_on": "train"})
    lrw_run(tmp_path / "hard", 0.6, config={"train_on": "train"})
    found = compared(tmp_path)
    assert labels(found) == ["ERM [train_on=all]", "ERM [train_on=train]", "LRW-Hard"]
    assert [result.gain and result.gain.mean for result in found.results] == [
        None,
        pytest.approx(-10.0),
        pytest.approx(10.0),
    ]
    assert [result.notes for result in found.results] == [(), (), ()]


def test_erm_has_no_gain_over_itself(root):
    erm = by_label(compared(root), "ERM")
    assert (erm.gain, erm.baseline, erm.notes) == (None, None, ())


# --- what cannot be compared


def test_unfinished_runs_are_left_out_and_named(root):
    (root / "hard3" / "DONE").unlink()
    found = compared(root)
    assert len(by_label(found, "LRW-Hard").row.runs) == 3
    assert found.warnings == [f"left out, being unfinished: {root / 'hard3'}"]


def test_files_among_the_paths_are_left_out_and_named(root):
    chart = root / "gains.png"
    chart.write_bytes(b"")
    found = compare_runs(sorted(root.iterdir()))
    assert found.warnings == [f"left out, being no directory: {chart}"]
    assert len(found.results) == 2


def test_nothing_but_unfinished_runs_is_an_error(tmp_path):
    (erm_run(tmp_path / "erm", 0.5) / "DONE").unlink()
    with pytest.raises(RunError, match=r"no run is finished yet: .*erm; go on with `molere train --resume"):
        compared(tmp_path)


def test_a_folder_without_runs_says_how_to_make_one(tmp_path):
    (tmp_path / "notes").mkdir()
    with pytest.raises(RunError, match="make one with `molere train`"):
        find_runs(tmp_path)
    with pytest.raises(RunError, match="make one with `molere train`"):
        find_runs(tmp_path / "nowhere")


def test_what_is_no_run_directory_is_named(tmp_path):
    with pytest.raises(RunError, match="nothing is not a run directory"):
        compare_runs([tmp_path / "nothing"])


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("config.json", "{broken", r"erm0.config\.json is damaged"),
        ("config.json", '{"seed": "0"}', r"erm0 was not written by this version .* no 'dataset'"),
        (
            "config.json",
            '{"seed": 0, "seed": 1}',
            r"erm0.config\.json is damaged: the key 'seed' is there twice",
        ),
        ("environment.json", "{broken", r"erm0.environment\.json is damaged"),
        ("environment.json", "{}", r"erm0 was not written by this version of MOLERE: it has no 'label'"),
        ("environment.json", "[" * 100_000, r"erm0.environment\.json is damaged: it is nested too deeply"),
        ("metrics.jsonl", "{broken", r"erm0.metrics\.jsonl is damaged"),
        ("metrics.jsonl", "", r"erm0.metrics\.jsonl is empty"),
        ("metrics.jsonl", '{"epoch": [0]}', r"erm0.metrics\.jsonl is damaged: epoch"),
        (
            "metrics.jsonl",
            '{"epoch": 0, "time/seconds": 1e999}',
            r"damaged: '1e999' is larger than any float64",
        ),
        (
            "metrics.jsonl",
            f'{{"epoch": {10**400}}}',
            r"damaged: epoch",
        ),
        ("DONE", "{}", r"erm0.DONE|erm0 was not written"),
        ("DONE", "", r"erm0.DONE is damaged"),
    ],
)
def test_a_damaged_run_is_an_error_alone_and_left_out_among_others(root, name, text, sentence):
    (root / "erm0" / name).write_text(text)
    with pytest.raises(RunError, match=sentence):
        compare_runs([root / "erm0"])
    found = compared(root)
    assert len(by_label(found, "ERM").row.runs) == 3
    (warning,) = [each for each in found.warnings if each.startswith("left out, since it cannot be read: ")]
    assert re.search(sentence, warning)


def test_text_that_is_not_utf8_is_damaged(root):
    (root / "erm0" / "metrics.jsonl").write_bytes(b"\xff\xfe{}")
    with pytest.raises(RunError, match=r"metrics\.jsonl is damaged: 'utf-8' codec"):
        compare_runs([root / "erm0"])


def test_a_folder_of_runs_among_runs_is_left_out_and_named(root):
    (root / "demo" / "inner").mkdir(parents=True)
    found = compare_runs(sorted(root.iterdir()))
    assert found.warnings == [
        f"left out, since it cannot be read: {root / 'demo'} is not a run directory: "
        "no readable config.json in it"
    ]
    assert len(found.results) == 2


def test_a_run_that_lost_its_settings_is_named_by_a_comparison_of_the_whole_folder(root):
    (root / "erm0" / "config.json").unlink()
    assert "erm0 is not a run directory" in compared(root).warnings[0]


def test_edited_records_of_a_finished_run_are_not_compared(root):
    run = RunDir(root / "erm0")
    (run.path / "DONE").unlink()
    run.mark_done()
    records = run.metrics()
    records[-1]["test/accuracy"] = 0.99
    run.write_metrics(records)
    with pytest.raises(RunError, match=r"erm0.metrics\.jsonl is damaged: it is not what the run wrote"):
        compare_runs([run.path])


def test_another_test_set_can_be_compared(tmp_path):
    erm_run(tmp_path / "erm", 0.5, **{"tuning/accuracy": 0.6, "tuning/margin": 0.1})
    lrw_run(tmp_path / "hard", 0.5, **{"tuning/accuracy": 0.8, "tuning/margin": 0.4})
    hard = by_label(compared(tmp_path, test_set="tuning"), "LRW-Hard")
    assert (hard.gain.mean, hard.gain_in("margin").mean) == pytest.approx((20.0, 0.3))


def test_an_unknown_test_set_lists_those_there_are(tmp_path):
    erm_run(tmp_path / "erm", 0.5, **{"tuning/accuracy": 0.6})
    with pytest.raises(RunError, match=r"no run has a test set 'tset'; there are: test, tuning$"):
        compared(tmp_path, test_set="tset")


def test_runs_without_the_test_set_are_left_out_and_named(tmp_path):
    erm_run(tmp_path / "erm", 0.5, **{"tuning/accuracy": 0.6})
    erm_run(tmp_path / "other", 0.5, config={"dataset": "cifar10"})
    found = compared(tmp_path, test_set="tuning")
    assert labels(found) == ["ERM"]
    assert found.warnings == [f"left out, having no test set 'tuning': {tmp_path / 'other'}"]


# --- rendering


def test_table_has_numbers_marks_and_footnotes(root):
    lrw_run(root / "hard9", 0.5, config={"seed": 9})
    molere_run(root / "molere", 0.73, config={"epochs": 3})
    text = render(compared(root))
    [line] = [line for line in text.splitlines() if "LRW-Hard" in line]
    for cell in ("5", "0-3, 9", "+3.25 [-2.01, +8.51] ¹", "+0.0650 [-0.0401, +0.1701]", "4.0"):
        assert cell in line
    [line] = [line for line in text.splitlines() if "MOLERE" in line]
    assert "73.00 ± n/a" in line
    assert "+3.00 [n/a] ²" in line
    *_, explained, first, second = text.splitlines()
    assert explained.startswith("[ ]: 95% interval, paired Student's t over the seeds shared with ERM")
    assert first == "¹ gain over 4 of 5 runs: no ERM run for 9"
    assert second == "² measured against ERM with epochs=2, here epochs=3"


def test_table_does_not_read_labels_as_markup(tmp_path):
    for lr in (0.1, 0.2):
        lrw_run(tmp_path / f"{lr}", 0.7, config={"lr": lr}, environment={"label": "LRW [bold]"})
    text = render(compared(tmp_path))
    assert "LRW [bold] [lr=0.1]" in text
    assert "n/a ¹" in text


def test_table_keeps_to_the_terminals_width(root):
    assert max(len(line) for line in render(compared(root), width=60).splitlines()[:-1]) <= 60


def test_each_dataset_and_backbone_has_a_table_of_its_own(root):
    lrw_run(root / "cifar", 0.4, config={"dataset": "cifar10", "dataset_option": {"noise": "0.2"}})
    text = render(compared(root), "markdown")
    assert [line for line in text.splitlines() if line.startswith("**")] == [
        "**cifar10 (noise=0.2), small_cnn: test**",
        "**digits, small_cnn: test**",
    ]


def test_markdown_lines_have_the_same_number_of_cells(tmp_path):
    erm_run(tmp_path / "erm", 0.7, worst_group=0.2)
    lrw_run(tmp_path / "a", 0.8, worst_group=0.5, config={"reweighter_option": {"mode": "a|b"}})
    lrw_run(tmp_path / "b", 0.8, worst_group=0.5)
    lines = [line for line in render(compared(tmp_path), "markdown").splitlines() if line.startswith("|")]
    assert len(lines) == 5
    assert {line.replace(r"\|", "").count("|") for line in lines} == {11}
    assert "| 50.00 ± n/a | +30.00 [n/a] |" in lines[-1]


@pytest.mark.parametrize("format", ["table", "markdown"])
def test_ratio_says_why_it_has_no_interval(root, format):
    text = render(compared(root, gain="ratio"), format)
    assert "so it has no interval" in text
    [line] = [line for line in text.splitlines() if "LRW-Hard" in line]
    assert re.search(r" \+0\.\d{4} +[|│] undecided \(3 more seeds\) [|│] +\+0\.0650 \[-0\.0401", line)


# --- cost


def test_a_thousand_runs_are_compared_quickly(tmp_path):
    for number in range(500):
        pair = {"seed": number // 5, "lr": 0.01 * (1 + number % 5)}
        erm_run(tmp_path / f"erm{number}", 0.5, config=pair)
        lrw_run(tmp_path / f"hard{number}", 0.6, config=pair)
    started = time.perf_counter()
    found = compared(tmp_path)
    assert time.perf_counter() - started < 3.0
    assert [result.gain.mean for result in found.results if result.gain] == pytest.approx([10.0] * 5)


def test_report_imports_neither_torch_nor_what_only_charts_need():
    code = (
        "import sys, molere_cli.report, molere_cli.commands.compare; "
        "print(sorted({'torch', 'scipy', 'altair', 'pyarrow'} & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "[]\n"
