"""Splits: membership by quota, the strategies, and the split file."""

from __future__ import annotations

import errno
import json
import math
import time
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import molere_splits
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from molere_cli import SplitRequest, TargetSet
from molere_cli.foundation.errors import DataError, MolereError, SplitError, WriteError
from molere_cli.registry.registry import Registry, empty_registry
from molere_cli.splits import split_file
from molere_cli.splits.quota import select_by_quota, validation_size
from molere_cli.splits.split_file import Split, SplitInfo, load_split, read_split, verify_split, write_split

FINGERPRINT = "0123456789abcdef"

# --- membership by quota

deltas = st.integers(1, 500).map(lambda thousandths: thousandths / 1000)


@st.composite
def pools(draw) -> tuple[Tensor, Tensor]:
    """Labels, some class perhaps absent, and priorities with ties."""
    labels = draw(st.lists(st.integers(0, 4), min_size=1, max_size=60))
    priorities = draw(st.lists(st.integers(-3, 3), min_size=len(labels), max_size=len(labels)))
    return torch.tensor(labels), torch.tensor(priorities, dtype=torch.float64)


def quota_or_none(labels: Tensor, priority: Tensor, delta: float) -> Tensor | None:
    try:
        return select_by_quota(labels, priority, delta=delta)
    except SplitError:
        return None


@given(pool=pools(), delta=deltas)
def test_quota_gives_floor_delta_n_unless_classes_would_lose_their_last_example(pool, delta):
    labels, priority = pool
    target = math.floor(Fraction(str(delta)) * len(labels))
    chosen = quota_or_none(labels, priority, delta)
    size = 0 if chosen is None else int(chosen.sum())
    assert size <= target
    if size < target:
        counts = labels.bincount()
        taken = torch.zeros_like(counts) if chosen is None else labels[chosen].bincount(minlength=len(counts))
        share = torch.tensor([math.floor(Fraction(str(delta)) * int(count)) for count in counts])
        # Every class has given one beyond its floor, or all but one example.
        assert ((taken == share + 1) | (taken >= counts - 1)).all()


@given(pool=pools(), delta=deltas)
def test_quota_is_within_one_of_the_share_of_every_class_and_leaves_one_to_train(pool, delta):
    labels, priority = pool
    chosen = quota_or_none(labels, priority, delta)
    if chosen is None:
        return
    for label in labels.unique():
        of_class = labels == label
        num_class, num_chosen = int(of_class.sum()), int((chosen & of_class).sum())
        share = Fraction(str(delta)) * num_class
        assert abs(num_chosen - share) <= 1
        assert num_chosen >= min(math.floor(share), num_class - 1)
        assert num_chosen < num_class


@given(pool=pools(), delta=deltas)
def test_quota_takes_the_highest_priority_of_a_class_and_of_equals_the_first(pool, delta):
    labels, priority = pool
    chosen = quota_or_none(labels, priority, delta)
    if chosen is None:
        return
    for label in labels.unique():
        positions = (labels == label).nonzero().flatten().tolist()
        ranked = sorted(positions, key=lambda position: (-float(priority[position]), position))
        num_chosen = int(chosen[positions].sum())
        assert {p for p in positions if chosen[p]} == set(ranked[:num_chosen])


def test_the_largest_remainders_fill_up():
    labels = torch.tensor([0] * 13 + [1] * 18 + [2] * 15)  # shares 1.3, 1.8, 1.5 of 4 in all
    chosen = select_by_quota(labels, torch.zeros(46), delta=0.1)
    assert labels[chosen].bincount().tolist() == [1, 2, 1]
    labels = torch.cat([labels, torch.full((4,), 3)])  # a share of 0.4; 5 in all
    chosen = select_by_quota(labels, torch.zeros(50), delta=0.1)
    assert labels[chosen].bincount(minlength=4).tolist() == [1, 2, 2, 0]


