"""torchvision's other datasets, each on a small fixture in its own layout on disk."""

from __future__ import annotations

import json
import pickle
import struct
from dataclasses import dataclass

import numpy as np
import pytest
import scipy.io
import torch
from PIL import Image
from torchvision import datasets

from molere_cli.config.run_config import RunConfig
from molere_cli.data.source import load_dataset
from molere_cli.foundation.errors import DataError
from molere_cli.registry.registry import load_plugins

REGISTRY = load_plugins()
NUM_TRAIN, NUM_TEST = 12, 5
SMALL = ("svhn", "stl10", "mnist", "fashion-mnist")
STREAMED = ("pets", "pets-cats-vs-dogs", "stanford-cars", "aircraft", "flowers102", "food101")


def load(name, root, **changes):
    options = {key: str(value) for key, value in changes.pop("options", {}).items()}
    return load_dataset(
        RunConfig.of(dataset=name, data_dir=root, dataset_option=options, **changes).data, REGISTRY
    )


def sentence_of(call) -> str:
    with pytest.raises(DataError) as caught:
        call()
    sentence = str(caught.value)
    assert "\n" not in sentence
    return sentence


# --- small images in memory


def random_images(size, shape, *, seed) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (size, *shape), dtype=np.uint8)


@dataclass
class Part:
    """What was written: images uint8 (N, 3, H, W), labels (N,)."""

    images: np.ndarray
    labels: np.ndarray


def write_idx(path, array) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    head = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
    path.write_bytes(head + array.tobytes())


def write_mnist(root, folder) -> dict[str, Part]:
    parts = {}
    for part, (stem, size) in {"train": ("train", NUM_TRAIN), "test": ("t10k", NUM_TEST)}.items():
        grey = random_images(size, (28, 28), seed=size)
        labels = (np.arange(size) % 3).astype(np.uint8)
        write_idx(root / folder / "raw" / f"{stem}-images-idx3-ubyte", grey)
        write_idx(root / folder / "raw" / f"{stem}-labels-idx1-ubyte", labels)
        parts[part] = Part(np.repeat(grey[:, None], 3, axis=1), labels)
    return parts


def write_svhn(root) -> dict[str, Part]:
    """(H, W, 3, N), and the digit 0 is written as 10."""
    parts = {}
    for part, size in (("train", NUM_TRAIN), ("test", NUM_TEST)):
        images, digits = random_images(size, (3, 32, 32), seed=size), np.arange(size) % 3
        written = np.where(digits == 0, 10, digits)[:, None]
        scipy.io.savemat(
            root / f"{part}_32x32.mat", {"X": images.transpose(2, 3, 1, 0), "y": written.astype(np.uint8)}
        )
        parts[part] = Part(images, digits)
    return parts


def write_stl10(root) -> dict[str, Part]:
    """Raw bytes, column by column, labels from 1."""
    folder = root / "stl10_binary"
    folder.mkdir()
    parts = {}
    for part, size in (("train", NUM_TRAIN), ("test", NUM_TEST)):
        images, labels = random_images(size, (3, 96, 96), seed=size), np.arange(size) % 3
        (folder / f"{part}_X.bin").write_bytes(images.transpose(0, 1, 3, 2).tobytes())
        (folder / f"{part}_y.bin").write_bytes((labels + 1).astype(np.uint8).tobytes())
        parts[part] = Part(images, labels)
    return parts


def write_small(name, root) -> dict[str, Part]:
    if name == "svhn":
        return write_svhn(root)
    return write_stl10(root) if name == "stl10" else write_mnist(root, small_folder(name))


def small_folder(name) -> str:
    return {"svhn": ".", "stl10": "stl10_binary", "mnist": "MNIST", "fashion-mnist": "FashionMNIST"}[name]


@pytest.fixture
def any_checksum(monkeypatch):
    """The fixtures are not the files whose checksums torchvision knows."""
    for module in (datasets.svhn, datasets.stl10, datasets.flowers102):
        monkeypatch.setattr(module, "check_integrity", lambda _path, _md5=None: True)


