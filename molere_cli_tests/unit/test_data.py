"""From examples to batches: fingerprints, batches of an epoch, augmentation, the two feeds, hold-outs."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Generator

from molere_cli import DatasetSpec, Examples
from molere_cli.config.sections import DataSettings
from molere_cli.data.augmentation import ImageStore, crop_padding
from molere_cli.data.check import check_dataset
from molere_cli.data.feed import (
    FeedSettings,
    InMemoryFeed,
    StreamedFeed,
    epoch_batches,
    make_feed,
    normalize,
    resolve_image_size,
)
from molere_cli.data.fingerprint import fingerprint
from molere_cli.data.holdout import split_off, stratified_holdout, subset
from molere_cli.data.source import limit_pool, load_dataset
from molere_cli.foundation.errors import ConfigError, DataError
from molere_cli.registry.registry import Entry
from molere_cli_tests.conftest import tiny_dataset, tiny_examples

SETTINGS = FeedSettings(
    mean=(0.4, 0.5, 0.6),
    std=(0.2, 0.25, 0.3),
    augment="crop-flip",
    image_size=(8, 8),
    device=torch.device("cpu"),
    workers=0,
)


class ListReader:
    """An ImageReader over images in memory."""

    def __init__(self, images, *, broken=None):
        self.images = list(images)
        self.broken = broken

    def __len__(self):
        return len(self.images)

    def read(self, position):
        if position == self.broken:
            raise DataError(f"cannot read image {position}")
        return self.images[position]

    def identities(self):
        return (image.numpy().tobytes() for image in self.images)


def streamed(examples):
    return replace(examples, images=ListReader(examples.images))


# --- fingerprint


def changed(examples, *, what, position=5):
    """A copy of the examples in which one pixel, one label or one index is another."""
    images, labels, indices = examples.images.clone(), examples.labels.clone(), torch.arange(len(examples))
    if what == "pixel":
        images[position, 2, 7, 7] ^= 1
    if what == "label":
        labels[position] = (labels[position] + 1) % 4
    if what == "index":
        indices[position] = 1000
    return replace(examples, images=images, labels=labels, indices=indices)


@pytest.mark.parametrize("form", [lambda examples: examples, streamed], ids=["in memory", "streamed"])
@pytest.mark.parametrize("what", ["pixel", "label", "index"])
def test_the_fingerprint_changes_with(what, form):
    examples = tiny_examples(64, seed=0)
    same = fingerprint(form(changed(examples, what="nothing")))
    assert fingerprint(form(changed(examples, what="nothing"))) == same
    assert fingerprint(form(changed(examples, what=what))) != same
    assert len(same) == 32


def test_the_fingerprint_tells_shapes_of_the_same_bytes_apart():
    flat = torch.zeros(4, 3, 4, 8, dtype=torch.uint8)
    labels = torch.zeros(4, dtype=torch.int64)
    wide, high = Examples(images=flat, labels=labels), Examples(images=flat.mT, labels=labels)
    assert fingerprint(wide) != fingerprint(high)


def test_the_fingerprint_does_not_depend_on_the_memory_layout():
    examples = tiny_examples(64, seed=0)
    channels_last = replace(examples, images=examples.images.contiguous(memory_format=torch.channels_last))
    assert fingerprint(examples) == fingerprint(channels_last)


def test_the_fingerprint_tells_where_one_identity_ends():
    class Identities(ListReader):
        def identities(self):
            return iter(self.images)

    labels = torch.zeros(2, dtype=torch.int64)
    one = Examples(images=Identities([b"ab", b"c"]), labels=labels)
    other = Examples(images=Identities([b"a", b"bc"]), labels=labels)
    assert fingerprint(one) != fingerprint(other)


# --- batches of an epoch


@given(size=st.integers(2, 200), batch_size=st.integers(2, 70), seed=st.integers(0, 2**40))
def test_an_epoch_is_a_permutation_without_a_batch_of_one(size, batch_size, seed):
    positions = 3 * torch.arange(size) + 7
    batches = epoch_batches(positions, batch_size, seed=seed)
    assert torch.cat(batches).sort().values.tolist() == positions.tolist()
    assert min(len(batch) for batch in batches) > 1
    assert all(len(batch) == batch_size for batch in batches[:-1])
    assert len(batches[-1]) <= batch_size + 1


def test_the_order_of_an_epoch_follows_its_seed():
    first, again, other = (torch.cat(epoch_batches(torch.arange(50), 8, seed=seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


# --- augmentation


def all_crops(image, *, flips):
    """Every crop of the zero-padded image (C, H, W) that augmentation may give."""
    _, height, width = image.shape
    pad_y, pad_x = crop_padding(height), crop_padding(width)
    padded = torch.zeros(image.shape[0], height + 2 * pad_y, width + 2 * pad_x, dtype=image.dtype)
    padded[:, pad_y : pad_y + height, pad_x : pad_x + width] = image
    crops = [
        padded[:, top : top + height, left : left + width]
        for top in range(2 * pad_y + 1)
        for left in range(2 * pad_x + 1)
    ]
    return torch.stack(crops + ([crop.flip(2) for crop in crops] if flips else []))


def random_images(size, height, width, dtype=torch.uint8, seed=0):
    return torch.randint(0, 256, (size, 3, height, width), generator=Generator().manual_seed(seed)).to(dtype)


def augment_batch(images, augment, *, generator):
    return ImageStore(images, augment).augmented(torch.arange(len(images)), generator=generator)


@settings(max_examples=40)
@given(
    size=st.integers(1, 6),
    height=st.integers(1, 20),
    width=st.integers(1, 20),
    augment=st.sampled_from(["crop", "crop-flip"]),
    dtype=st.sampled_from([torch.uint8, torch.float32, torch.float64]),
    seed=st.integers(0, 2**40),
)
def test_every_augmented_image_is_a_crop_of_its_own_padded_image(size, height, width, augment, dtype, seed):
    images = random_images(size, height, width, dtype, seed=seed)
    before = images.clone()
    augmented = augment_batch(images, augment, generator=Generator().manual_seed(seed))
    assert augmented.shape == images.shape
    assert augmented.dtype == dtype
    assert torch.equal(images, before)
    for image, result in zip(images, augmented, strict=True):
        crops = all_crops(image, flips=augment == "crop-flip")
        assert (crops == result).flatten(1).all(dim=1).any()


@pytest.mark.parametrize(("augment", "num_outcomes"), [("crop", 9), ("crop-flip", 18)])
def test_every_example_has_a_draw_of_its_own_and_all_outcomes_occur_alike(augment, num_outcomes):
    """Of 8 x 8 images there are 3 x 3 crops; the same image 3,600 times shows how often each is drawn."""
    image = random_images(1, 8, 8)
    augmented = augment_batch(image.expand(3600, -1, -1, -1), augment, generator=Generator().manual_seed(0))
    outcomes, counts = augmented.flatten(1).unique(dim=0, return_counts=True)
    assert len(outcomes) == num_outcomes
    expected = 3600 / num_outcomes
    assert ((counts - expected).abs() < 5 * expected**0.5).all()


def test_the_same_generator_seed_gives_the_same_crops():
    images = random_images(32, 8, 8)
    first, again, other = (
        augment_batch(images, "crop-flip", generator=Generator().manual_seed(seed)) for seed in (3, 3, 4)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_no_augmentation_leaves_images_and_generator_alone():
    generator = Generator().manual_seed(0)
    state, images = generator.get_state(), random_images(4, 8, 8)
    assert torch.equal(augment_batch(images, "none", generator=generator), images)
    assert torch.equal(generator.get_state(), state)


# --- feeds


def test_normalisation_is_that_of_pixels_in_0_to_1():
    images = random_images(4, 8, 8)
    expected = (images.double() / 255 - torch.tensor(SETTINGS.mean).view(3, 1, 1)) / torch.tensor(
        SETTINGS.std
    ).view(3, 1, 1)
    assert torch.allclose(normalize(images, SETTINGS).double(), expected, atol=1e-5)


def test_decoding_without_workers_seeds_the_cpu_alone(monkeypatch):
    """A GPU's generator is the one that training draws dropout from in the same process."""

    def seeded(*_):
        raise AssertionError("a GPU's generator was seeded")

    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeded)
    feed = make_feed(streamed(tiny_examples(20, seed=0)), replace(SETTINGS, workers=0, augment="crop-flip"))
    assert len(list(feed.training([torch.arange(8)], seed=0))) == 1