@pytest.mark.parametrize(
    ("num_examples", "delta", "size"),
    [
        (30, 0.1, 3),
        (10, 0.3, 3),
        (70, 0.1, 7),
        (29, 0.1, 2),
        (3, 1 / 3, 1),
        (100, 0.29, 29),
        (1000, 0.163, 163),
    ],
)
def test_floating_point_does_not_shift_the_size(num_examples, delta, size):
    assert validation_size(num_examples, delta=delta) == size
    chosen = select_by_quota(
        torch.zeros(num_examples, dtype=torch.int64), torch.rand(num_examples), delta=delta
    )
    assert int(chosen.sum()) == size


@pytest.mark.parametrize("labels", [[0] * 9, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]])
def test_an_empty_validation_set_is_an_error(labels):
    with pytest.raises(SplitError, match="leaves the validation set empty"):
        select_by_quota(torch.tensor(labels), torch.zeros(len(labels)), delta=0.1)


@pytest.mark.parametrize("delta", [0.0, 1.0, -0.1])
def test_delta_out_of_range_is_an_error(delta):
    with pytest.raises(SplitError, match="between 0 and 1"):
        select_by_quota(torch.zeros(10, dtype=torch.int64), torch.zeros(10), delta=delta)


def test_a_delta_of_almost_one_still_leaves_every_class_an_example():
    labels = torch.tensor([0] * 5 + [1] * 3)
    chosen = select_by_quota(labels, torch.zeros(8), delta=1 - 1e-12)
    assert labels[chosen].bincount().tolist() == [4, 2]


def test_a_priority_that_is_nan_is_an_error():
    with pytest.raises(SplitError, match="1 of 10 examples"):
        select_by_quota(
            torch.zeros(10, dtype=torch.int64), torch.tensor([0.0] * 9 + [float("nan")]), delta=0.5
        )


def test_quota_is_quick_on_a_million_examples_of_a_thousand_classes():
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 1000, (1_000_000,), generator=generator)
    priority = torch.rand(1_000_000, generator=generator)
    start = time.process_time()
    chosen = select_by_quota(labels, priority, delta=0.1)
    assert time.process_time() - start < 3
    assert int(chosen.sum()) == 100_000


# --- strategies


def installed() -> Registry:
    registry = empty_registry()
    registry.add(molere_splits, "molere_splits")
    assert registry.problems == []
    return registry


def select(strategy: str, *, seed: int = 0) -> TargetSet:
    spec = installed().splits.get(strategy)
    labels = torch.arange(40) % 2
    request = SplitRequest(
        labels=labels,
        indices=torch.arange(40),
        hardness=torch.arange(40, dtype=torch.float64) if spec.needs_score else None,
        delta=0.2,
        generator=torch.Generator().manual_seed(seed),
    )
    found = spec.choose(request)
    return found if isinstance(found, TargetSet) else TargetSet(in_validation=found)


def choose(strategy: str, *, seed: int = 0) -> Tensor:
    return select(strategy, seed=seed).in_validation


def test_hard_takes_the_hardest_and_easy_the_easiest_of_every_class():
    assert choose("hard").nonzero().flatten().tolist() == list(range(32, 40))
    assert choose("easy").nonzero().flatten().tolist() == list(range(8))


def test_moderate_takes_what_comes_after_hard_and_mixed_half_of_it():
    assert choose("moderate").nonzero().flatten().tolist() == list(range(24, 32))
    mixed = choose("mixed").nonzero().flatten().tolist()
    assert mixed[4:] == list(range(36, 40))
    assert max(mixed[:4]) < 36
    assert mixed != choose("mixed", seed=1).nonzero().flatten().tolist()


def test_random_follows_its_generator_alone():
    assert torch.equal(choose("random", seed=1), choose("random", seed=1))
    assert not torch.equal(choose("random", seed=1), choose("random", seed=2))
    state = torch.get_rng_state()
    choose("random")
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("strategy", ["easy", "random", "hard", "moderate", "mixed"])
def test_every_strategy_is_stratified(strategy):
    labels = torch.arange(40) % 2
    chosen = choose(strategy)
    assert chosen.dtype == torch.bool
    assert labels[chosen].bincount().tolist() == [4, 4]