@pytest.mark.parametrize("name", SMALL)
def test_small_images_are_read_pixel_for_pixel(name, tmp_path, any_checksum):
    written = write_small(name, tmp_path)
    dataset = load(name, tmp_path).dataset
    for examples, part in ((dataset.pool, written["train"]), (dataset.tests["test"], written["test"])):
        assert examples.images.dtype == torch.uint8
        assert examples.labels.dtype == torch.int64
        assert np.array_equal(examples.images.numpy(), part.images)
        assert examples.labels.tolist() == part.labels.tolist()
    assert len(dataset.class_names) == 10
    assert dataset.tuning is None
    flips = {"stl10", "fashion-mnist"}
    assert dataset.augment == ("crop-flip" if name in flips else "crop")


@pytest.mark.parametrize("name", SMALL)
def test_a_tuning_set_is_held_out_of_small_images(name, tmp_path, any_checksum):
    write_small(name, tmp_path)
    dataset = load(name, tmp_path, options={"tuning": 0.25}).dataset
    assert (len(dataset.pool), len(dataset.tuning), len(dataset.tests["test"])) == (9, 3, NUM_TEST)
    assert sorted(dataset.pool.indices.tolist() + dataset.tuning.indices.tolist()) == list(range(NUM_TRAIN))


TITLES = {
    "svhn": "SVHN",
    "stl10": "STL-10",
    "mnist": "MNIST",
    "fashion-mnist": "Fashion-MNIST",
    "pets": "Oxford-IIIT Pet",
    "pets-cats-vs-dogs": "Oxford-IIIT Pet",
    "aircraft": "FGVC-Aircraft",
    "flowers102": "Flowers-102",
    "food101": "Food-101",
    "eurosat": "EuroSAT",
}
FOLDERS = {
    "pets": "oxford-iiit-pet",
    "pets-cats-vs-dogs": "oxford-iiit-pet",
    "stanford-cars": "stanford_cars",
    "aircraft": "fgvc-aircraft-2013b",
    "flowers102": "flowers-102",
    "food101": "food-101",
    "eurosat": "eurosat",
    **{name: small_folder(name) for name in SMALL},
}
WITH_CHECKSUM = {"svhn", "stl10", "flowers102"}


@pytest.mark.parametrize("name", TITLES)
def test_what_is_missing_says_where_it_was_looked_for_and_what_fetches_it(name, tmp_path):
    damaged = ", or is damaged there" if name in WITH_CHECKSUM else ""
    assert sentence_of(lambda: load(name, tmp_path)) == (
        f"{TITLES[name]} is not in {tmp_path / FOLDERS[name]}{damaged}; --download fetches it, "
        "--data-dir looks elsewhere"
    )


@pytest.mark.parametrize(
    ("name", "missing"),
    [
        ("stanford-cars", "cars_train/, cars_test/, devkit/ and cars_test_annos_withlabels.mat"),
        ("imagenet", "train/WNID/*.JPEG and val/WNID/*.JPEG"),
    ],
)
@pytest.mark.parametrize("download", [False, True])
def test_what_nobody_can_download_says_where_its_files_go(name, missing, download, tmp_path):
    sentence = sentence_of(lambda: load(name, tmp_path, download=download))
    folder = tmp_path / {"stanford-cars": "stanford_cars"}.get(name, name)
    assert f" is not in {folder} and cannot be downloaded; " in sentence
    assert missing in sentence


def test_a_failed_download_is_one_sentence(tmp_path, monkeypatch):
    def unreachable(*_arguments, **_options):
        raise OSError("<urlopen error no route to host>\nand more of it")

    monkeypatch.setattr(datasets.oxford_iiit_pet, "download_and_extract_archive", unreachable)
    assert sentence_of(lambda: load("pets", tmp_path, download=True)) == (
        f"Oxford-IIIT Pet could not be downloaded to {tmp_path / 'oxford-iiit-pet'}: "
        "<urlopen error no route to host>"
    )


def test_what_is_there_is_not_downloaded_again(tmp_path, monkeypatch):
    def never(*_arguments, **_options):
        raise AssertionError("downloaded")

    monkeypatch.setattr(datasets.mnist, "download_and_extract_archive", never)
    write_mnist(tmp_path, "MNIST")
    assert len(load("mnist", tmp_path, download=True).dataset.pool) == NUM_TRAIN