@pytest.mark.parametrize("workers", [0, 2])
def test_both_feeds_give_the_same_evaluation_batches(workers):
    examples = tiny_examples(20, seed=0)
    in_memory = make_feed(examples, SETTINGS)
    from_reader = make_feed(streamed(examples), replace(SETTINGS, workers=workers))
    assert isinstance(in_memory, InMemoryFeed)
    assert isinstance(from_reader, StreamedFeed)
    assert len(in_memory) == len(from_reader) == 20
    batches = torch.arange(20).split(8)
    pairs = list(zip(in_memory.evaluation(batches), from_reader.evaluation(batches), strict=True))
    assert [len(one.labels) for one, _ in pairs] == [8, 8, 4]
    for one, other in pairs:
        assert one.whole_positions is None and other.whole_positions is None
        for mine, theirs in zip(one[:3], other[:3], strict=True):
            assert torch.equal(mine, theirs)


@pytest.mark.parametrize("make", [lambda examples: examples, streamed], ids=["in memory", "streamed"])
def test_training_batches_are_crops_of_the_positions_asked_for(make):
    examples = tiny_examples(20, seed=0)
    feed = make_feed(make(examples), SETTINGS)
    batches = [torch.tensor([7, 3, 3]), torch.tensor([0, 19])]
    for positions, batch in zip(batches, feed.training(batches, seed=1), strict=True):
        assert torch.equal(batch.positions, positions)
        assert torch.equal(batch.labels, examples.labels[positions])
        assert batch.images.dtype == torch.float32
        for position, image in zip(positions.tolist(), batch.images, strict=True):
            crops = normalize(all_crops(examples.images[position], flips=True), SETTINGS)
            assert (crops - image).flatten(1).abs().amax(dim=1).min() < 1e-5


