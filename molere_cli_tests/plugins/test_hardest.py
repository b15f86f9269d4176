"""`molere hardest`: the order of the scores, names in place of numbers, and what a damaged table comes to."""

from __future__ import annotations

import csv
import json
import shutil

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from molere_report.hard_examples import hardest_examples

from molere_cli.foundation.errors import RunError
from molere_cli_tests.unit.test_results import CLASSES, of_a_folder, trained  # noqa: F401 - a fixture

NAMES = sorted(CLASSES)


@pytest.mark.parametrize("score", ["aum", "early-aum", "margin", "loss", "el2n", "forgetting"])
def test_the_order_is_that_of_the_score(of_a_folder, score):  # noqa: F811
    table = pq.read_table(of_a_folder.pool_path).to_pylist()
    sign = 1 if score in {"aum", "early-aum", "margin"} else -1
    column = score.replace("-", "_")
    expected = sorted(table, key=lambda row: (sign * row[column], row["index"]))
    found = hardest_examples(of_a_folder.path, score=score, top=7)
    assert [example.rank for example in found] == list(range(1, 8))
    for example, row in zip(found, expected[:7], strict=True):
        assert (example.index, example.path, example.score) == (row["index"], row["path"], row[column])
        assert (example.label, example.prediction) == (NAMES[row["label"]], NAMES[row["prediction"]])
        assert (example.probability, example.weight) == (row["probability"], row["mean_weight"])
        assert example.clean_label is None


def test_of_one_class(of_a_folder, molere, in_tmp):  # noqa: F811
    done = molere(f"hardest {of_a_folder.path} --class dog --top 100 --json")
    found = json.loads(done.out)
    everything = hardest_examples(of_a_folder.path, top=1000)
    of_dogs = [example.index for example in everything if example.label == "dog"]
    assert [row["index"] for row in found] == of_dogs
    assert len(of_dogs) == 6 and len(everything) == 18


def test_a_table_and_a_file(of_a_folder, molere, in_tmp):  # noqa: F811
    shown = molere(f"hardest {of_a_folder.path} --top 3")
    assert shown.code == 0
    done = molere(f"hardest {of_a_folder.path} --top 3 --csv found.csv")
    assert (done.code, done.out) == (0, "")
    with open("found.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 3
    for row in rows:
        assert row["path"] in shown.out.replace("\n", "")
        assert f"{float(row['score']):.4f}" in shown.out


def test_clean_labels_are_shown_where_there_is_noise(tmp_path, molere):
    run = trained(tmp_path, dataset="digits", limit_train=60, label_noise="uniform", noise_rate=0.5)
    table = {row["index"]: row for row in pq.read_table(run.pool_path).to_pylist()}
    for example in hardest_examples(run.path, top=60):
        assert example.clean_label == str(table[example.index]["clean_label"])
        assert example.label == str(table[example.index]["label"])
    assert "clean label" in molere(f"hardest {run.path}").out


def test_what_never_trained_has_no_place(tmp_path):
    run = trained(tmp_path, dataset="digits", limit_train=60, split="random", train_on="train", delta=0.5)
    table = pq.read_table(run.pool_path).to_pylist()
    trained_on = {row["index"] for row in table if row["weight"] is not None}
    assert {example.index for example in hardest_examples(run.path, top=60)} == trained_on
    assert len(trained_on) < 60


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("nowhere", "nowhere is not a run directory"),
        ("{run} --class dgo", "unknown class 'dgo'; did you mean 'dog'?"),
    ],
)
def test_a_mistake_is_one_sentence(of_a_folder, molere, in_tmp, arguments, sentence):  # noqa: F811
    done = molere(f"hardest {arguments.format(run=of_a_folder.path)}")
    assert (done.code, done.out, done.err.count("\n")) == (1, "", 1)
    assert sentence in done.err


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda t: t.drop_columns(["prediction"]), "did not record prediction; train it again"),
        (lambda t: t.set_column(1, "label", pa.array([9] * len(t))), "label has classes that the run does"),
        (lambda t: t.set_column(1, "label", pa.array(["x"] * len(t))), "'label' holds string, not int64"),
        (None, "cannot be read"),
    ],
)
def test_a_table_that_is_none_is_named(of_a_folder, tmp_path, change, sentence):  # noqa: F811
    copy = tmp_path / "run"
    shutil.copytree(of_a_folder.path, copy)
    # Of a version that kept no digests, so that nothing but the table itself can be looked at.
    (copy / "DONE").write_text("2026-01-01T00:00:00+00:00\n")
    if change is None:
        (copy / "pool.parquet").write_bytes(b"PAR1 nothing PAR1")
    else:
        table = pq.read_table(copy / "pool.parquet")
        assert table.column_names[1] == "label"
        pq.write_table(change(table), copy / "pool.parquet")
    with pytest.raises(RunError, match=sentence):
        hardest_examples(copy)