@pytest.mark.parametrize("name", ["svhn", "stl10"])
def test_a_file_that_fails_its_checksum_is_never_read(name, tmp_path):
    write_small(name, tmp_path)
    assert sentence_of(lambda: load(name, tmp_path)).startswith(
        f"{TITLES[name]} is not in {tmp_path / small_folder(name)}, or is damaged there; "
    )


def test_a_truncated_idx_file_is_one_sentence(tmp_path):
    write_mnist(tmp_path, "MNIST")
    broken = tmp_path / "MNIST" / "raw" / "t10k-images-idx3-ubyte"
    broken.write_bytes(broken.read_bytes()[:-100])
    assert sentence_of(lambda: load("mnist", tmp_path)).startswith(
        f"MNIST in {tmp_path / 'MNIST'} cannot be read: "
    )


def test_images_and_labels_of_different_number_are_refused(tmp_path):
    write_mnist(tmp_path, "MNIST")
    write_idx(tmp_path / "MNIST" / "raw" / "t10k-labels-idx1-ubyte", np.zeros(4, np.uint8))
    assert sentence_of(lambda: load("mnist", tmp_path)) == (
        f"MNIST in {tmp_path / 'MNIST'} cannot be read: ValueError {NUM_TEST} images for 4 labels"
    )


class Trap:
    def __reduce__(self):
        return pytest.fail, ("unpickled",)


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
def test_what_an_old_torchvision_pickled_is_not_read(name, tmp_path):
    write_small(name, tmp_path)
    folder = tmp_path / small_folder(name) / "processed"
    folder.mkdir()
    for part in ("training.pt", "test.pt"):
        (folder / part).write_bytes(pickle.dumps(Trap()))
    assert sentence_of(lambda: load(name, tmp_path)) == (
        f"{folder / 'test.pt'} is {TITLES[name]} pickled by an old torchvision, which is never read; "
        f"remove {folder}"
    )


# --- photographs, streamed


def draw(path, number) -> None:
    """Write the image of that number: one colour, so that JPEG keeps it, and a size that tells it too."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (16 + number, 16), (number * 12 % 256, 40, 90)).save(path, quality=95)


BREEDS = {"Abyssinian": 1, "Bengal": 1, "beagle": 2}  # name -> species: 1 cat, 2 dog


def write_pets(root) -> dict[str, list[int]]:
    folder, number, labels = root / "oxford-iiit-pet", 0, {}
    (folder / "annotations").mkdir(parents=True)
    for part, size in (("trainval", NUM_TRAIN), ("test", NUM_TEST)):
        lines, labels["train" if part == "trainval" else "test"] = [], (written := [])
        for member in range(size):
            breed = member % 3
            name = list(BREEDS)[breed]
            draw(folder / "images" / f"{name}_{number}.jpg", number)
            lines.append(f"{name}_{number} {breed + 1} {BREEDS[name]} 1\n")
            written.append(breed)
            number += 1
        (folder / "annotations" / f"{part}.txt").write_text("".join(lines))
    return labels


def write_cars(root) -> dict[str, list[int]]:
    folder, number, labels = root / "stanford_cars", 0, {}
    (folder / "devkit").mkdir(parents=True)
    names = np.array(["Audi A5", "BMW M3", "Fiat 500"], dtype=object)
    scipy.io.savemat(folder / "devkit" / "cars_meta.mat", {"class_names": names})
    files = {
        "train": folder / "devkit" / "cars_train_annos.mat",
        "test": folder / "cars_test_annos_withlabels.mat",
    }
    for part, size in (("train", NUM_TRAIN), ("test", NUM_TEST)):
        rows = np.zeros((1, size), dtype=[("bbox_x1", "O"), ("class", "O"), ("fname", "O")])
        for member in range(size):
            rows[0, member] = (7, np.uint8(member % 3 + 1), f"{member + 1:05}.jpg")
            draw(folder / f"cars_{part}" / f"{member + 1:05}.jpg", number)
            number += 1
        scipy.io.savemat(files[part], {"annotations": rows})
        labels[part] = [member % 3 for member in range(size)]
    return labels


def write_aircraft(root) -> dict[str, list[int]]:
    folder, number, labels = root / "fgvc-aircraft-2013b" / "data", 0, {}
    folder.mkdir(parents=True)
    variants = ["A330-200", "DC-3", "F/A-18"]
    (folder / "variants.txt").write_text("".join(f"{name}\n" for name in variants))
    for part, size in (("trainval", NUM_TRAIN), ("test", NUM_TEST)):
        lines = []
        for member in range(size):
            lines.append(f"{number:07} {variants[member % 3]}\n")
            draw(folder / "images" / f"{number:07}.jpg", number)
            number += 1
        (folder / f"images_variant_{part}.txt").write_text("".join(lines))
        labels["test" if part == "test" else "train"] = [member % 3 for member in range(size)]
    return labels


def write_flowers(root) -> dict[str, list[int]]:
    """The ids of validation come before those of training, and the test's before both."""
    folder, total = root / "flowers-102", NUM_TRAIN + NUM_TEST
    ids = np.arange(1, total + 1)
    label_of = ids % 3
    folder.mkdir(parents=True)
    scipy.io.savemat(folder / "imagelabels.mat", {"labels": label_of[None] + 1})
    test, valid, train = ids[:NUM_TEST], ids[NUM_TEST : NUM_TEST + 4], ids[NUM_TEST + 4 :]
    scipy.io.savemat(folder / "setid.mat", {"trnid": train[None], "valid": valid[None], "tstid": test[None]})
    for number, image_id in enumerate([*train, *valid, *test]):
        draw(folder / "jpg" / f"image_{image_id:05}.jpg", number)
    of = dict(zip(ids.tolist(), label_of.tolist(), strict=True))
    return {"train": [of[i] for i in [*train, *valid]], "test": [of[i] for i in test]}


