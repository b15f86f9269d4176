"""Intervals and tests against other implementations, and what a comparison makes of them."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import t, ttest_1samp, ttest_rel
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests

from molere_cli.foundation.errors import ConfigError
from molere_cli.report import compare_runs, find_runs, render
from molere_cli.report.significance import MOST_SEEDS, Flips, holm, p_value, verdicts
from molere_cli.report.statistics import crossed_estimate, example_estimate
from molere_cli_tests.fake_runs import erm_run, lrw_run

ROOT = Path(__file__).parents[2]


def anova(differences_SI):
    """Mean squares of seeds, examples and the residual, by least squares on indicator columns."""
    num_seeds, num_examples = differences_SI.shape
    seeds, examples = np.indices(differences_SI.shape).reshape(2, -1)
    values = differences_SI.ravel()

    def residual(*factors):
        columns = [np.ones(len(values))]
        columns += [factor == level for factor in factors for level in range(factor.max() + 1)]
        design = np.stack([np.asarray(column, dtype=float) for column in columns], axis=1)
        fitted = design @ np.linalg.lstsq(design, values, rcond=None)[0]
        return ((values - fitted) ** 2).sum()

    rest = residual(seeds, examples)
    of_seeds = (residual(examples) - rest) / (num_seeds - 1)
    of_examples = (residual(seeds) - rest) / (num_examples - 1)
    return of_seeds, of_examples, rest / ((num_seeds - 1) * (num_examples - 1))


@pytest.mark.parametrize(("num_seeds", "num_examples", "spread"), [(2, 7, 2.0), (3, 20, 0.0), (5, 11, 1.0)])
def test_the_crossed_interval_is_made_of_the_mean_squares_of_an_analysis_of_variance(
    num_seeds, num_examples, spread
):
    generator = np.random.default_rng(num_examples)
    differences_SI = generator.normal(size=(num_seeds, num_examples)) + spread * generator.normal(
        size=num_examples
    )
    of_seeds, of_examples, of_rest = anova(differences_SI)
    squared = t.ppf(0.975, num_seeds - 1) ** 2 * of_seeds
    squared += t.ppf(0.975, num_examples - 1) ** 2 * max(0, of_examples - of_rest)
    found = crossed_estimate(differences_SI)
    reach = np.sqrt(squared / differences_SI.size)
    assert (found.mean - found.low, found.high - found.mean) == pytest.approx((reach, reach), rel=1e-9)
    assert found.mean == pytest.approx(differences_SI.mean())
    of_these = ttest_1samp(differences_SI.mean(axis=1), 0).confidence_interval(0.95)
    assert found.high - found.low >= (of_these.high - of_these.low) * (1 - 1e-12)


def test_the_interval_of_one_pair_of_runs_is_that_of_its_examples():
    differences_I = np.random.default_rng(0).choice([-100.0, 0.0, 100.0], size=200)
    oracle = ttest_1samp(differences_I, 0).confidence_interval(0.95)
    found = example_estimate(differences_I)
    assert (found.low, found.high) == pytest.approx((oracle.low, oracle.high))
    assert found.num_pairs == 1


@pytest.mark.long
@pytest.mark.slow
def test_every_interval_that_is_offered_covers():
    """The script exits with 1 if less than 93% or more than 97% of a thousand simulations hold the gain."""
    subprocess.run([sys.executable, str(ROOT / "benchmarks" / "intervals.py")], check=True)


@pytest.mark.parametrize("gains", [[1.0, 2.0, 0.5], [-3.0, 1.0], [0.1] * 4 + [0.2]])
def test_the_p_value_is_that_of_the_paired_t_test(gains):
    assert p_value(gains) == pytest.approx(ttest_rel(gains, np.zeros(len(gains))).pvalue, rel=1e-12)


@pytest.mark.parametrize("number", [1, 2, 3, 12])
@pytest.mark.parametrize("digits", [1, 3, 15])  # few digits: ties
def test_holm_is_that_of_statsmodels(number, digits):
    p_values = (np.random.default_rng(number).random(number) ** 3).round(digits).tolist()
    assert holm(p_values) == pytest.approx(multipletests(p_values, method="holm")[1], abs=1e-12)


@given(st.integers(0, 60), st.integers(0, 60))
def test_mcnemar_is_the_exact_test_of_statsmodels(fixed, broken):
    if fixed + broken == 0:
        assert Flips(0, 0).p_value == 1.0
    else:
        oracle = mcnemar([[5, broken], [fixed, 5]], exact=True).pvalue
        assert Flips(fixed, broken).p_value == pytest.approx(oracle, abs=1e-12)


def test_a_row_is_decided_after_holm_over_its_table():
    clear, close, against = [5.0, 5.2, 4.9, 5.1], [1.0, 2.9, 0.8, 2.6], [-5.0, -5.2, -4.9, -5.1]
    alone = verdicts([close])[0]
    assert (alone.word, alone.more) == ("better", None)
    found = verdicts([clear, close, against, [1.0, -1.0, 0.5, -0.2]])
    assert [verdict.word for verdict in found] == ["better", "undecided", "worse", "undecided"]
    assert found[1].p_value == alone.p_value and found[1].p_adjusted == pytest.approx(2 * alone.p_value)


def test_the_number_of_seeds_that_would_settle_a_difference_is_the_smallest():
    gains = [2.0, 0.1, 1.0, -0.4]
    [verdict] = verdicts([gains])
    mean, std = np.mean(gains), np.std(gains, ddof=1)

    def interval_excludes_zero(number):
        return t.ppf(0.975, number - 1) * std / np.sqrt(number) < mean

    total = len(gains) + verdict.more
    assert interval_excludes_zero(total) and not interval_excludes_zero(total - 1)


@pytest.mark.parametrize("gains", [[0.0, 0.0], [1.0, 1.0, 1.0], [1.0], [-1.0, 1.0]])
def test_what_no_number_of_seeds_could_settle_is_undecided(gains):
    [verdict] = verdicts([gains])
    assert (verdict.word, verdict.more) == ("undecided", None)


def test_a_difference_lost_in_its_spread_names_no_number():
    assert verdicts([[0.01, 1.0, -1.0]])[0].more is None
    assert MOST_SEEDS == 1000


# --- in a comparison


def write_predictions(run, right, *, indices=None):
    """The table of a run that has these examples right, of labels 0 to 3."""
    labels = np.arange(len(right)) % 4
    predictions = np.where(right, labels, (labels + 1) % 4)
    table = {
        "test_set": pa.array(["test"] * len(right)).dictionary_encode(),
        "index": np.arange(len(right)) if indices is None else indices,
        "label": labels,
        "prediction": predictions,
    }
    pq.write_table(pa.table(table), run / "predictions.parquet")


@pytest.fixture
def tested(tmp_path):
    """Seeds 0 to 3 of ERM and LRW-Hard on 200 examples, and what they have right: (4, 2, 200)."""
    right = np.random.default_rng(3).random((4, 2, 200)) < np.array([0.7, 0.8])[:, None]
    for seed in range(4):
        for method, make in enumerate((erm_run, lrw_run)):
            accuracy = float(right[seed, method].mean())
            run = make(tmp_path / f"{make.__name__}{seed}", accuracy, config={"seed": seed})
            write_predictions(run, right[seed, method])
    return tmp_path, right


def hard_of(comparison):
    [result] = [result for result in comparison.results if result.row.label == "LRW-Hard"]
    return result


def test_examples_are_paired_and_flips_counted_seed_by_seed(tested):
    root, right = tested
    found = hard_of(compare_runs(find_runs(root), with_examples=True))
    differences = 100 * (right[:, 1].astype(float) - right[:, 0])
    assert found.new_examples == crossed_estimate(differences)
    assert found.new_examples.mean == pytest.approx(found.gain.mean)
    fixed, broken = (right[:, 1] & ~right[:, 0]).sum(1), (right[:, 0] & ~right[:, 1]).sum(1)
    assert found.flips == [Flips(int(a), int(b)) for a, b in zip(fixed, broken, strict=True)]
    text = render(compare_runs(find_runs(root), with_examples=True), columns=["flips", "gain_new_examples"])
    assert f"{fixed.mean():.1f} / {broken.mean():.1f}" in text


def test_of_one_seed_the_interval_is_over_test_examples_and_says_so(tested):
    root, right = tested
    found = hard_of(compare_runs([root / "erm_run1", root / "lrw_run1"]))
    oracle = ttest_rel(*right[1, ::-1].astype(float)).confidence_interval(0.95)
    assert (found.gain.low, found.gain.high) == pytest.approx((100 * oracle.low, 100 * oracle.high))
    assert any("says nothing of other seeds" in note for note in found.notes)
    assert found.verdict.word == "undecided"


def test_runs_on_other_examples_are_not_paired_by_example(tested):
    root, right = tested
    write_predictions(root / "lrw_run2", right[2, 1], indices=np.arange(200)[::-1].copy())
    found = hard_of(compare_runs(find_runs(root), with_examples=True))
    assert found.new_examples is None and found.flips == []
    assert any("were not tested on the same examples" in note for note in found.notes)
    assert found.gain.low is not None


def test_seeds_of_one_draw_are_averaged_where_there_are_several_draws(tmp_path):
    gains = {0: (1.0, 3.0), 1: (4.0, 6.0), 2: (0.0, 1.0)}
    for data_seed, found in gains.items():
        for seed, value in enumerate(found):
            config = {"seed": seed, "data_seed": data_seed}
            erm_run(tmp_path / f"erm{data_seed}{seed}", 0.5, config=config)
            lrw_run(tmp_path / f"lrw{data_seed}{seed}", 0.5 + value / 100, config=config)
    found = hard_of(compare_runs(find_runs(tmp_path)))
    oracle = ttest_1samp([2.0, 5.0, 0.5], 0).confidence_interval(0.95)
    assert (found.gain.low, found.gain.high) == pytest.approx((oracle.low, oracle.high))
    assert found.gain.num_pairs == 3
    assert "the interval is over 3 draws of the data (data seeds), of each its seeds' mean" in found.notes
    assert found.verdict.p_value == pytest.approx(ttest_1samp([2.0, 5.0, 0.5], 0).pvalue)


def test_columns_are_chosen_by_name_and_a_wrong_name_lists_them(tested):
    root, _right = tested
    found = compare_runs(find_runs(root))
    heading = render(found, "markdown", columns=["seeds", "p"]).splitlines()[2]
    assert heading == "| method | seeds | p (Holm) |"
    with pytest.raises(ConfigError, match=r"unknown column 'acc'; there are: n, seeds, .*accuracy"):
        render(found, columns=["acc"])


def test_every_test_set_has_a_table_of_its_own(tmp_path):
    for seed in range(2):
        erm_run(tmp_path / f"erm{seed}", 0.5, config={"seed": seed}, **{"blur/accuracy": 0.3})
        lrw_run(tmp_path / f"lrw{seed}", 0.6, config={"seed": seed}, **{"blur/accuracy": 0.2 + seed / 100})
    found = compare_runs(find_runs(tmp_path), test_set=None)
    assert [(result.test_set, result.row.label) for result in found.results] == [
        ("test", "ERM"),
        ("test", "LRW-Hard"),
        ("blur", "ERM"),
        ("blur", "LRW-Hard"),
    ]
    assert {row["test_set"] for row in json.loads(render(found, "json"))} == {"test", "blur"}
    assert render(found, "markdown").count("| LRW-Hard |") == 2


def test_latex_escapes_marks_and_sets_the_best_in_bold(tmp_path):
    for seed in range(3):
        config = {"seed": seed, "dataset": "50%_a&b"}
        erm_run(tmp_path / f"erm{seed}", 0.5, config=config)
        lrw_run(tmp_path / f"lrw{seed}", 0.6 + seed / 1000, config=config)
    text = render(compare_runs(find_runs(tmp_path)), "latex", columns=["accuracy", "gain", "seconds"])
    assert r"\caption{50\%\_a\&b, small\_cnn: test}" in text
    assert r"method & accuracy, \% & gain, points & seconds \\" in text
    [row] = [line for line in text.splitlines() if line.startswith("LRW-Hard")]
    assert row.startswith(r"LRW-Hard$^{*}$ & \textbf{60.10 $\pm$ 0.10} & \textbf{+10.10 [")
    assert text.count(r"\toprule") == text.count(r"\end{tabular}") == 1