@pytest.mark.parametrize(
    ("strategy", "share", "keeps_base_weight"),
    [
        ("easy", None, False),
        ("random", None, True),
        ("hard", None, True),
        ("moderate", None, True),
        ("mixed", None, True),
        ("errors", 0.2, True),
    ],
)
def test_what_a_strategy_says_that_validation_stands_for(strategy, share, keeps_base_weight):
    found = select(strategy)
    assert (found.represented_fraction, found.keeps_base_weight) == (share, keeps_base_weight)


def test_errors_are_the_hardest_share_of_what_is_wrong_early_and_no_more():
    spec, _ = installed().split("errors")
    hardness = torch.tensor([-0.5, 0.1, 0.9, -0.1, 0.4, -0.9, 0.2, 0.3, -0.2, -0.3]).double()
    request = SplitRequest(
        labels=torch.tensor([0, 0, 0, 0, 0, 1, 1, 1, 1, 1]),
        indices=torch.arange(10),
        hardness=hardness,
        delta=0.5,
        generator=torch.Generator(),
    )
    # Of class 0, at most two: 0.4 and 0.9 are the hardest; of class 1 both that are wrong.
    found = spec.choose(request)
    assert found.in_validation.nonzero().flatten().tolist() == [1, 2, 4, 6, 7]
    few = spec.choose(replace(request, delta=0.2))
    assert few.in_validation.nonzero().flatten().tolist() == [2, 7]
    assert few.represented_fraction == 0.2
    with pytest.raises(SplitError, match="ERM gets nothing wrong early"):
        spec.choose(replace(request, hardness=-hardness.abs()))


def test_what_strategies_need():
    needs = {entry.spec.name: set(entry.spec.needs) for entry in installed().splits.entries}
    ranked = {name: {"delta", "score"} for name in ("easy", "hard", "moderate", "mixed")}
    assert needs == {
        **ranked,
        **{name: {"delta"} for name in ("errors", "learnable", "auto")},
        "random": {"delta"},
        "clean": {"delta"},
        "ls": {"delta"},
        "file": set(),
        "natural": set(),
    }


# --- a validation set of right labels


def chosen_clean(labels: list[int], clean_labels: list[int] | None, *, delta: float, seed: int = 0) -> Tensor:
    spec, _ = installed().split("clean")
    found = spec.choose(
        SplitRequest(
            labels=torch.tensor(labels),
            indices=torch.arange(len(labels)),
            clean_labels=None if clean_labels is None else torch.tensor(clean_labels),
            hardness=None,
            delta=delta,
            generator=torch.Generator().manual_seed(seed),
        )
    )
    right = [label == clean for label, clean in zip(labels, clean_labels or labels, strict=True)]
    assert found.represented_fraction == sum(right) / len(right)
    return found.in_validation


@given(
    labels=st.lists(st.tuples(st.integers(0, 2), st.booleans()), min_size=30, max_size=60),
    seed=st.integers(0, 5),
)
def test_clean_draws_its_share_of_every_class_from_the_right_labels_or_refuses(labels, seed):
    given_labels, is_right = zip(*labels, strict=True)
    true = [label if right else (label + 1) % 3 for label, right in labels]
    share = select_by_quota(torch.tensor(given_labels), torch.zeros(len(labels)), delta=0.1)
    wanted = torch.tensor(given_labels)[share].bincount(minlength=3)
    there = torch.tensor([label for label, right in labels if right], dtype=torch.int64).bincount(minlength=3)
    if (there < wanted).any():
        with pytest.raises(SplitError, match=r"class \d has fewer right labels than its share"):
            chosen_clean(list(given_labels), true, delta=0.1, seed=seed)
        return
    chosen = chosen_clean(list(given_labels), true, delta=0.1, seed=seed)
    assert torch.tensor(is_right)[chosen].all()
    assert torch.equal(torch.tensor(given_labels)[chosen].bincount(minlength=3), wanted)


