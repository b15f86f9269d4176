import csv
import io
import json

import pytest
import typer
from scipy.stats import ttest_rel

from molere_cli.commands.compare import compare
from molere_cli.foundation.errors import RunError
from molere_cli_tests.fake_runs import erm_run, lrw_run

ERM_ACCURACIES = (0.70, 0.72, 0.69)
HARD_ACCURACIES = (0.74, 0.71, 0.76)

app = typer.Typer()
app.command()(compare)


@pytest.fixture
def runs(in_tmp):
    """Three seeds of ERM and LRW-Hard under runs/ of a fresh working directory."""
    for seed, (erm, hard) in enumerate(zip(ERM_ACCURACIES, HARD_ACCURACIES, strict=True)):
        erm_run(in_tmp / "runs" / f"erm{seed}", erm, config={"seed": seed}, worst_group=erm - 0.5)
        lrw_run(in_tmp / "runs" / f"hard{seed}", hard, config={"seed": seed}, worst_group=hard - 0.5)
    return in_tmp / "runs"


def invoked(runner, *arguments):
    result = runner.invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    return result


def test_all_runs_of_the_folder_are_compared_by_default(runner, runs):
    result = invoked(runner)
    assert result.stderr == ""
    assert "LRW-Hard │ 3 │   0-2 │" in result.stdout
    assert result.stdout.count("paired Student's t") == 1


def test_runs_given_by_path_are_compared_alone(runner, runs):
    [row] = json.loads(invoked(runner, runs / "erm1", "--format", "json").stdout)
    assert [run["seed"] for run in row["runs"]] == [1]


def test_another_folder_of_runs_can_be_named(runner, runs):
    runs.rename(runs.with_name("elsewhere"))
    assert "LRW-Hard" in invoked(runner, "--runs", "elsewhere").stdout


def test_json_has_every_seed_and_the_interval(runner, runs):
    erm, hard = json.loads(invoked(runner, "--format", "json").stdout)
    oracle = ttest_rel(HARD_ACCURACIES, ERM_ACCURACIES).confidence_interval(0.95)
    assert (erm["label"], erm["gain"], erm["baseline"]) == ("ERM", None, None)
    assert (hard["label"], hard["baseline"], hard["seeds"]) == ("LRW-Hard", "ERM", [0, 1, 2])
    assert [run["accuracy"] for run in hard["runs"]] == list(HARD_ACCURACIES)
    assert [run["gain"] for run in hard["runs"]] == pytest.approx([4.0, -1.0, 7.0])
    assert hard["gain"]["mean"] == pytest.approx(10 / 3)
    assert (hard["gain"]["low"], hard["gain"]["high"]) == pytest.approx((100 * oracle.low, 100 * oracle.high))
    assert hard["worst_group_gain"]["mean"] == pytest.approx(10 / 3)
    assert (hard["settings"]["split"], hard["settings"]["precision"]) == ("hard", "fp32")


def test_csv_has_a_header_and_raw_numbers(runner, runs):
    erm, hard = csv.DictReader(io.StringIO(invoked(runner, "--format", "csv", "--gain", "relative").stdout))
    assert (erm["label"], erm["gain_mean"], erm["baseline"]) == ("ERM", "", "")
    assert float(hard["accuracy_mean"]) == pytest.approx(sum(HARD_ACCURACIES) / 3)
    assert (hard["gain_kind"], hard["num_runs"], hard["seeds"]) == ("relative", "3", "0-2")
    assert float(hard["gain_low"]) < float(hard["gain_mean"]) < float(hard["gain_high"])
    assert None not in hard


def test_markdown_is_printed(runner, runs):
    lines = invoked(runner, "--format", "markdown").stdout.splitlines()
    assert lines[2].startswith("| method | n | seeds | accuracy, % | gain, points | verdict | margin gain |")
    assert lines[4].startswith("| ERM | 3 | 0-2 | 70.33 ± 1.53 | - | - |")


def test_unfinished_runs_are_named_on_stderr_alone(runner, runs):
    (runs / "hard2" / "DONE").unlink()
    result = invoked(runner, "--format", "json")
    assert [len(row["runs"]) for row in json.loads(result.stdout)] == [3, 2]
    assert result.stderr == "warning: left out, being unfinished: runs/hard2\n"


def test_test_set_is_checked(runner, runs):
    result = runner.invoke(app, ["--test-set", "tuning"])
    assert isinstance(result.exception, RunError)
    assert str(result.exception) == "no run has a test set 'tuning'; there are: test"


def test_without_runs_the_way_to_one_is_told(runner, in_tmp):
    result = runner.invoke(app, [])
    assert isinstance(result.exception, RunError)
    assert str(result.exception) == "there is no run under runs; make one with `molere train`"


@pytest.mark.parametrize("arguments", [("--gain", "percent"), ("--format", "html")])
def test_other_values_are_wrong_usage(runner, runs, arguments):
    assert runner.invoke(app, list(arguments)).exit_code == 2
