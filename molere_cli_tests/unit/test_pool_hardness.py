"""Where examples stand by hardness: the ranks, and how a run is followed."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import rankdata
from torch import nn

from molere_cli import ReweighterSpec, hookimpl
from molere_cli.methods.pool_hardness import PoolHardness, hardness_ranks
from molere_cli.splits.split_file import read_split
from molere_cli_tests.training import tiny_config, train_one

EXAMPLES = st.lists(st.tuples(st.integers(0, 3), st.integers(-1000, 1000)), min_size=1, max_size=40)


@given(EXAMPLES)
def test_ranks_are_scipys_within_each_class(examples):
    labels_N = torch.tensor([label for label, _ in examples])
    hardness_N = torch.tensor([value for _, value in examples]).double()
    ranks_N = hardness_ranks(hardness_N, labels_N)
    for label in labels_N.unique():
        members = labels_N == label
        place = rankdata(-hardness_N[members].numpy(), method="ordinal") - 1
        assert ranks_N[members].tolist() == pytest.approx((place + 0.5) / len(place))


def step_of(positions, probabilities):
    """A step of two classes in which each example's label, 0, has the probability given."""
    batch = SimpleNamespace(positions=torch.tensor(positions), labels=torch.zeros(len(positions)).long())
    first_B = torch.tensor(probabilities)
    return SimpleNamespace(batch=batch, logits=torch.stack([first_B, 1 - first_B], dim=1).log())


def test_a_run_is_followed_by_its_mean_margins():
    hardness = PoolHardness(torch.zeros(5, dtype=torch.long), None)
    everyone = torch.arange(5)
    hardness.start_epoch()
    assert hardness.ranks(everyone).tolist() == [0.5] * 5
    assert hardness.margins(everyone).tolist() == [0] * 5
    hardness.add(step_of([0, 1, 2, 3], [0.9, 0.1, 0.8, 0.4]))
    hardness.add(step_of([0], [0.0]))  # two passes over this one: (0.8 - 1.0) / 2
    assert hardness.ranks(everyone).tolist() == [0.5] * 5  # not before the next epoch
    hardness.start_epoch()
    assert hardness.ranks(everyone)[4] == 0.5  # never trained
    assert hardness.ranks(everyone)[:4].argsort().tolist() == [1, 3, 0, 2]
    assert hardness.margins(everyone).tolist() == pytest.approx([-0.1, -0.8, 0.6, -0.2, 0.0], abs=1e-6)


def test_scores_from_before_the_run_are_not_overruled_by_it():
    hardness = PoolHardness(torch.zeros(2, dtype=torch.long), torch.tensor([-0.5, 0.25]))
    hardness.add(step_of([1], [1.0]))
    hardness.start_epoch()
    assert hardness.ranks(torch.arange(2)).tolist() == [0.75, 0.25]
    assert hardness.margins(torch.arange(2)).tolist() == [0.5, -0.25]
    assert hardness.state_dict() == {}


def test_scores_that_are_no_margins_give_ranks_alone():
    hardness = PoolHardness(torch.zeros(2, dtype=torch.long), torch.tensor([7.0, 2.0]), is_margin=False)
    assert hardness.ranks(torch.arange(2)).tolist() == [0.25, 0.75]
    assert hardness.margins(torch.arange(2)) is None


def test_a_followed_run_goes_on_from_its_state():
    labels_N = torch.zeros(3, dtype=torch.long)
    first, second = PoolHardness(labels_N, None), PoolHardness(labels_N, None)
    first.add(step_of([0, 1, 2], [0.3, 0.1, 0.2]))
    second.load_state_dict(first.state_dict())
    for hardness in (first, second):
        hardness.start_epoch()
    assert first.ranks(torch.arange(3)).equal(second.ranks(torch.arange(3)))
    assert first.margins(torch.arange(3)).equal(second.margins(torch.arange(3)))


class Spy(nn.Module):
    """A reweighter that keeps what it sees of hardness."""

    def __init__(self, request):
        super().__init__()
        self.log_weight = nn.Parameter(torch.zeros(()))
        self.asked, self.seen, self.margins = request.hardness, {}, {}

    def forward(self, batch):
        positions = batch.positions.tolist()
        self.seen |= dict(zip(positions, batch.hardness_rank.tolist(), strict=True))
        if batch.hardness_margin is not None:
            self.margins |= dict(zip(positions, batch.hardness_margin.tolist(), strict=True))
        return self.log_weight.expand(len(batch.positions))


@pytest.fixture
def spies(registry):
    """The reweighter `spy`, and all that were built."""
    built = []

    def build(request):
        built.append(Spy(request))
        return built[-1]

    spec = ReweighterSpec(name="spy", description="-", build=build, lr=0.1, needs_hardness=True)
    registry.add(SimpleNamespace(register_reweighters=hookimpl(lambda register: register(spec))), "spies")
    return built


def test_a_reweighter_sees_the_scores_of_its_split(registry, spies, tmp_path):
    config = tiny_config(method="lrw", split="hard", reweighter="spy", warmup_epochs=0)
    run = train_one(config, registry, tmp_path)
    split = read_split(run.split_path)
    (spy,) = spies
    assert spy.asked.equal(-split.score)  # aum: low is hard
    expected = hardness_ranks(-split.score, split.labels)
    assert [spy.seen[position] for position in range(64)] == expected.tolist()
    assert [spy.margins[position] for position in range(64)] == split.score.float().tolist()


def test_a_reweighter_sees_the_run_where_the_split_has_no_scores(registry, spies, tmp_path):
    config = tiny_config(method="lrw", split="random", reweighter="spy", warmup_epochs=1)
    train_one(config, registry, tmp_path)
    (spy,) = spies
    assert spy.asked is None
    assert len(set(spy.seen.values())) == 16  # of each of the four classes alike