def training_images(feed, *, seed):
    batches = epoch_batches(torch.arange(len(feed)), 8, seed=0)
    return torch.cat([batch.images for batch in feed.training(batches, seed=seed)])


def test_streamed_training_does_not_depend_on_the_number_of_workers():
    examples = streamed(tiny_examples(20, seed=0))
    alone, helped = (make_feed(examples, replace(SETTINGS, workers=number)) for number in (0, 2))
    assert torch.equal(training_images(alone, seed=5), training_images(helped, seed=5))
    assert not torch.equal(training_images(alone, seed=5), training_images(alone, seed=6))


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("make", [lambda examples: examples, streamed], ids=["in memory", "streamed"])
def test_feeds_leave_the_global_random_state_alone(make, workers):
    feed = make_feed(make(tiny_examples(20, seed=0)), replace(SETTINGS, workers=workers))
    torch.manual_seed(11)
    state = torch.get_rng_state()
    first = training_images(feed, seed=5)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(12)
    assert torch.equal(training_images(feed, seed=5), first)


MORE = {"rand_augment": {"rand_augment": 20}, "erasing": {"random_erasing": 1.0}}


@pytest.mark.parametrize("more", MORE.values(), ids=MORE)
@pytest.mark.parametrize("make", [lambda examples: examples, streamed], ids=["in memory", "streamed"])
def test_more_augmentation_follows_the_seed_and_spares_evaluation(make, more):
    examples = make(tiny_examples(20, seed=0))
    plain = make_feed(examples, replace(SETTINGS, augment="none"))
    alone, helped = (
        make_feed(examples, replace(SETTINGS, augment="none", workers=number, **more)) for number in (0, 2)
    )
    assert torch.equal(training_images(alone, seed=5), training_images(helped, seed=5))
    assert not torch.equal(training_images(alone, seed=5), training_images(alone, seed=6))
    batches = list(torch.arange(20).split(8))
    for one, other in zip(plain.evaluation(batches), alone.evaluation(batches), strict=True):
        assert torch.equal(one.images, other.images)


