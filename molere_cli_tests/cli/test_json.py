"""JSON that any reader takes: no NaN, no Infinity, in whatever a run or a command writes.

The JSON of a run of every method is looked at where such runs are resumed.
"""

from __future__ import annotations

import math
from pathlib import Path

import molere_baselines.l2r
import pyarrow.parquet as pq
import pytest
import torch
from typer.testing import CliRunner

from molere_cli.api.evaluation import Evaluation
from molere_cli.commands import app as entry
from molere_cli.commands.console import summary
from molere_cli.engine.pool_record import EpochTotals
from molere_cli.foundation.errors import RunError
from molere_cli.foundation.files import json_text, parse_json, with_nulls
from molere_cli.report import compare_runs, render
from molere_cli.runs.run_directory import RunDir
from molere_cli_tests.fake_runs import erm_run, lrw_run
from molere_cli_tests.plugins.test_baselines import run_config
from molere_cli_tests.strict_json import check_json_of, strict
from molere_cli_tests.training import tiny_config, train_one
from molere_cli_tests.unit.test_scores import step_right_or_wrong


@pytest.fixture
def of_zero_weights(registry, tmp_path, monkeypatch) -> RunDir:
    """A run in which no example of the training batches had a weight."""
    monkeypatch.setattr(molere_baselines.l2r, "rectified", torch.zeros_like)
    return train_one(run_config("l2r", epochs=2), registry, tmp_path / "runs")


def test_weights_that_are_all_zero_have_an_effective_size_of_none(of_zero_weights):
    check_json_of(of_zero_weights)
    last = of_zero_weights.metrics()[-1]
    assert {last[f"weights/{name}"] for name in ("mean", "std", "min", "max", "ess")} == {0.0}
    pool = pq.read_table(of_zero_weights.pool_path).to_pydict()
    assert set(pool["weight"]) == set(pool["mean_weight"]) == {0.0}


@pytest.mark.parametrize("weights", [[1.0, 1.0, 1.0], [3.0, 0.0, 0.0], [0.5, 1.0, 1.5]])
def test_the_effective_size_of_other_weights_is_as_it_was(weights):
    totals = EpochTotals()
    totals.add(step_right_or_wrong(0, [0, 1, 2], [True] * 3), torch.tensor(weights))
    expected = torch.tensor(weights).double()
    assert totals.metrics()["weights/ess"] == float(
        expected.sum() ** 2 / expected.square().sum() / len(expected)
    )


@pytest.fixture
def without_numbers(registry, tmp_path, monkeypatch) -> RunDir:
    """A finished run whose classifier gives no numbers on the test set."""

    def summarize(predictions):
        return {"accuracy": 0.25, "margin": math.nan, "nll": math.inf}

    monkeypatch.setattr("molere_cli.training.train_run.summarize", summarize)
    return train_one(tiny_config(epochs=2), registry, tmp_path / "runs")


def test_a_metric_that_is_no_number_is_null(without_numbers):
    check_json_of(without_numbers)
    last = without_numbers.metrics()[-1]
    assert (last["test/accuracy"], last["test/margin"], last["test/nll"]) == (0.25, None, None)


def test_a_comparison_leaves_out_what_is_no_number(tmp_path):
    erm_run(tmp_path / "erm", 0.5)
    lrw_run(tmp_path / "lrw", 0.75, margin=None, worst_group=None)
    found = compare_runs([tmp_path / "erm", tmp_path / "lrw"])
    _erm, lrw = strict(render(found, "json"))
    assert lrw["gain"]["mean"] == 25
    assert lrw["margin_gain"] is None
    assert lrw["worst_group"] is None
    assert "LRW-Hard" in render(found, "table")


def test_a_line_of_progress_shows_what_is_no_number():
    record = {"epoch": 0, "train/loss": math.nan, "train/accuracy": 0.5, "weights/std": math.inf}
    assert summary(record) == "loss nan acc 50.0 weights ±inf"


def test_train_prints_json(without_numbers, monkeypatch):
    monkeypatch.setattr("molere_cli.training.resume_run.resume_run", lambda *_args, **_rest: without_numbers)
    done = CliRunner().invoke(entry.app, ["train", "--resume", str(without_numbers.path), "--json"])
    (printed,) = strict(done.stdout)
    assert printed["test/margin"] is None


def test_eval_prints_json(monkeypatch):
    found = Evaluation(
        run=Path("run"),
        label="ERM",
        dataset="tiny",
        sizes={"test": 2},
        remarks=[],
        summaries={"test": {"accuracy": 0.5, "nll": math.inf}},
        by_class={"test": {"a": math.nan, "b": 1.0}},
        by_group={"test": {"g": 0.0, "h": 1.0}},
    )
    monkeypatch.setattr("molere_cli.api.evaluation.evaluate_run", lambda *_args, **_rest: found)
    printed = strict(CliRunner().invoke(entry.app, ["eval", "run", "--json"]).stdout)
    assert printed["metrics"]["test"] == {"accuracy": 0.5, "nll": None}
    assert printed["accuracy_by_class"]["test"] == {"a": None, "b": 1.0}
    assert printed["worst_group"] == {"test": "g"}


@pytest.mark.parametrize("constant", ["NaN", "Infinity", "-Infinity"])
@pytest.mark.parametrize("name", ["config.json", "environment.json", "metrics.jsonl"])
def test_a_file_with_a_number_that_json_does_not_have_is_damaged(tmp_path, name, constant):
    run = RunDir(erm_run(tmp_path / "run", 0.5))
    (run.path / name).write_text(f'{{"value": {constant}}}')
    read = {"config.json": run.config, "environment.json": run.environment, "metrics.jsonl": run.metrics}
    with pytest.raises(RunError) as caught:
        read[name]()
    assert str(caught.value) == f"{run.path / name} is damaged: {constant} is no number in JSON"


def test_json_is_written_of_numbers_alone():
    value = {"a": [1.5, math.nan, {"b": (math.inf, "NaN", True, None, 3)}]}
    with pytest.raises(ValueError, match="not JSON compliant"):
        json_text(value)
    assert strict(json_text(with_nulls(value))) == {"a": [1.5, None, {"b": [None, "NaN", True, None, 3]}]}
    assert parse_json("[1, null]") == [1, None]