def test_clean_without_known_noise_is_refused():
    with pytest.raises(SplitError, match=r"needs to know which labels are wrong, as with --label-noise"):
        chosen_clean([0, 1] * 10, None, delta=0.1)


# --- a validation set that the user lists


def listed(path: Path, text: str, *, encoding: str = "utf-8") -> Tensor:
    """What `file` chooses of a pool whose stable indices run 100, 98, ... 82."""
    path.write_text(text, encoding=encoding)
    spec, argument = installed().split(f"file:{path}")
    request = SplitRequest(
        labels=torch.arange(10) % 2,
        indices=torch.arange(100, 80, -2),
        hardness=None,
        delta=0.1,
        generator=torch.Generator(),
        argument=argument,
    )
    return spec.choose(request)


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("index\n98\n82\n", "utf-8"),
        ("label,index\r\nb,82\r\na, 98\r\n\r\n", "utf-8"),
        ("index,note\n98,\n82,b\n", "utf-8-sig"),
    ],
)
def test_listed_examples_are_chosen_by_stable_index(tmp_path, text, encoding):
    chosen = listed(tmp_path / "mine.csv", text, encoding=encoding)
    assert chosen.nonzero().flatten().tolist() == [1, 9]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("index\n98\n97\n", "mine.csv, line 3: the pool has no example of index 97"),
        ("index\n98\n82\n98\n", "mine.csv, line 4: index 98 stands there twice"),
        ("index\n98\n-2\n", "mine.csv, line 3: the index '-2' is no whole number"),
        ("label,index\n98\n", "mine.csv, line 2: there are 1 cells under 2 columns"),
        ("98\n82\n", "mine.csv, line 1: there is no column 'index'; there are: 98"),
        ("", "mine.csv, line 1: there is no column 'index'; there are: none"),
    ],
)
def test_what_is_wrong_with_a_list_names_file_and_line(tmp_path, text, sentence):
    with pytest.raises(DataError) as caught:
        listed(tmp_path / "mine.csv", text)
    assert str(caught.value).endswith(sentence)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("file", "split strategy 'file' needs an argument: file:FILE.csv"),
        ("file:", "split strategy 'file' needs an argument: file:FILE.csv"),
        ("hard:3", "split strategy 'hard' takes no argument; got '3' after the colon"),
        ("molere_splits:hard:3", "split strategy 'molere_splits:hard' takes no argument; got '3'"),
        ("fiel:a.csv", "unknown split strategy 'fiel:a.csv'; did you mean"),
    ],
)
def test_arguments_of_strategies_are_checked(text, sentence):
    with pytest.raises(MolereError) as caught:
        installed().split(text)
    assert sentence.removesuffix("; did you mean") in str(caught.value)


def test_a_prefixed_strategy_may_have_an_argument():
    spec, argument = installed().split("molere_splits:file:a:b.csv")
    assert (spec.name, argument) == ("file", "a:b.csv")
    assert installed().split("molere_splits:hard")[1] is None


# --- the split file


def info(**changes) -> SplitInfo:
    values = {
        "dataset": "tiny",
        "fingerprint": FINGERPRINT,
        "strategy": "hard",
        "delta": 0.25,
        "seed": 3,
        "score_name": "aum",
        "erm_run": "runs/tiny-erm-s3",
        "versions": {"molere": "0.1.0"},
    }
    return SplitInfo(**{**values, **changes})


def a_split(**changes) -> Split:
    """Twelve examples in 3 classes, of a sub-sampled pool; one of each class is validation."""
    values = {
        "labels": torch.arange(12) % 3,
        "in_validation": torch.arange(12) < 3,
        "score": torch.linspace(-1, 1, 12, dtype=torch.float64),
        "indices": torch.arange(12) * 10 + 5,
        "info": info(),
    }
    return Split(**{**values, **changes})


