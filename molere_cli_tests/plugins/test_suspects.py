"""Labels that look wrong: by hand, out of fold, and as a file that cleanlab's users can read."""

from __future__ import annotations

import csv
import io
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from molere_report.suspects import CSV_COLUMNS, HELD_OUT, find_suspects, suspects_csv, suspects_of

from molere_cli.foundation.errors import RunError, SplitError
from molere_cli.runs.run_directory import RunDir
from molere_cli.runs.run_tables import RunTable
from molere_cli.splits.split_file import load_split, read_split
from molere_cli_tests.unit.test_results import trained
from molere_cli_tests.unit.test_run_tables import nulls, with_column

NAMES = ["cat", "<script>", "dog"]


def pool(early_aum, label, prediction, second, *, clean=None, weight=None) -> pa.Table:
    size = len(label)
    return pa.table(
        {
            "index": np.arange(size) + 10,
            "label": label,
            "prediction": prediction,
            "second": pa.array(second, pa.int64()),
            "early_aum": pa.array(early_aum, pa.float32()),
            "clean_label": pa.array(clean or [None] * size, pa.int64()),
            "mean_weight": pa.array(weight or [1.0] * size, pa.float32()),
            "path": pa.array([f"/p/{place}.png" for place in range(size)]),
        }
    )


def test_in_training_it_is_what_the_network_preferred_early():
    table = pool([-0.5, 0.5, -0.75, None, 0.0], [0, 1, 2, 0, 1], [0, 2, 1, 0, 1], [1, 1, 2, 1, 0])
    found = suspects_of(table, None, NAMES)
    assert (found.num_pool, found.evidence, found.precision) == (5, "in training", None)
    first, second = found.examples
    assert (first.index, first.given_label, first.predicted_label, first.label_score) == (
        *(12, "dog", "<script>"),
        0.125,
    )
    # Memorised: the label is predicted by now, and the next likely class is what it was taken for.
    assert (second.index, second.given_label, second.predicted_label) == (10, "cat", "<script>")


def test_out_of_fold_it_is_what_others_say_too():
    table = pool([-0.5, -0.5, -0.25, 0.5], [0, 1, 2, 0], [0, 1, 2, 0], [1, 0, 0, 1])
    held_out = pa.table(
        {
            "held_out_prediction": [2, 1, 0, 1],
            "held_out_probability": pa.array([0.5, 0.75, 1.0, 1.0], pa.float32()),
            "held_out_label_probability": pa.array([0.25, 0.75, 0.0, 0.0], pa.float32()),
        }
    )
    found = suspects_of(table, held_out, NAMES)
    assert found.evidence == "out of fold"
    assert [(each.index, each.predicted_label) for each in found.examples] == [(12, "cat"), (10, "dog")]
    assert [each.label_score for each in found.examples] == [(2 - 0.25 - 1.0) / 4, (2 - 0.5 - 0.25) / 4]


def test_neither_clean_labels_nor_weights_have_a_say():
    arguments = ([-0.5, -0.25, -0.75], [0, 1, 2], [1, 2, 0], [0, 0, 0])
    plain = suspects_of(pool(*arguments), None, NAMES)
    other = suspects_of(pool(*arguments, clean=[0, 1, 2], weight=[9.0, 0.25, 1.0]), None, NAMES)
    assert [each.index for each in plain.examples] == [each.index for each in other.examples]
    assert [each.label_score for each in plain.examples] == [each.label_score for each in other.examples]
    assert other.precision == {3: 0} and [each.weight for each in other.examples] == [1.0, 9.0, 0.25]


def test_precision_counts_wrong_labels_of_the_first():
    size = 12
    early = [-1 + place / 100 for place in range(size)]
    clean = [0 if place in {1, 11} else 1 for place in range(size)]
    found = suspects_of(pool(early, [0] * size, [1] * size, [2] * size, clean=clean), None, NAMES)
    assert found.precision == {10: 9, 12: 10}


# --- of runs


@pytest.fixture(scope="module")
def noisy(tmp_path_factory):
    root = tmp_path_factory.mktemp("suspects")
    data = {"dataset": "digits", "label_noise": "uniform", "noise_rate": 0.3, "limit_train": 400}
    return trained(root, **data, split="hard", train_on="train", score="oof-margin", folds=2)


def test_a_split_out_of_fold_keeps_what_was_said(noisy):
    split = read_split(noisy.split_path)
    assert split.held_out is not None
    margin = split.held_out.label_probability - split.held_out.probability
    wrong = split.held_out.prediction != split.labels
    torch.testing.assert_close(split.score[wrong].float(), margin[wrong])
    assert (split.score[~wrong] >= 0).all() and wrong.any() and not wrong.all()
    table = RunTable.pool(noisy).read(["index", *HELD_OUT])
    assert table["index"].to_pylist() == split.indices.tolist()
    for name, column in zip(HELD_OUT, split.held_out.columns, strict=True):
        assert table[name].to_numpy().tolist() == column.tolist()


