"""The shortcut that any dataset can be given: who has which colour, and nobody's labels change."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from molere_transforms.colour_patch import with_colour_patch

from molere_cli import Dataset, Examples
from molere_cli.config.run_config import RunConfig
from molere_cli.config.sections import DataSettings
from molere_cli.data.source import load_dataset
from molere_cli.foundation.errors import ConfigError
from molere_cli.registry.registry import load_plugins

REGISTRY = load_plugins()


class Reader:
    """Images that are not in memory."""

    def __init__(self, images):
        self.images = images

    def __len__(self):
        return len(self.images)

    def read(self, position):
        return self.images[position]

    def identities(self):
        return (bytes(image.flatten().tolist()) for image in self.images)


def plain(num: int, num_classes: int, *, size: int = 12, seed: int = 0) -> Examples:
    generator = torch.Generator().manual_seed(seed)
    return Examples(
        images=torch.randint(0, 256, (num, 3, size, size + 3), generator=generator, dtype=torch.uint8),
        labels=torch.arange(num) % num_classes,
    )


def dataset(num: int = 60, num_classes: int = 3) -> Dataset:
    return Dataset(
        pool=plain(num, num_classes),
        tuning=plain(9, num_classes, seed=1),
        tests={"test": plain(num, num_classes, seed=2)},
        class_names=tuple(f"c{label}" for label in range(num_classes)),
    )


def colours(examples: Examples) -> list[tuple[int, ...]]:
    return [tuple(image[:, 0, 0].tolist()) for image in examples.images]


@settings(max_examples=40)
@given(rho=st.floats(0, 1), seed=st.integers(0, 3), num_classes=st.integers(2, 7), num=st.integers(20, 80))
def test_rho_of_every_class_of_the_pool_has_the_colour_of_its_class(rho, seed, num_classes, num):
    biased = with_colour_patch(dataset(num, num_classes), rho=rho, seed=seed, name="d")
    pool = biased.pool
    found = colours(pool)
    owner_of = {}
    for colour, label, group in zip(found, pool.labels.tolist(), pool.groups.tolist(), strict=True):
        if group:
            assert owner_of.setdefault(label, colour) == colour
    assert len(set(owner_of.values())) == len(owner_of)
    for label in range(num_classes):
        members = pool.labels == label
        assert int(pool.groups[members].sum()) == round(rho * int(members.sum()))
    for colour, label, group in zip(found, pool.labels.tolist(), pool.groups.tolist(), strict=True):
        assert group or colour != owner_of.get(label)


def test_colours_of_test_and_tuning_sets_are_independent_of_label_and_rho():
    num_classes = 4
    weak, strong = (
        with_colour_patch(dataset(4000, num_classes), rho=rho, seed=0, name="d") for rho in (0.5, 0.99)
    )
    for part in ("test", "tuning"):
        sets = [{**d.tests, "tuning": d.tuning}[part] for d in (weak, strong)]
        assert torch.equal(sets[0].images, sets[1].images)
        assert torch.equal(sets[0].groups, sets[1].groups)
    test = weak.tests["test"]
    for label in range(num_classes):
        agreeing = test.groups[test.labels == label].double().mean()
        # 1,000 draws: a standard deviation is 0.014.
        assert abs(float(agreeing) - 1 / num_classes) < 0.07


def test_a_quarter_of_the_shorter_side_is_painted_and_nothing_else():
    before = dataset()
    after = with_colour_patch(before, rho=0.9, seed=0, name="d")
    same = after.pool.images == before.pool.images
    assert same[:, :, 3:].all()
    assert same[:, :, :3, 3:].all()
    corner = after.pool.images[:, :, :3, :3].flatten(2)
    assert (corner == corner[:, :, :1]).all()
    assert torch.equal(after.pool.labels, before.pool.labels)
    assert after.group_names == ("colour disagrees", "colour agrees")


def test_images_that_are_read_get_the_patch_of_images_in_memory():
    in_memory = dataset()
    read = Dataset(
        pool=Examples(images=Reader(in_memory.pool.images), labels=in_memory.pool.labels),
        tests=in_memory.tests,
        class_names=in_memory.class_names,
    )
    expected = with_colour_patch(in_memory, rho=0.8, seed=1, name="d").pool
    found = with_colour_patch(read, rho=0.8, seed=1, name="d").pool
    for position, image in enumerate(expected.images):
        assert torch.equal(found.images.read(position), image)
    other = with_colour_patch(read, rho=0.2, seed=1, name="d").pool
    assert list(found.images.identities()) != list(other.images.identities())


def test_it_comes_after_the_sub_sample_and_before_the_noise():
    config = RunConfig.of(
        dataset="digits", limit_train=200, colour_patch=0.9, label_noise="uniform", noise_rate=0.5
    )
    pool = load_dataset(config.data, REGISTRY).dataset.pool
    assert len(pool) == 200
    agreeing = pool.groups.bool()
    assert int(agreeing.sum()) == sum(round(0.9 * int(n)) for n in pool.clean_labels.bincount())
    owner = {}
    for position in agreeing.nonzero().flatten().tolist():
        colour = tuple(pool.images[position, :, 0, 0].tolist())
        assert owner.setdefault(int(pool.clean_labels[position]), colour) == colour
    assert len(owner) == 10


def test_the_fingerprint_knows_rho():
    prints = {load_dataset(DataSettings(colour_patch=rho), REGISTRY).fingerprint for rho in (None, 0.9, 0.95)}
    assert len(prints) == 3


def test_a_dataset_with_groups_keeps_them():
    with pytest.raises(
        ConfigError, match=r"would replace the groups of dataset 'colour-digits'; leave it out"
    ):
        load_dataset(DataSettings(dataset="colour-digits", colour_patch=0.9), REGISTRY)