def verify(split: Split, **changes) -> list[str]:
    pool = a_split()
    values = {
        "labels_N": pool.labels,
        "indices_N": pool.indices,
        "fingerprint": FINGERPRINT,
        "num_classes": 3,
        "source": "my.parquet",
    }
    return verify_split(split, **{**values, **changes})


def assert_same(one: Split, other: Split) -> None:
    assert one.info == other.info
    assert torch.equal(one.labels, other.labels)
    assert torch.equal(one.in_validation, other.in_validation)
    assert torch.equal(one.indices, other.indices)
    assert (one.score is None) == (other.score is None)
    if one.score is not None:
        assert torch.equal(one.score, other.score)
    for tensor, dtype in ((other.labels, torch.int64), (other.in_validation, torch.bool)):
        assert tensor.dtype == dtype


@st.composite
def splits(draw) -> Split:
    size = draw(st.integers(1, 30))

    def column(values):
        return draw(st.lists(values, min_size=size, max_size=size))

    indices = draw(st.lists(st.integers(0, 2**62), min_size=size, max_size=size, unique=True))
    finite = st.floats(allow_nan=False)
    return Split(
        labels=torch.tensor(column(st.integers(0, 2**40))),
        in_validation=torch.tensor(column(st.booleans())),
        score=torch.tensor(column(finite), dtype=torch.float64) if draw(st.booleans()) else None,
        indices=torch.tensor(indices),
        info=info(
            dataset=draw(st.text()),
            delta=draw(st.floats(0.001, 0.5)),
            seed=draw(st.integers(0, 2**40)),
            score_name=draw(st.none() | st.text()),
            versions=draw(st.dictionaries(st.text(), st.text(), max_size=2)),
            val_dataset=draw(st.none() | st.text()),
        ),
    )


@given(split=splits())
def test_a_split_comes_back_as_it_was_written(split, tmp_path_factory):
    path = tmp_path_factory.mktemp("splits") / "a.parquet"
    write_split(split, path)
    assert_same(split, read_split(path))


def test_the_file_has_the_documented_columns_and_nothing_beside_it_is_left(tmp_path):
    path = tmp_path / "new folder" / "a.parquet"
    write_split(a_split(), path)
    table = pq.read_table(path)
    assert table.schema.names == ["index", "label", "score", "in_validation"]
    assert b'"format_version":1' in table.schema.metadata[b"molere"]
    assert list(path.parent.iterdir()) == [path]


DIAGNOSIS = {
    "num_held_out": 10,
    "hard": {"plain": 0.1, "upweighted": 0.5},
    "others": {"plain": 0.9, "upweighted": 0.9},
}


@pytest.mark.parametrize("diagnosis", [None, DIAGNOSIS])
def test_a_file_of_before_that_holds_a_diagnosis_is_read_and_is_checked_as_ever(tmp_path, diagnosis):
    path, split = tmp_path / "old.parquet", a_split()
    write_split(split, path)
    table = pq.read_table(path)
    text = json.dumps({**split.info.model_dump(mode="json"), "diagnosis": diagnosis}).encode()
    # As 0.1 wrote it: what the digest covers holds the diagnosis.
    described = {b"molere": text, b"molere.digest": split_file._digest_of(split, text)}
    pq.write_table(table.replace_schema_metadata(described), path)
    assert_same(split, read_split(path))
    write_split(read_split(path), path)
    assert b"diagnosis" not in pq.read_schema(path).metadata[b"molere"]
    pq.write_table(table.replace_schema_metadata({**described, b"molere": text + b" "}), path)
    with pytest.raises(SplitError, match="damaged or has been edited"):
        read_split(path)


