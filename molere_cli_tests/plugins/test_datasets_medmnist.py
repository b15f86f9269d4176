"""MedMNIST: its npz files pixel for pixel, downloads that are whole or not there, and one sentence else."""

from __future__ import annotations

import hashlib
import pickle
import urllib.error
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from molere_medmnist.kinds import KINDS

from molere_cli.config.run_config import RunConfig
from molere_cli.data.source import load_dataset
from molere_cli.foundation.errors import ConfigError, DataError
from molere_cli.registry.registry import load_plugins

REGISTRY = load_plugins()
NUMBERS = {"train": 12, "val": 5, "test": 7}


def arrays_of(*, size=28, colour=True, num_classes=2) -> dict[str, np.ndarray]:
    """What a file holds: images uint8 (N, S, S, 3) or (N, S, S), labels (N, 1)."""
    rng = np.random.default_rng(size)
    arrays = {}
    for part, number in NUMBERS.items():
        shape = (number, size, size, 3) if colour else (number, size, size)
        arrays[f"{part}_images"] = rng.integers(0, 256, shape, dtype=np.uint8)
        arrays[f"{part}_labels"] = (np.arange(number, dtype=np.uint8) % num_classes)[:, None]
    return arrays


def write(root, name, arrays) -> Path:
    path = root / "medmnist" / f"{name}.npz"
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, **arrays)
    return path


def load(name, root, *, download=False, **options):
    config = RunConfig.of(
        dataset=f"medmnist:{name}",
        data_dir=root,
        download=download,
        dataset_option={key: str(value) for key, value in options.items()},
    )
    return load_dataset(config.data, REGISTRY)


def sentence_of(name, root, **options) -> str:
    with pytest.raises(DataError) as caught:
        load(name, root, **options)
    sentence = str(caught.value)
    assert "\n" not in sentence
    return sentence


@pytest.mark.parametrize("size", [28, 64, 128, 224])
@pytest.mark.parametrize("colour", [True, False])
def test_images_are_read_pixel_for_pixel(tmp_path, size, colour):
    arrays = arrays_of(size=size, colour=colour)
    write(tmp_path, "pathmnist" if size == 28 else f"pathmnist_{size}", arrays)
    dataset = load("pathmnist", tmp_path, size=size).dataset
    parts = {"train": dataset.pool, "val": dataset.tuning, "test": dataset.tests["test"]}
    for part, examples in parts.items():
        assert examples.images.dtype == torch.uint8
        assert examples.labels.dtype == torch.int64
        images = arrays[f"{part}_images"]
        expected = images.transpose(0, 3, 1, 2) if colour else np.repeat(images[:, None], 3, axis=1)
        assert np.array_equal(examples.images.numpy(), expected)
        assert examples.labels.tolist() == arrays[f"{part}_labels"][:, 0].tolist()


def test_the_size_is_28_unless_said_otherwise(tmp_path):
    write(tmp_path, "bloodmnist", arrays_of(size=28))
    write(tmp_path, "bloodmnist_64", arrays_of(size=64))
    assert load("bloodmnist", tmp_path).dataset.pool.images.shape[-2:] == (28, 28)


@pytest.mark.parametrize("name", KINDS)
def test_every_name_has_its_classes_and_mirrors_only_what_has_no_sides(tmp_path, name):
    num_classes = len(KINDS[name].class_names)
    write(tmp_path, name, arrays_of(num_classes=num_classes))
    dataset = load(name, tmp_path).dataset
    assert len(set(dataset.class_names)) == num_classes == NUM_CLASSES[name]
    assert dataset.augment == ("crop" if "kidney-left" in dataset.class_names else "crop-flip")


NUM_CLASSES = {
    "pathmnist": 9,
    "dermamnist": 7,
    "octmnist": 4,
    "pneumoniamnist": 2,
    "retinamnist": 5,
    "breastmnist": 2,
    "bloodmnist": 8,
    "tissuemnist": 8,
    "organamnist": 11,
    "organcmnist": 11,
    "organsmnist": 11,
}


def test_no_two_files_have_the_same_sum():
    sums = [md5 for kind in KINDS.values() for md5 in kind.md5.values()]
    assert len(set(sums)) == len(sums) == 4 * len(NUM_CLASSES)
    assert all(len(md5) == 32 and set(md5) <= set("0123456789abcdef") for md5 in sums)


# --- downloads


@pytest.fixture
def zenodo(monkeypatch):
    """What is behind each URL; asking for anything else fails as without a network."""
    behind: dict[str, bytes] = {}

    class Response:
        def __init__(self, content, url):
            self.content = content
            self.length = len(content)
            self.headers = {"Content-Length": str(len(content))}
            self.url = url

        def __enter__(self):
            return self

        def __exit__(self, *_):
            return None

        def read(self, size):
            content, self.content = self.content[:size], self.content[size:]
            return content

    def urlopen(request, *_arguments, **_options):
        if request.full_url not in behind:
            raise urllib.error.URLError("no route to host")
        return Response(behind[request.full_url], request.full_url)

    monkeypatch.setattr("urllib.request.urlopen", urlopen)
    return behind


URL = "https://zenodo.org/records/10519652/files/breastmnist_64.npz?download=1"


def test_a_missing_file_says_where_it_belongs_and_where_it_comes_from(tmp_path):
    assert sentence_of("breastmnist", tmp_path, size=64) == (
        f"there is no file {tmp_path / 'medmnist' / 'breastmnist_64.npz'}; --download fetches it from {URL}, "
        "--data-dir looks elsewhere"
    )
    assert list(tmp_path.iterdir()) == []


