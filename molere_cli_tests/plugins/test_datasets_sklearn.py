"""The embedded digits: sizes, disjointness, seeds, and colours that say what the groups say."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2_contingency

from molere_cli.config.run_config import RunConfig
from molere_cli.data.source import load_dataset
from molere_cli.foundation.errors import ConfigError
from molere_cli.registry.registry import load_plugins

REGISTRY = load_plugins()
NUM_CLASSES = 10


def load(name="digits", **changes):
    return load_dataset(RunConfig.of(dataset=name, **changes).data, REGISTRY)


def colour_digits(rho=0.95, **changes):
    return load("colour-digits", dataset_option={"rho": str(rho)}, **changes).dataset


def parts(dataset):
    return {"pool": dataset.pool, "tuning": dataset.tuning, "test": dataset.tests["test"]}


def ink(examples):
    """The drawing without its tint, as hashable rows: the darkest of the three channels is not tinted,
    since every hue has a channel at zero."""
    return [tuple(row) for row in examples.images.amin(dim=1).flatten(1).tolist()]


def colours(examples):
    """The hue of every example, 0..9, read off the pixels: red, green and blue of its brightest tint."""
    tint_N3 = (examples.images.float() - examples.images.amin(dim=1, keepdim=True)).amax(dim=(2, 3))
    red, green, blue = (tint_N3 / tint_N3.amax(dim=1, keepdim=True)).unbind(dim=1)
    top = tint_N3.argmax(dim=1)
    sector = torch.stack([(green - blue) % 6, blue - red + 2, red - green + 4])
    hue = sector[top, torch.arange(len(top))] / 6
    return (hue * NUM_CLASSES).round().long() % NUM_CLASSES


def owners(dataset):
    """The class that each hue represents in the pool, by majority."""
    colour, labels = colours(dataset.pool), dataset.pool.labels
    return torch.tensor([int(colour[labels == label].mode().values) for label in range(NUM_CLASSES)])


@pytest.mark.parametrize("name", ["digits", "colour-digits"])
def test_sizes_are_as_documented(name):
    found = {part: len(examples) for part, examples in parts(load(name).dataset).items()}
    assert found == {"pool": 1000, "tuning": 297, "test": 500}


@pytest.mark.parametrize("name", ["digits", "colour-digits"])
def test_pool_tuning_and_test_are_disjoint_and_make_up_all_digits(name):
    from sklearn.datasets import load_digits

    found = [row for examples in parts(load(name).dataset).values() for row in ink(examples)]
    source = torch.tensor(load_digits().images).flatten(1)
    expected = [tuple(row) for row in (255 * source / 16).round().long().tolist()]
    assert len(set(expected)) == len(expected)
    assert sorted(found) == sorted(expected)


@pytest.mark.parametrize("name", ["digits", "colour-digits"])
def test_every_part_is_stratified(name):
    for examples in parts(load(name).dataset).values():
        counts = examples.labels.bincount(minlength=NUM_CLASSES)
        assert counts.max() - counts.min() <= 0.02 * len(examples)


def test_images_are_bytes_in_three_channels():
    for examples in parts(load().dataset).values():
        assert examples.images.dtype == torch.uint8
        assert examples.images.shape[1:] == (3, 8, 8)
        assert examples.labels.dtype == torch.int64
        assert (examples.images[:, 0] == examples.images[:, 2]).all()


@pytest.mark.parametrize("name", ["digits", "colour-digits"])
def test_the_data_seed_alone_decides(name):
    first, again, other = load(name), load(name, seed=7), load(name, data_seed=1)
    assert first.fingerprint == again.fingerprint
    assert first.fingerprint != other.fingerprint
    for part, examples in parts(first.dataset).items():
        assert torch.equal(examples.images, parts(again.dataset)[part].images)
        assert not torch.equal(examples.images, parts(other.dataset)[part].images)


@settings(max_examples=20)
@given(rho=st.floats(0.2, 1.0), data_seed=st.integers(0, 1000))
def test_exactly_rho_of_every_class_has_its_own_colour_in_the_pool(rho, data_seed):
    pool = colour_digits(rho, data_seed=data_seed).pool
    for label in range(NUM_CLASSES):
        groups = pool.groups[pool.labels == label]
        assert int(groups.sum()) == round(rho * len(groups))


@pytest.mark.parametrize("rho", [0.3, 0.9, 1.0])
def test_groups_say_whether_the_pixels_have_the_colour_of_the_label(rho):
    dataset = colour_digits(rho)
    assert dataset.group_names == ("colour disagrees", "colour agrees")
    owner_of_class = owners(dataset)
    assert sorted(owner_of_class.tolist()) == list(range(NUM_CLASSES))
    for examples in parts(dataset).values():
        agrees = colours(examples) == owner_of_class[examples.labels]
        assert torch.equal(agrees.long(), examples.groups)


def test_at_rho_zero_no_pool_colour_agrees():
    assert not colour_digits(0).pool.groups.any()


@pytest.mark.parametrize("part", ["tuning", "test"])
def test_colours_outside_the_pool_are_independent_of_the_label(part):
    """Chi-square over several data seeds taken together, where a tie to the label would show."""
    counts = torch.zeros(NUM_CLASSES, NUM_CLASSES)
    agreeing, total = 0, 0
    for data_seed in range(8):
        dataset = colour_digits(data_seed=data_seed)
        examples, owner_of_class = parts(dataset)[part], owners(dataset)
        # Counted as "whose colour", since the owners of the hues change with the seed.
        whose = owner_of_class.argsort()[colours(examples)]
        counts.index_put_((examples.labels, whose), torch.ones(len(examples)), accumulate=True)
        agreeing, total = agreeing + int(examples.groups.sum()), total + len(examples)
    assert chi2_contingency(counts.numpy()).pvalue > 1e-3
    assert agreeing / total == pytest.approx(1 / NUM_CLASSES, abs=0.03)


def test_wrong_colours_in_the_pool_are_spread_over_the_other_nine():
    pool = colour_digits(0.1).pool
    odd = pool.groups == 0
    counts = colours(pool)[odd].bincount(minlength=NUM_CLASSES)
    assert counts.min() > 0.05 * int(odd.sum())


@pytest.mark.parametrize("rho", ["1.5", "-0.1", "much"])
def test_an_impossible_rho_is_refused(rho):
    with pytest.raises(ConfigError, match=r"dataset 'colour-digits': rho = "):
        colour_digits(rho)


def test_digits_take_no_argument():
    with pytest.raises(ConfigError, match=r"takes no argument; got 'x'"):
        load("digits:x")


def test_tuning_and_test_sets_are_the_same_for_every_rho():
    one, other = parts(colour_digits(rho=0.9)), parts(colour_digits(rho=0.98))
    for name in ("tuning", "test"):
        assert torch.equal(one[name].images, other[name].images)
    assert not torch.equal(one["pool"].images, other["pool"].images)