def write_food(root) -> dict[str, list[int]]:
    """Classes in the file in another order than theirs."""
    folder, number, labels = root / "food-101", 0, {}
    (folder / "meta").mkdir(parents=True)
    for part, size in (("train", NUM_TRAIN), ("test", NUM_TEST)):
        listed: dict[str, list[str]] = {"ramen": [], "gyoza": [], "baklava": []}
        for member in range(size):
            name = list(listed)[member * 3 // size]
            listed[name].append(f"{name}/{number}")
            draw(folder / "images" / name / f"{number}.jpg", number)
            number += 1
        (folder / "meta" / f"{part}.json").write_text(json.dumps(listed))
        labels[part] = [2 - member * 3 // size for member in range(size)]
    return labels


WRITERS = {
    "pets": write_pets,
    "pets-cats-vs-dogs": write_pets,
    "stanford-cars": write_cars,
    "aircraft": write_aircraft,
    "flowers102": write_flowers,
    "food101": write_food,
}
CLASSES = {
    "pets": ("Abyssinian", "Bengal", "Beagle"),
    "pets-cats-vs-dogs": ("Cat", "Dog"),
    "stanford-cars": ("Audi A5", "BMW M3", "Fiat 500"),
    "aircraft": ("A330-200", "DC-3", "F/A-18"),
    "food101": ("baklava", "gyoza", "ramen"),
}


def numbers_of(examples) -> list[int]:
    """Which images these are, by their width; their colour must agree."""
    images = [examples.images.read(position) for position in range(len(examples))]
    numbers = [image.shape[2] - 16 for image in images]
    for number, image in zip(numbers, images, strict=True):
        assert image.dtype == torch.uint8 and image.shape[:2] == (3, 16)
        assert abs(int(image[0, 8, 8]) - number * 12 % 256) <= 4
    return numbers


@pytest.mark.parametrize("name", STREAMED)
def test_photographs_are_streamed_with_their_labels(name, tmp_path, any_checksum):
    labels = WRITERS[name](tmp_path)
    dataset = load(name, tmp_path).dataset
    pool, test = dataset.pool, dataset.tests["test"]
    assert numbers_of(pool) == list(range(NUM_TRAIN))
    assert numbers_of(test) == list(range(NUM_TRAIN, NUM_TRAIN + NUM_TEST))
    if name == "pets-cats-vs-dogs":
        for examples, part in ((pool, "train"), (test, "test")):
            assert examples.groups.tolist() == labels[part]
            assert examples.labels.tolist() == [label // 2 for label in labels[part]]
        assert dataset.group_names == CLASSES["pets"]
    else:
        assert pool.labels.tolist() == labels["train"]
        assert test.labels.tolist() == labels["test"]
        assert pool.groups is None
    if name != "flowers102":
        assert dataset.class_names == CLASSES[name]


def test_flowers_have_102_classes(tmp_path, any_checksum):
    write_flowers(tmp_path)
    assert len(load("flowers102", tmp_path).dataset.class_names) == 102


@pytest.mark.parametrize("name", STREAMED)
def test_a_tuning_set_is_held_out_of_photographs(name, tmp_path, any_checksum):
    WRITERS[name](tmp_path)
    dataset = load(name, tmp_path, options={"tuning": 0.25}).dataset
    assert (len(dataset.pool), len(dataset.tuning)) == (9, 3)
    assert sorted(numbers_of(dataset.pool) + numbers_of(dataset.tuning)) == list(range(NUM_TRAIN))


@pytest.mark.parametrize("name", STREAMED)
def test_the_fingerprint_does_not_know_where_the_data_lies(name, tmp_path, any_checksum):
    for place in ("here", "there"):
        (tmp_path / place).mkdir()
        WRITERS[name](tmp_path / place)
    here, there = (load(name, tmp_path / place).fingerprint for place in ("here", "there"))
    assert here == there


@pytest.mark.parametrize("name", STREAMED)
def test_a_truncated_photograph_is_named(name, tmp_path, any_checksum):
    WRITERS[name](tmp_path)
    pool = load(name, tmp_path).dataset.pool
    broken = sorted((tmp_path / FOLDERS[name]).rglob("*.jpg"))
    for path in broken:
        path.write_bytes(path.read_bytes()[:300])
    sentence = sentence_of(lambda: pool.images.read(0))
    assert sentence.startswith("cannot read the image ")
    assert any(f" {path}: " in sentence for path in broken)


@pytest.mark.parametrize("name", STREAMED)
def test_a_photograph_that_is_listed_but_not_there_is_named(name, tmp_path, any_checksum):
    WRITERS[name](tmp_path)
    photographs = sorted((tmp_path / FOLDERS[name]).rglob("*.jpg"))
    for path in photographs:
        path.unlink()
    sentence = sentence_of(lambda: load(name, tmp_path))
    assert f"{len(photographs)} of {len(photographs)} images cannot be read: " in sentence
    assert all(f" {path}" in sentence for path in photographs)
    assert sentence.endswith(": No such file or directory")


@pytest.mark.parametrize(
    ("name", "file", "text"),
    [
        ("pets", "oxford-iiit-pet/annotations/test.txt", "beagle_3 three 2 1\n"),
        ("aircraft", "fgvc-aircraft-2013b/data/images_variant_test.txt", "0000001 Concorde\n"),
        ("food101", "food-101/meta/test.json", "{"),
        ("stanford-cars", "stanford_cars/devkit/cars_train_annos.mat", "no .mat"),
    ],
)
def test_a_damaged_list_is_one_sentence(name, file, text, tmp_path):
    WRITERS[name](tmp_path)
    (tmp_path / file).write_text(text)
    start = f"{TITLES.get(name, 'Stanford Cars')} in {tmp_path / FOLDERS[name]} cannot be read: "
    assert sentence_of(lambda: load(name, tmp_path)).startswith(start)


def draw_classes(root, names, count, *, first=0) -> None:
    for number in range(len(names) * count):
        draw(root / names[number // count] / f"{number:03}.jpg", first + number)


def test_eurosat_has_a_seeded_part_of_every_class_held_out(tmp_path):
    draw_classes(tmp_path / "eurosat" / "2750", ("Forest", "River"), 10)
    dataset = load("eurosat", tmp_path, options={"test_fraction": 0.3, "tuning": 0.25}).dataset
    pool, tuning, test = dataset.pool, dataset.tuning, dataset.tests["test"]
    assert dataset.class_names == ("Forest", "River")
    assert test.labels.tolist() == [0] * 3 + [1] * 3
    assert (len(pool), len(tuning)) == (10, 4)
    assert sorted(numbers_of(pool) + numbers_of(tuning) + numbers_of(test)) == list(range(20))
    other = load("eurosat", tmp_path, options={"test_fraction": 0.3}, data_seed=1).dataset
    assert numbers_of(other.tests["test"]) != numbers_of(test)
    assert numbers_of(
        load("eurosat", tmp_path, options={"test_fraction": 0.3}, seed=1).dataset.tests["test"]
    ) == (numbers_of(test))