def test_erasing_blanks_a_rectangle_to_zero_and_nothing_else():
    examples = tiny_examples(20, seed=0)
    erased = make_feed(examples, replace(SETTINGS, augment="none", random_erasing=1.0))
    plain = make_feed(examples, replace(SETTINGS, augment="none"))
    positions = [torch.arange(20)]
    (found,), (expected,) = erased.training(positions, seed=0), plain.evaluation(positions)
    changed = (found.images != expected.images).any(dim=1)
    for image, mask in zip(found.images, changed, strict=True):
        rows, columns = mask.any(dim=1).nonzero(), mask.any(dim=0).nonzero()
        if len(rows):
            inside = image[:, rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
            assert inside.abs().max() < 0.02  # half a step of 256
    assert 0.6 < float(changed.flatten(1).any(dim=1).float().mean()) <= 1


def test_images_are_resized_on_request():
    examples = tiny_examples(20, seed=0)
    for form in (examples, streamed(examples)):
        feed = make_feed(form, replace(SETTINGS, image_size=(16, 16)))
        (batch,) = feed.evaluation([torch.arange(4)])
        assert batch.images.shape == (4, 3, 16, 16)


def test_streamed_images_of_several_sizes_become_one():
    images = [random_images(1, height, 9)[0] for height in (8, 12, 20)]
    feed = make_feed(Examples(images=ListReader(images), labels=torch.tensor([0, 1, 2])), SETTINGS)
    for batches in (feed.evaluation([torch.arange(3)]), feed.training([torch.arange(3)], seed=0)):
        assert [batch.images.shape for batch in batches] == [(3, 3, 8, 8)]


@pytest.mark.parametrize("workers", [0, 2])
def test_an_image_that_cannot_be_read_stops_with_its_sentence(workers):
    examples = tiny_examples(20, seed=0)
    broken = replace(examples, images=ListReader(examples.images, broken=13))
    feed = make_feed(broken, replace(SETTINGS, workers=workers))
    with pytest.raises(DataError) as caught:
        list(feed.evaluation(torch.arange(20).split(8)))
    assert str(caught.value) == "cannot read image 13"


def test_the_image_size_is_what_was_asked_for_else_the_native_one():
    examples = Examples(images=random_images(3, 6, 9), labels=torch.zeros(3, dtype=torch.int64))
    assert resolve_image_size(examples, None) == (6, 9)
    assert resolve_image_size(examples, 32) == (32, 32)
    assert resolve_image_size(streamed(examples), 32) == (32, 32)


def test_streamed_images_need_a_size():
    with pytest.raises(ConfigError, match=r"may differ in size; give --image-size, say 224$"):
        resolve_image_size(streamed(tiny_examples(4, seed=0)), None)


# --- parts


@pytest.mark.parametrize("make", [lambda examples: examples, streamed], ids=["in memory", "streamed"])
def test_a_limited_pool_is_stratified_and_keeps_its_indices(make):
    pool = tiny_examples(64, seed=0)
    limited = limit_pool(make(pool), 20, seed=0)
    assert limited.labels.bincount().tolist() == [5, 5, 5, 5]
    assert len(limited.indices.unique()) == 20
    assert torch.equal(limited.labels, pool.labels[limited.indices])
    for position, index in enumerate(limited.indices.tolist()):
        image = limited.images.read(position) if make is streamed else limited.images[position]
        assert torch.equal(image, pool.images[index])


def test_a_limited_pool_follows_its_seed():
    pool = tiny_examples(64, seed=0)
    first, again, other = (limit_pool(pool, 20, seed=seed).indices.tolist() for seed in (0, 0, 1))
    assert first == again != other


@pytest.mark.parametrize("size", [64, 1000])
def test_a_limit_that_leaves_nothing_out_is_refused(size):
    with pytest.raises(ConfigError, match=rf"--limit-train {size} leaves nothing out: the pool has 64"):
        limit_pool(tiny_examples(64, seed=0), size, seed=0)


@pytest.mark.parametrize(("held", "num_held"), [(0.25, 16), (12, 12)])
def test_a_part_is_split_off_class_by_class(held, num_held):
    kept, out = split_off(tiny_examples(64, seed=0), held, seed=3)
    assert (len(kept), len(out)) == (64 - num_held, num_held)
    assert out.labels.bincount().tolist() == [num_held // 4] * 4
    assert sorted(kept.indices.tolist() + out.indices.tolist()) == list(range(64))


def test_nothing_is_split_off_at_zero():
    examples = tiny_examples(64, seed=0)
    assert split_off(examples, 0.0, seed=3) == (examples, None)


def test_a_part_of_a_part_keeps_the_first_indices_and_groups():
    examples = replace(tiny_examples(64, seed=0), groups=torch.arange(64) // 8)
    part = subset(subset(examples, torch.arange(10, 30)), torch.tensor([3, 0]))
    assert part.indices.tolist() == [13, 10]
    assert part.groups.tolist() == [1, 1]
    assert torch.equal(part.images, examples.images[[13, 10]])


def test_a_part_of_a_reader_has_the_identities_of_its_own_images():
    examples = tiny_examples(8, seed=0)
    part = subset(streamed(examples), torch.tensor([5, 2]))
    assert list(part.images.identities()) == [examples.images[p].numpy().tobytes() for p in (5, 2)]


def test_a_class_too_small_to_share_out_is_refused():
    with pytest.raises(DataError, match="cannot hold out 2 of 5 examples class by class"):
        stratified_holdout(torch.tensor([0, 0, 0, 0, 1]), 2, seed=0)


# --- datasets


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"tests": {}}, "dataset 'x' has no test set"),
        ({"class_names": ("a", "b", "c")}, "the pool of dataset 'x' has label 3, but there are 3 classes"),
        (
            {"tuning": replace(tiny_examples(4, seed=0), labels=torch.tensor([0, -1, 0, 0]))},
            "the tuning of dataset 'x' has label -1, but there are 4 classes",
        ),
        (
            {"tests": {"odd": replace(tiny_examples(4, seed=0), labels=torch.zeros(5, dtype=torch.int64))}},
            "the odd of dataset 'x' has 4 images for 5 labels",
        ),
        ({"pool": tiny_examples(0, seed=0)}, "the pool of dataset 'x' is empty"),
    ],
)
def test_a_dataset_that_makes_no_sense_is_refused(changes, sentence):
    with pytest.raises(DataError) as caught:
        check_dataset(replace(tiny_dataset(), **changes), name="x")
    assert str(caught.value) == sentence