def test_a_download_is_checked_and_kept(tmp_path, zenodo, monkeypatch):
    content = write(tmp_path / "elsewhere", "breastmnist_64", arrays_of(size=64)).read_bytes()
    zenodo[URL] = content
    monkeypatch.setitem(KINDS["breastmnist"].md5, 64, hashlib.md5(content).hexdigest())  # noqa: S324 - theirs
    assert len(load("breastmnist", tmp_path, size=64, download=True).dataset.pool) == NUMBERS["train"]
    assert [path.name for path in (tmp_path / "medmnist").iterdir()] == ["breastmnist_64.npz"]
    zenodo.clear()
    assert len(load("breastmnist", tmp_path, size=64, download=True).dataset.pool) == NUMBERS["train"]


@pytest.mark.parametrize("content", [None, b"not what it should be"])
def test_a_download_that_fails_or_has_another_sum_leaves_nothing_behind(tmp_path, zenodo, content):
    if content is not None:
        zenodo[URL] = content
    path = tmp_path / "medmnist" / "breastmnist_64.npz"
    sentence = sentence_of("breastmnist", tmp_path, size=64, download=True)
    assert sentence.startswith(f"{URL} could not be downloaded to {path}: ")
    assert ("no route to host" if content is None else "corrupted") in sentence
    assert list(path.parent.iterdir()) == []


# --- what is wrong with it


def test_several_labels_an_image_are_refused(tmp_path):
    assert sentence_of("chestmnist", tmp_path) == (
        "chestmnist has several labels an image, which no method here can train on"
    )


@pytest.mark.parametrize(
    ("name", "hint"),
    [("pathminst", "did you mean 'pathmnist'?"), ("x", "there are pathmnist, dermamnist, ")],
)
def test_an_unknown_name_is_named(tmp_path, name, hint):
    assert sentence_of(name, tmp_path).startswith(f"MedMNIST has no {name!r} of two dimensions; {hint}")


def test_an_unknown_size_is_a_configuration_error(tmp_path):
    with pytest.raises(ConfigError, match=r"dataset 'medmnist': size = '32': must be 28, 64, 128 or 224"):
        load("pathmnist", tmp_path, size=32)


def test_the_name_must_be_given(tmp_path):
    with pytest.raises(ConfigError, match="--dataset medmnist:NAME"):
        load("", tmp_path)


@pytest.mark.parametrize(
    "content", [b"", b"no npz at all", None], ids=["empty", "something else", "cut short"]
)
def test_a_file_that_is_no_archive_is_named(tmp_path, content):
    path = write(tmp_path, "pathmnist", arrays_of())
    path.write_bytes(path.read_bytes()[:-200] if content is None else content)
    assert sentence_of("pathmnist", tmp_path) == (
        f"cannot read {path}: it is no npz archive, or has been cut short"
    )


def test_a_damaged_array_is_named(tmp_path):
    path = write(tmp_path, "pathmnist", arrays_of())
    content = path.read_bytes()
    path.write_bytes(content[:3000] + bytes(800) + content[3800:])
    sentence = sentence_of("pathmnist", tmp_path)
    assert sentence.startswith(f"cannot read {path}: ")
    assert "train_images.npy" in sentence or "decompressing" in sentence


def test_a_single_array_is_no_npz(tmp_path):
    path = write(tmp_path, "pathmnist", arrays_of())
    with path.open("wb") as file:
        np.save(file, np.zeros(3))
    assert sentence_of("pathmnist", tmp_path).startswith(f"cannot read {path}: ")


class Trap:
    def __reduce__(self):
        return pytest.fail, ("unpickled",)


@pytest.mark.parametrize("whole", [True, False])
def test_what_is_pickled_is_not_read(tmp_path, whole):
    arrays = arrays_of()
    path = write(tmp_path, "pathmnist", arrays)
    if whole:
        path.write_bytes(pickle.dumps(Trap()))
    else:
        write(tmp_path, "pathmnist", {**arrays, "val_labels": np.array([[Trap()]] * 5, dtype=object)})
    assert sentence_of("pathmnist", tmp_path).startswith(f"cannot read {path}: ")


@pytest.mark.parametrize(
    ("key", "array", "what"),
    [
        ("test_images", None, "test_images is not a file in the archive"),
        (
            "val_images",
            np.zeros((5, 28, 27), np.uint8),
            "its images are uint8 of shape (5, 28, 27), not of 28 x 28 pixels",
        ),
        (
            "val_images",
            np.zeros((5, 28, 28), np.float32),
            "its images are float32 of shape (5, 28, 28), not of 28 x 28 pixels",
        ),
        (
            "test_labels",
            np.zeros((6, 1), np.uint8),
            "its labels are uint8 of shape (6, 1), not one for each of 7 images",
        ),
        (
            "test_labels",
            np.zeros((7, 14), np.uint8),
            "its labels are uint8 of shape (7, 14), not one for each of 7 images",
        ),
        ("train_labels", np.full((12, 1), 9, np.uint8), "its labels go from 9 to 9, not 0 to 8"),
    ],
)
def test_an_array_that_does_not_fit_is_named(tmp_path, key, array, what):
    arrays = arrays_of()
    if array is None:
        del arrays[key]
    else:
        arrays[key] = array
    path = write(tmp_path, "pathmnist", arrays)
    assert sentence_of("pathmnist", tmp_path) == f"cannot read {path}: {what}"


def test_a_file_of_another_size_is_refused(tmp_path):
    path = write(tmp_path, "pathmnist_64", arrays_of(size=28))
    assert sentence_of("pathmnist", tmp_path, size=64).endswith("not of 64 x 64 pixels")
    assert zipfile.is_zipfile(path)
