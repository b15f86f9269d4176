"""Hardness scores that training records: against counts made by hand, ties, and runs that lack them."""

from __future__ import annotations

import json
from itertools import pairwise
from statistics import geometric_mean

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from molere_cli.data.feed import Batch
from molere_cli.data.source import load_dataset
from molere_cli.engine.pool_record import EpochTotals, PoolRecord
from molere_cli.engine.random_state import RandomState
from molere_cli.engine.step import Step
from molere_cli.foundation.errors import RunError
from molere_cli.foundation.progress import NoProgress
from molere_cli.hardness.hardness_scores import erm_run, read_score
from molere_cli.hardness.make_split import make_split
from molere_cli.splits.score_direction import hardness
from molere_cli.training.run_identity import as_planned
from molere_cli_tests.training import tiny_config, train_one

CPU = torch.device("cpu")


def step_of(epoch: int, positions: list[int], logits: list[list[float]], labels: list[int]) -> Step:
    batch = Batch(torch.tensor(positions), torch.zeros(len(positions), 3, 1, 1), torch.tensor(labels))
    logits_BC = torch.tensor(logits)
    return Step(epoch, 0, batch, logits_BC, logits_BC.sum(dim=1), None, RandomState.capture(CPU))


def step_right_or_wrong(epoch: int, positions: list[int], right: list[bool]) -> Step:
    logits = [[2.0, 0.0] if ok else [0.0, 2.0] for ok in right]
    return step_of(epoch, positions, logits, [0] * len(right))


def forgetting_by_hand(passes: list[bool]) -> float:
    if not passes:
        return float("nan")
    if not any(passes):
        return len(passes)
    return sum(before and not after for before, after in pairwise(passes))


@given(st.lists(st.lists(st.floats(0.01, 100), min_size=3, max_size=3) | st.none(), min_size=1, max_size=9))
def test_the_mean_weight_is_the_geometric_mean_over_passes(epochs):
    """None: an epoch at equal weights. The fourth example never trains."""
    record = PoolRecord(4, CPU, num_epochs=9)
    for epoch, weights in enumerate(epochs):
        step = step_right_or_wrong(epoch, [0, 1, 2], [True, False, True])
        record.add(step, None if weights is None else torch.tensor(weights))
    of_each = zip(*(weights or [1.0] * 3 for weights in epochs), strict=True)
    expected = [*(geometric_mean(weights) for weights in of_each), float("nan")]
    assert record.mean_weight.tolist() == pytest.approx(expected, rel=1e-4, nan_ok=True)


@given(st.lists(st.lists(st.sampled_from([True, False, None]), min_size=5, max_size=5), max_size=9))
def test_forgetting_counts_right_to_wrong_between_passes(epochs):
    """None: left out of that epoch, which is no pass."""
    record = PoolRecord(5, CPU, num_epochs=9)
    for epoch, right in enumerate(epochs):
        seen = [position for position in range(5) if right[position] is not None]
        if seen:
            record.add(step_right_or_wrong(epoch, seen, [right[position] for position in seen]), None)
    passes = [[right[p] for right in epochs if right[p] is not None] for p in range(5)]
    expected = [forgetting_by_hand(of_one) for of_one in passes]
    assert record.forgetting.tolist() == pytest.approx(expected, nan_ok=True)


@given(st.lists(st.booleans(), min_size=1, max_size=12))
def test_an_example_that_was_never_right_counts_as_harder_than_any_that_was(passes):
    record = PoolRecord(2, CPU, num_epochs=12)
    for epoch, right in enumerate(passes):
        record.add(step_right_or_wrong(epoch, [0, 1], [right, False]), None)
    if any(passes):
        assert record.forgetting[0] < record.forgetting[1]


def test_an_example_twice_in_a_batch_is_right_if_it_is_right_both_times():
    record = PoolRecord(2, CPU, num_epochs=4)
    record.add(step_right_or_wrong(0, [0, 0, 1], [True, True, True]), None)
    record.add(step_right_or_wrong(1, [0, 1, 0], [False, True, True]), None)
    assert record.forgetting.tolist() == [1, 0]


def nine_epochs():
    """A record of nine epochs of three of four examples, their probabilities (9, 3, 4) and their labels."""
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(9, 3, 4)), [0, 3, 1]
    record = PoolRecord(4, CPU, num_epochs=9)
    for epoch in range(9):
        record.add(step_of(epoch, [0, 1, 3], logits[epoch].tolist(), labels), None)
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=2, keepdims=True)
    return record, probabilities, labels