def test_a_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "a.parquet"
    write_split(a_split(), path)

    def broken(_table, where):
        Path(where).write_bytes(b"half")
        raise OSError(errno.ENOSPC, "Error writing bytes to file")

    monkeypatch.setattr("molere_cli.splits.split_file.pq.write_table", broken)
    with pytest.raises(WriteError, match=r"^cannot write .*a\.parquet: No space left on device; make room"):
        write_split(a_split(score=None), path)
    assert_same(a_split(), read_split(path))
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("pool_order", ["ascending", "shuffled"])
def test_rows_in_any_order_are_aligned_to_the_pool(tmp_path, pool_order):
    split = a_split()
    if pool_order == "shuffled":
        order = torch.randperm(12, generator=torch.Generator().manual_seed(2))
        split = a_split(
            labels=split.labels[order],
            in_validation=split.in_validation[order],
            score=split.score[order],
            indices=split.indices[order],
        )
    path = tmp_path / "a.parquet"
    write_split(split, path)
    table = pq.read_table(path)
    rows = np.random.default_rng(0).permutation(12)
    pq.write_table(table.take(pa.array(rows)), path)
    loaded, warnings = load_split(
        path, labels_N=split.labels, indices_N=split.indices, fingerprint=FINGERPRINT, num_classes=3
    )
    assert warnings == []
    assert_same(split, loaded)


def test_verifying_a_good_split_has_nothing_to_say():
    assert verify(a_split()) == []


def swapped(values: Tensor, position: int, value: int) -> Tensor:
    changed = values.clone()
    changed[position] = value
    return changed


def without_last() -> Split:
    whole = a_split()
    return Split(
        labels=whole.labels[:-1],
        in_validation=whole.in_validation[:-1],
        score=None,
        indices=whole.indices[:-1],
        info=whole.info,
    )


@pytest.mark.parametrize(
    ("split", "sentence"),
    [
        (a_split(info=info(fingerprint="beef")), "was made for another pool .*beef"),
        (a_split(indices=swapped(a_split().indices, 1, 5)), "lists index 5 more than once"),
        (a_split(indices=swapped(a_split().indices, 1, 7)), "lists index 7, which the dataset does not have"),
        (without_last(), r"lacks index 115 of the dataset \(1 in all\)"),
        (a_split(labels=swapped(a_split().labels, 4, 0)), "says label 0 for index 45, .*says 1"),
        (a_split(indices=a_split().indices.flip(0)), "lists the examples in another order"),
        (
            a_split(in_validation=torch.arange(12) < 4),
            "puts 4 of 12 examples in validation; its delta 0.25 allows 3",
        ),
        (a_split(in_validation=torch.zeros(12, dtype=torch.bool)), "has no validation example"),
        (
            a_split(in_validation=torch.arange(12) % 3 == 1, info=info(delta=0.4)),
            "leaves no training example of class 1",
        ),
    ],
)
def test_what_is_wrong_with_a_split_is_one_sentence(split, sentence):
    with pytest.raises(SplitError, match=f"^my.parquet {sentence}") as caught:
        verify(split)
    assert "\n" not in str(caught.value)


def test_a_class_without_validation_examples_is_a_warning():
    (warning,) = verify(a_split(in_validation=torch.tensor([True] + [False] * 11)))
    assert warning == "my.parquet has no validation example of class 1, 2"


def test_a_class_that_the_pool_lacks_is_no_concern():
    assert verify(a_split(), num_classes=5) == []


def test_a_split_whose_validation_set_is_another_dataset_may_leave_the_pool_whole():
    elsewhere = info(val_dataset="folder:photos", val_fingerprint="f")
    assert verify(a_split(in_validation=torch.zeros(12, dtype=torch.bool), info=elsewhere)) == []


def rewritten(path: Path, change) -> None:
    table = pq.read_table(path)
    pq.write_table(change(table), path)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda table: table.replace_schema_metadata({}), "is not a split: its schema has no metadata"),
        (lambda table: table.replace_schema_metadata({"molere": "{"}), "metadata of .*a.parquet"),
        (
            lambda table: table.replace_schema_metadata(
                {"molere": table.schema.metadata[b"molere"].replace(b'version":1', b'version":2')}
            ),
            "format_version = 2: input should be 1",
        ),
        (lambda table: table.drop(["label"]), "must have one column 'label'"),
        (
            lambda table: table.set_column(0, "index", pa.array(["x"] * 12)),
            "column 'index' of .* must be int64",
        ),
        (
            lambda table: table.set_column(1, "label", pa.array([None] + [0] * 11, pa.int64())),
            "column 'label' of .* has 1 empty cells",
        ),
        (
            lambda table: table.set_column(2, "score", pa.array([None] + [0.0] * 11)),
            "column 'score' of .* has 1 empty cells",
        ),
    ],
)
def test_a_parquet_file_that_is_no_split_is_said_to_be_none(tmp_path, change, sentence):
    path = tmp_path / "a.parquet"
    write_split(a_split(), path)
    rewritten(path, change)
    with pytest.raises(SplitError, match=sentence) as caught:
        read_split(path)
    assert str(path) in str(caught.value)