def test_it_may_be_in_another_order(noisy, tmp_path):
    split = read_split(noisy.split_path)
    order = torch.randperm(len(split.labels), generator=torch.Generator().manual_seed(0))
    turned = split.aligned(split.indices[order], source="it")
    assert torch.equal(turned.held_out.prediction, split.held_out.prediction[order])
    assert torch.equal(turned.held_out.probability, split.held_out.probability[order])


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            with_column("held_out_prediction", lambda table: pa.array([5] * len(table))),
            "damaged or has been edi",
        ),
        (nulls("held_out_probability"), "has 400 empty cells"),
        (lambda table: table.drop_columns(["held_out_probability"]), "must have one column 'held_out_prob"),
    ],
)
def test_a_split_that_was_changed_is_refused(noisy, tmp_path, change, sentence):
    path = tmp_path / "split.parquet"
    pq.write_table(change(pq.read_table(noisy.split_path)), path)
    with pytest.raises(SplitError, match=sentence):
        read_split(path)


def test_classes_that_are_none_are_refused(noisy):
    split = read_split(noisy.split_path)
    with pytest.raises(SplitError, match="held-out predictions of classes that the dataset does not have"):
        load_split(
            noisy.split_path,
            labels_N=split.labels,
            indices_N=split.indices,
            fingerprint=split.info.fingerprint,
            num_classes=int(split.held_out.prediction.max()),
        )


def test_suspects_of_a_run_are_out_of_fold_where_its_split_is(noisy, molere, tmp_path):
    found = find_suspects(noisy)
    assert found.evidence == "out of fold" and found.num_pool == 400
    pool = {row["index"]: row for row in pq.read_table(noisy.pool_path).to_pylist()}
    for example in found.examples:
        row = pool[example.index]
        assert row["early_aum"] < 0 and row["held_out_prediction"] != row["label"]
        assert example.predicted_label == str(row["held_out_prediction"])
        assert example.clean_label == str(row["clean_label"])
    expected = sum(
        row["early_aum"] is not None and row["early_aum"] < 0 and row["held_out_prediction"] != row["label"]
        for row in pool.values()
    )
    assert len(found.examples) == expected > 20
    assert found.precision[len(found.examples)] == sum(
        example.clean_label != example.given_label for example in found.examples
    )


def test_a_run_of_before_is_one_sentence(noisy, tmp_path):
    copy = RunDir(tmp_path / "run")
    copy.path.mkdir()
    for name in ("config.json", "environment.json", "metrics.jsonl"):
        (copy.path / name).write_bytes((noisy.path / name).read_bytes())
    pq.write_table(pq.read_table(noisy.pool_path).drop_columns(["early_aum"]), copy.pool_path)
    with pytest.raises(RunError, match="did not record early_aum; train it again"):
        find_suspects(copy)
    pq.write_table(pq.read_table(noisy.pool_path).drop_columns(HELD_OUT), copy.pool_path)
    assert find_suspects(copy).evidence == "in training"
    assert find_suspects(copy, held_out_of=noisy).evidence == "out of fold"


# --- the command


def test_the_file_has_cleanlabs_names_and_the_right_rows(noisy, molere, in_tmp):
    done = molere(f"hardest {noisy.path} --suspects --top 7 --csv found.csv")
    assert (done.code, done.out) == (0, "")
    with open("found.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == CSV_COLUMNS
    assert {"is_label_issue", "label_score", "given_label", "predicted_label"} <= set(CSV_COLUMNS)
    found = find_suspects(noisy).examples
    assert [int(row["index"]) for row in rows] == [each.index for each in found[:7]]
    for row, example in zip(rows, found, strict=False):
        assert (row["given_label"], row["predicted_label"]) == (example.given_label, example.predicted_label)
        assert (float(row["label_score"]), row["is_label_issue"]) == (example.label_score, "True")
    assert json.loads(molere(f"hardest {noisy.path} --suspects --top 7 --json").out) == [
        each.row() for each in found[:7]
    ]
    shown = molere(f"hardest {noisy.path} --suspects --top 3").out
    assert f"{len(found)} of 400 labels" in shown and "(out of fold)" in shown


def test_a_name_stays_in_its_cell():
    table = pool([-0.5], [1], [0], [0])
    [example] = suspects_of(table, None, ['a,b\n"c"', "<script>", "dog"]).examples
    [row] = csv.DictReader(io.StringIO(suspects_csv([example])))
    assert (row["given_label"], row["predicted_label"]) == ("<script>", 'a,b\n"c"')


@pytest.mark.parametrize("other", ["--score loss", "--class dog"])
def test_what_goes_with_no_suspects_is_refused(noisy, molere, in_tmp, other):
    done = molere(f"hardest {noisy.path} --suspects {other}")
    assert (done.code, done.out, done.err.count("\n")) == (1, "", 1)
    assert "leave --score and --class out" in done.err