def test_el2n_is_the_mean_error_norm_of_the_first_quarter_of_epochs():
    record, probabilities, labels = nine_epochs()
    norms = np.sqrt(((probabilities - np.eye(4)[labels]) ** 2).sum(axis=2))
    expected = norms[:2].mean(axis=0)  # 9 // 4 epochs
    assert record.el2n[[0, 1, 3]].tolist() == pytest.approx(expected.tolist(), rel=1e-5)
    assert record.el2n[2].isnan()


def test_equal_forgetting_is_told_apart_by_aum_alone():
    forgetting_N = torch.tensor([2.0, 1.0, 1.0, 0.0, 0.0], dtype=torch.float64)
    aum_N = torch.tensor([1.0, -0.5, 0.5, -1.0, 1.0], dtype=torch.float64)
    order = hardness(forgetting_N, "forgetting", aum_N=aum_N).argsort(descending=True)
    assert order.tolist() == [0, 1, 2, 3, 4]


def test_high_el2n_is_hard():
    score_N = torch.tensor([0.1, 1.2])
    assert torch.equal(hardness(score_N, "el2n"), score_N)


def test_early_aum_is_the_mean_margin_of_the_first_quarter_of_epochs():
    record, probabilities, labels = nine_epochs()
    own = probabilities[:, np.arange(3), labels]
    others = np.where(np.eye(4, dtype=bool)[labels], -np.inf, probabilities).max(axis=2)
    expected = (own - others)[:2].mean(axis=0)  # 9 // 4 epochs
    assert record.early_aum[[0, 1, 3]].tolist() == pytest.approx(expected.tolist(), rel=1e-5)
    assert record.early_aum[2].isnan()


@pytest.mark.parametrize("score", ["forgetting", "el2n"])
def test_the_hardest_of_every_class_by_a_recorded_score_are_validation(registry, tmp_path, score):
    config = tiny_config(split="hard", score=score, delta=0.25)
    data = load_dataset(config.data, registry)
    split = make_split(config, registry, data, erm=None, runs=tmp_path, progress=NoProgress())
    (run,) = tmp_path.iterdir()
    pool = pq.read_table(run / "pool.parquet").to_pydict()
    assert split.score.tolist() == pytest.approx(pool[score])
    assert split.info.score_name == score
    rows = range(len(pool["label"]))
    for label in range(4):
        members = sorted(
            (row for row in rows if pool["label"][row] == label),
            key=lambda row: (-pool[score][row], pool["aum"][row] if score == "forgetting" else 0),
        )
        assert split.in_validation[members].tolist() == [True] * 4 + [False] * 12


def older(run, *, lacks: str) -> None:
    """The run as a version would have left it that did not know the score."""
    table = pq.read_table(run.pool_path)
    pq.write_table(table.drop_columns([lacks]), run.pool_path)
    run.mark_done()


def test_an_older_run_without_the_score_is_one_sentence_and_is_not_reused(registry, tmp_path):
    run = train_one(tiny_config(epochs=1), registry, tmp_path)
    older(run, lacks="forgetting")
    with pytest.raises(RunError, match=r"did not record forgetting; train a new ERM run"):
        read_score(run, "forgetting")
    config = tiny_config(epochs=1, method="lrw", split="hard", score="forgetting")
    data = load_dataset(config.data, registry)
    fresh = erm_run(config, registry, data, score="forgetting", runs=tmp_path, progress=NoProgress())
    assert fresh.path != run.path
    assert read_score(fresh, "forgetting").shape == (64,)
    by_aum = erm_run(config, registry, data, score="aum", runs=tmp_path, progress=NoProgress())
    assert as_planned(json.loads((by_aum.path / "config.json").read_text())) == as_planned(run.config())


def test_a_checkpoint_of_before_the_scores_resumes_without_them():
    record = PoolRecord(2, CPU, num_epochs=4)
    record.add(step_right_or_wrong(0, [0, 1], [True, False]), None)
    state = {name: record.state_dict()[name] for name in ("margin_sum", "num_seen", "weight")}
    resumed = PoolRecord(2, CPU, num_epochs=4)
    resumed.load_state_dict(state)
    for each in (record, resumed):
        each.add(step_right_or_wrong(1, [0, 1], [False, True]), None)
    assert torch.equal(resumed.aum, record.aum)
    assert resumed.forgetting.isnan().all()
    assert resumed.el2n.isnan().all()
    assert resumed.early_aum.isnan().all()


def test_weights_spread_by_the_standard_deviation_of_the_batch_itself():
    totals = EpochTotals()
    totals.losses, totals.num_correct = [torch.zeros(2)], [torch.tensor(1)]
    totals.weights = [torch.tensor([1.0, 3.0])]
    metrics = totals.metrics()
    assert (metrics["weights/mean"], metrics["weights/std"]) == (2.0, 1.0)
    assert metrics["weights/ess"] == pytest.approx(16 / 10 / 2)