def eight(**changes):
    """Eight examples with all members, some of them changed."""
    whole = {
        "groups": torch.arange(8) // 4,
        "indices": torch.arange(8),
        "clean_labels": torch.arange(8) % 4,
    }
    return replace(tiny_examples(8, seed=0), **{**whole, **changes})


IMAGES = tiny_examples(8, seed=0).images
HALVES = torch.arange(8) // 4


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"images": IMAGES.float()}, "has images of dtype float32, not uint8"),
        ({"images": IMAGES[:, :1]}, "has images of shape (8, 1, 8, 8), not (N, 3, H, W)"),
        ({"images": IMAGES.permute(0, 2, 3, 1)}, "has images of shape (8, 8, 8, 3), not (N, 3, H, W)"),
        ({"images": IMAGES[:, 0]}, "has images of shape (8, 8, 8), not (N, 3, H, W)"),
        ({"images": IMAGES[:, :, :0]}, "has images of shape (8, 3, 0, 8), not (N, 3, H, W)"),
        ({"images": IMAGES[:5]}, "has 5 images for 8 labels"),
        ({"images": list(IMAGES)}, "has list for images, no tensor and no ImageReader"),
        ({"images": ListReader(IMAGES[:5])}, "has 5 images for 8 labels"),
        ({"images": ListReader(IMAGES.float())}, "has images of dtype float32, not uint8"),
        ({"images": ListReader(IMAGES[:, 0])}, "has images of shape (8, 8), not (3, H, W)"),
        ({"images": ListReader(IMAGES.numpy())}, "reads its first image as ndarray, not as a tensor"),
        ({"labels": (torch.arange(8) % 4).int()}, "has labels of dtype int32, not int64"),
        ({"labels": torch.zeros(8, 1).long()}, "has labels of shape (8, 1), not (N,)"),
        ({"labels": [0] * 8}, "has list for labels, not a tensor"),
        ({"labels": torch.arange(8)}, "has label 7, but there are 4 classes"),
        ({"groups": torch.arange(3)}, "has 3 groups for 8 labels"),
        ({"groups": HALVES.float()}, "has groups of dtype float32, not int64"),
        ({"groups": HALVES[:, None]}, "has groups of shape (8, 1), not (N,)"),
        ({"groups": HALVES + 1}, "has group 2, but there are 2 group_names"),
        ({"groups": HALVES - 2}, "has group -2; groups start at {lowest} there"),
        ({"indices": torch.arange(9)}, "has 9 indices for 8 labels"),
        ({"indices": torch.arange(8.0)}, "has indices of dtype float32, not int64"),
        ({"indices": HALVES * 7}, "has index 0 twice"),
        ({"clean_labels": HALVES[:7]}, "has 7 clean_labels for 8 labels"),
        ({"clean_labels": HALVES.bool()}, "has clean_labels of dtype bool, not int64"),
        ({"clean_labels": HALVES + 4}, "has clean label 5, but there are 4 classes"),
    ],
)
@pytest.mark.parametrize("part", ["pool", "odd", "tuning"])
def test_a_member_that_makes_no_sense_is_named(changes, what, part):
    examples, whole = eight(**changes), replace(tiny_dataset(), group_names=("low", "high"))
    check_dataset(replace(whole, pool=eight(), tests={"odd": eight()}, tuning=eight()), name="x")
    parts = {"odd": {"tests": {"fine": eight(), "odd": examples}}}.get(part, {part: examples})
    with pytest.raises(DataError) as caught:
        check_dataset(replace(whole, **parts), name="x")
    lowest = 0 if part == "pool" else -1
    assert str(caught.value) == f"the {part} of dataset 'x' {what.format(lowest=lowest)}"


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"class_names": ()}, "has no class_names"),
        ({"class_names": tuple("abca")}, "has class_names with 'a' twice"),
        ({"class_names": ["a"]}, "has class_names ['a'], which is no tuple of non-empty strings"),
        ({"class_names": ("a", "")}, "has class_names ('a', ''), which is no tuple of non-empty strings"),
        ({"class_names": (0, 1)}, "has class_names (0, 1), which is no tuple of non-empty strings"),
        ({"group_names": ("g", "g")}, "has group_names with 'g' twice"),
        ({"mean": (0.5, 0.5)}, "has mean (0.5, 0.5), which is not three finite numbers"),
        ({"mean": 0.5}, "has mean 0.5, which is not three finite numbers"),
        ({"mean": (0.5, 0.5, math.nan)}, "has mean (0.5, 0.5, nan), which is not three finite numbers"),
        ({"std": (0.5, 0.0, 0.5)}, "has std (0.5, 0.0, 0.5), which is not three positive numbers"),
        ({"std": (0.5, math.inf, 0.5)}, "has std (0.5, inf, 0.5), which is not three positive numbers"),
        ({"augment": "flip"}, "has augment 'flip'; it can be none, crop, crop-flip"),
        ({"tests": [tiny_examples(8, seed=0)]}, "has no test set"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_whole_dataset_is_named(changes, what):
    with pytest.raises(DataError) as caught:
        check_dataset(replace(tiny_dataset(), **changes), name="x")
    assert str(caught.value) == f"dataset 'x' {what}"


def test_a_part_that_is_no_examples_is_named():
    with pytest.raises(DataError, match=r"^the pool of dataset 'x' is tuple, not Examples$"):
        check_dataset(replace(tiny_dataset(), pool=(IMAGES, HALVES)), name="x")


def test_a_loaded_dataset_names_its_test_sets_and_indices(registry):
    tuned = replace(tiny_dataset(), tuning=tiny_examples(8, seed=2))
    spec = DatasetSpec(name="tuned", description="", load=lambda _request: tuned)
    registry.datasets.entries.append(Entry(spec, "test"))
    loaded = load_dataset(DataSettings(dataset="tuned", limit_train=20), registry)
    assert list(loaded.test_sets()) == ["test", "tuning"]
    assert loaded.num_classes == 4
    assert torch.equal(loaded.pool_indices, loaded.dataset.pool.indices)
    assert len(loaded.pool_indices) == 20


@pytest.mark.parametrize(
    ("dataset", "sentence"),
    [
        ("folder", "dataset 'folder' needs an argument: --dataset folder:DIR"),
        ("tiny:x", "dataset 'tiny' takes no argument; got 'x' after the colon"),
    ],
)
def test_a_dataset_argument_is_checked(registry, dataset, sentence):
    with pytest.raises(ConfigError) as caught:
        load_dataset(DataSettings(dataset=dataset), registry)
    assert str(caught.value) == sentence