def test_a_file_that_is_not_parquet_is_named(tmp_path):
    path = tmp_path / "a.parquet"
    path.write_text("index,label\n0,1\n")
    with pytest.raises(SplitError, match=r"a\.parquet is not a Parquet file"):
        read_split(path)


@pytest.mark.parametrize("make", [lambda path: None, lambda path: path.mkdir()])
def test_a_missing_file_and_a_folder_are_named(tmp_path, make):
    path = tmp_path / "a.parquet"
    make(path)
    with pytest.raises(SplitError, match=r"cannot read the split file .*a\.parquet"):
        read_split(path)


def test_a_truncated_file_is_an_error_of_one_sentence(tmp_path):
    path = tmp_path / "a.parquet"
    write_split(a_split(), path)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(SplitError, match=r"a\.parquet"):
        read_split(path)


# --- a damaged split file


def test_no_flipped_bit_of_a_split_file_is_read_as_another_split(tmp_path):
    path, damaged = tmp_path / "a.parquet", tmp_path / "damaged.parquet"
    write_split(a_split(), path)
    content, refused = path.read_bytes(), 0
    places = range(0, len(content), 5)
    for place in places:
        changed = bytearray(content)
        changed[place] ^= 1 << place % 8
        damaged.write_bytes(changed)
        try:
            found = read_split(damaged)
        except SplitError as error:
            assert str(damaged) in str(error)
            refused += 1
        else:
            assert_same(a_split(), found)
    assert refused > len(places) / 2


def test_an_edited_split_is_named(tmp_path):
    path = tmp_path / "a.parquet"
    write_split(a_split(), path)
    rewritten(path, lambda table: table.set_column(3, "in_validation", pa.array([True] + [False] * 11)))
    with pytest.raises(SplitError, match=r"a\.parquet is damaged or has been edited: .* make a new split$"):
        read_split(path)


def test_a_split_of_a_version_that_kept_no_digest_is_read(tmp_path):
    path = tmp_path / "a.parquet"
    write_split(a_split(), path)
    rewritten(path, lambda table: table.replace_schema_metadata({"molere": table.schema.metadata[b"molere"]}))
    assert_same(a_split(), read_split(path))


def test_more_rows_than_the_pool_has_are_refused_unread(tmp_path, monkeypatch):
    path, split = tmp_path / "a.parquet", a_split()
    write_split(split, path)
    rewritten(path, lambda table: pa.concat_tables([table] * 1000))
    monkeypatch.setattr(pq.ParquetFile, "read", lambda *_args, **_rest: pytest.fail("has been read"))
    with pytest.raises(SplitError, match=r"lists 12000 examples, where the dataset has 12$"):
        load_split(
            path, labels_N=split.labels, indices_N=split.indices, fingerprint=FINGERPRINT, num_classes=3
        )


def test_a_header_that_promises_more_than_its_rows_can_hold_is_refused_unread(tmp_path, monkeypatch):
    path = tmp_path / "a.parquet"
    write_split(a_split(), path)
    monkeypatch.setattr("molere_cli.splits.split_file.SLACK", 0)
    monkeypatch.setattr("molere_cli.splits.split_file.BYTES_A_ROW", 1)
    with pytest.raises(SplitError, match=r"its 12 rows cannot take \d+ bytes$"):
        read_split(path)
