"""Curves in the terminal: the values of metrics.jsonl, drawn in their order and at their height."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from molere_report.training_curves import ASCII_LEVELS, BLOCKS, line_of

from molere_cli.runs.run_directory import RunDir

SMALL = "--dataset digits --limit-train 60 --epochs 4 --eval-interval 2 --quiet"


def test_a_rise_rises_and_a_gap_is_a_gap():
    assert line_of(list(range(8)), width=40) == BLOCKS
    assert line_of([3.0, math.nan, 1.0], width=40) == "█ ▁"
    assert line_of([1.0, 1.0], width=40) == "▁▁"
    assert line_of(list(range(8)), width=40, encoding="ascii") == ASCII_LEVELS
    assert line_of([0, 0, 0, 0, 8, 8], width=3) == "▁▁█"


@given(
    st.lists(st.floats(allow_nan=True, allow_infinity=True), min_size=1, max_size=60),
    st.integers(2, 50),
)
def test_heights_are_in_the_order_of_the_values(values, width):
    line = line_of(values, width=width)
    assert len(line) == min(width, len(values))
    if len(values) <= width:
        drawn = [(value, mark) for value, mark in zip(values, line, strict=True) if math.isfinite(value)]
        assert all((mark == " ") != math.isfinite(value) for value, mark in zip(values, line, strict=True))
        ranked = [BLOCKS.index(mark) for _, mark in sorted(drawn, key=lambda pair: pair[0])]
        assert ranked == sorted(ranked)


def test_the_command_shows_what_runs_have_recorded(in_tmp, molere):
    assert molere(f"train --method erm {SMALL} --seeds 0-1").code == 0
    found = json.loads(molere("curves --json").out)
    assert [(row["metric"], row["run"]) for row in found] == [
        (metric, f"runs/digits-erm-s{seed}")
        for metric in ("train/loss", "train/accuracy", "test/accuracy", "tuning/accuracy")
        for seed in range(2)
        if metric in RunDir(in_tmp / f"runs/digits-erm-s{seed}").metrics()[-1]
    ]
    for row in found:
        records = RunDir(in_tmp / row["run"]).metrics()
        assert [records[epoch][row["metric"]] for epoch in row["epochs"]] == row["values"]
    assert next(row["epochs"] for row in found if row["metric"] == "test/accuracy") == [1, 3]
    shown = molere("curves runs/digits-erm-s0 --metrics test/accuracy")
    assert shown.code == 0 and f"{found[-1]['values'][-1]:.4g}" in molere("curves").out
    assert shown.out.count("test/accuracy") == 1


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("curves run --metrics test/acuracy", "no run has recorded a metric 'test/acuracy'; there are: "),
        ("curves nowhere", "nowhere is not a run directory"),
    ],
)
def test_a_mistake_is_one_sentence(in_tmp, molere, line, sentence):
    assert molere(f"train --method erm {SMALL} --out run").code == 0
    done = molere(line)
    assert (done.code, done.out, done.err.count("\n")) == (1, "", 1) and sentence in done.err
