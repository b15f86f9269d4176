"""Folders of images and torchvision's CIFAR: what is read, and one sentence for what is broken."""

from __future__ import annotations

import pickle
from typing import ClassVar

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import datasets

from molere_cli.config.run_config import RunConfig
from molere_cli.config.sections import DataSettings
from molere_cli.data.source import load_dataset
from molere_cli.foundation.errors import DataError
from molere_cli.registry.registry import load_plugins

REGISTRY = load_plugins()


def pixels_of(number: int, *, height=6, width=7) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 256, (height, width, 3), dtype=np.uint8)


def draw(path, number: int, **size) -> None:
    """Write the image of that number; the ending says in what format."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels_of(number, **size)).save(path)


def draw_classes(root, counts, *, ending="png") -> None:
    """`counts[name]` images in the folder `root/name`, numbered throughout, of several sizes."""
    number = 0
    for name, count in counts.items():
        for _ in range(count):
            draw(root / name / f"{number:03}.{ending}", number, height=6 + number % 3)
            number += 1


def load(dataset, **changes):
    options = {key: str(value) for key, value in changes.pop("options", {}).items()}
    return load_dataset(
        RunConfig.of(dataset=dataset, dataset_option=options, **changes).data, REGISTRY
    ).dataset


def load_folder(root, **options):
    return load(f"folder:{root}", options=options)


def sentence_of(call) -> str:
    with pytest.raises(DataError) as caught:
        call()
    sentence = str(caught.value)
    assert "\n" not in sentence
    return sentence


def read_all(examples) -> list[torch.Tensor]:
    return [examples.images.read(position) for position in range(len(examples))]


# --- folders


@pytest.mark.parametrize("test_name", ["test", "val"])
def test_a_folder_with_train_and_test_is_read_pixel_for_pixel(tmp_path, test_name):
    draw_classes(tmp_path / "train", {"cat": 3, "dog": 4})
    draw_classes(tmp_path / test_name, {"cat": 1, "dog": 1})
    dataset = load_folder(tmp_path)
    assert dataset.class_names == ("cat", "dog")
    assert dataset.pool.labels.tolist() == [0] * 3 + [1] * 4
    assert dataset.tests["test"].labels.tolist() == [0, 1]
    for number, image in enumerate(read_all(dataset.pool)):
        assert image.dtype == torch.uint8
        assert np.array_equal(image.permute(1, 2, 0).numpy(), pixels_of(number, height=6 + number % 3))


def test_a_folder_of_classes_alone_has_a_part_held_out(tmp_path):
    draw_classes(tmp_path, {"cat": 20, "dog": 20})
    dataset = load_folder(tmp_path, test_fraction=0.25)
    pool, test = dataset.pool, dataset.tests["test"]
    assert (len(pool), len(test)) == (30, 10)
    assert test.labels.bincount().tolist() == [5, 5]
    assert sorted(pool.indices.tolist() + test.indices.tolist()) == list(range(40))
    for index, image in zip(test.indices.tolist(), read_all(test), strict=True):
        assert np.array_equal(image.permute(1, 2, 0).numpy(), pixels_of(index, height=6 + index % 3))


def test_a_tuning_set_is_held_out_of_the_training_images(tmp_path):
    draw_classes(tmp_path / "train", {"cat": 10, "dog": 10})
    draw_classes(tmp_path / "test", {"cat": 1, "dog": 1})
    dataset = load_folder(tmp_path, tuning=0.2)
    assert (len(dataset.pool), len(dataset.tuning), len(dataset.tests["test"])) == (16, 4, 2)
    assert sorted(dataset.pool.indices.tolist() + dataset.tuning.indices.tolist()) == list(range(20))


def test_a_reader_can_be_sent_to_another_process(tmp_path):
    draw_classes(tmp_path, {"cat": 10, "dog": 10})
    images = load_folder(tmp_path).pool.images
    sent = pickle.loads(pickle.dumps(images))  # noqa: S301 - dumped here
    assert list(sent.identities()) == list(images.identities())
    assert all(torch.equal(sent.read(position), images.read(position)) for position in range(len(images)))


def test_a_test_set_may_lack_a_class(tmp_path):
    draw_classes(tmp_path / "train", {"cat": 2, "dog": 2, "eel": 2})
    draw_classes(tmp_path / "test", {"eel": 3})
    assert load_folder(tmp_path).tests["test"].labels.tolist() == [2, 2, 2]


def test_grey_images_become_rgb(tmp_path):
    draw_classes(tmp_path / "train", {"cat": 1, "dog": 1})
    draw_classes(tmp_path / "test", {"cat": 1, "dog": 1})
    grey = pixels_of(9)[:, :, 0]
    Image.fromarray(grey).save(tmp_path / "train" / "cat" / "zzz.png")
    image = load_folder(tmp_path).pool.images.read(1)
    assert torch.equal(image, torch.from_numpy(grey).expand(3, -1, -1))


def test_the_fingerprint_follows_paths_sizes_and_labels_but_not_the_place(tmp_path):
    def fingerprint(root):
        return load_dataset(DataSettings(dataset=f"folder:{root}"), REGISTRY).fingerprint

    for name in ("here", "there"):
        draw_classes(tmp_path / name / "train", {"cat": 3, "dog": 3})
        draw_classes(tmp_path / name / "test", {"cat": 1})
    before = fingerprint(tmp_path / "here")
    assert fingerprint(tmp_path / "there") == before
    (tmp_path / "there" / "train" / "cat" / "000.png").rename(
        tmp_path / "there" / "train" / "dog" / "000.png"
    )
    assert fingerprint(tmp_path / "there") != before
    draw(tmp_path / "here" / "train" / "cat" / "000.png", 0, height=20)
    assert fingerprint(tmp_path / "here") != before


def test_a_truncated_jpeg_is_named_before_it_is_needed(tmp_path):
    draw_classes(tmp_path / "train", {"cat": 2, "dog": 2}, ending="jpg")
    draw_classes(tmp_path / "test", {"cat": 1})
    broken = tmp_path / "train" / "dog" / "002.jpg"
    draw(broken, 2, height=60, width=60)
    content = broken.read_bytes()
    broken.write_bytes(content[: len(content) // 2])
    assert sentence_of(lambda: load_folder(tmp_path)).startswith(f"cannot read the image {broken}: ")


def test_a_file_that_is_no_image_is_named_before_it_is_needed(tmp_path):
    draw_classes(tmp_path, {"cat": 10, "dog": 10})
    broken = tmp_path / "cat" / "003.png"
    broken.write_text("no image")
    sentence = sentence_of(lambda: load_folder(tmp_path))
    assert sentence == f"cannot read the image {broken}: it is in no known image format"


@pytest.mark.parametrize("part", ["train", "test"])
def test_a_class_folder_without_images_is_named(tmp_path, part):
    draw_classes(tmp_path / "train", {"cat": 2, "dog": 2})
    draw_classes(tmp_path / "test", {"cat": 1, "dog": 1})
    for path in (tmp_path / part / "dog").iterdir():
        path.rename(path.with_suffix(".txt"))
    assert sentence_of(lambda: load_folder(tmp_path)) == (
        f"{tmp_path / part / 'dog'} has no image in it; fill it or remove it"
    )


def test_a_class_of_the_test_set_that_is_not_trained_on_is_named(tmp_path):
    draw_classes(tmp_path / "train", {"cat": 2, "dog": 2})
    draw_classes(tmp_path / "test", {"cat": 1, "eel": 1})
    assert sentence_of(lambda: load_folder(tmp_path)) == (
        f"{tmp_path / 'test'} has a class 'eel' that the training images do not have"
    )


def test_a_missing_folder_is_named(tmp_path):
    assert sentence_of(lambda: load_folder(tmp_path / "nowhere")) == (
        f"there is no folder {tmp_path / 'nowhere'}"
    )


def test_a_folder_without_classes_is_named(tmp_path):
    draw(tmp_path / "000.png", 0)
    assert sentence_of(lambda: load_folder(tmp_path)) == f"{tmp_path} has no class folders in it"


def test_train_without_test_is_refused(tmp_path):
    draw_classes(tmp_path / "train", {"cat": 2, "dog": 2})
    assert sentence_of(lambda: load_folder(tmp_path)) == (
        f"{tmp_path} has train/ but neither test/ nor val/ beside it"
    )


@pytest.mark.parametrize("name", ["test", "val"])
def test_a_test_set_without_train_is_not_taken_for_a_class(tmp_path, name):
    draw_classes(tmp_path / name, {"cat": 10, "dog": 10})
    draw_classes(tmp_path / "learn", {"cat": 10, "dog": 10})
    assert sentence_of(lambda: load_folder(tmp_path)) == f"{tmp_path} has {name}/ but no train/ beside it"


# --- CIFAR


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_missing_cifar_says_how_to_get_it(tmp_path, name):
    assert sentence_of(lambda: load(name, data_dir=tmp_path)) == (
        f"{name.upper()} is not in {tmp_path}; --download fetches it, --data-dir looks elsewhere"
    )


class FakeCIFAR:
    """What torchvision's CIFAR10 holds, of 40 training and 10 test images; it remembers how it was asked."""

    classes = ("plane", "car")
    asked: ClassVar[list[dict]] = []

    def __init__(self, root, train, download):
        type(self).asked.append({"root": root, "train": train, "download": download})
        size = 40 if train else 10
        self.data = np.stack([pixels_of(number + 1000 * train) for number in range(size)])
        self.targets = [number % 2 for number in range(size)]


def test_cifar_is_converted_pixel_for_pixel(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets, "CIFAR10", FakeCIFAR)
    monkeypatch.setattr(FakeCIFAR, "asked", [])
    dataset = load("cifar10", data_dir=tmp_path, download=True)
    assert FakeCIFAR.asked == [
        {"root": tmp_path, "train": True, "download": True},
        {"root": tmp_path, "train": False, "download": True},
    ]
    assert dataset.class_names == ("plane", "car")
    assert dataset.augment == "crop-flip"
    for examples, first in ((dataset.pool, 1000), (dataset.tests["test"], 0)):
        assert examples.images.dtype == torch.uint8
        assert examples.labels.tolist() == [number % 2 for number in range(len(examples))]
        for number, image in enumerate(examples.images):
            assert np.array_equal(image.permute(1, 2, 0).numpy(), pixels_of(first + number))


def test_a_tuning_set_is_held_out_of_cifars_training_images(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets, "CIFAR100", FakeCIFAR)
    dataset = load("cifar100", data_dir=tmp_path, options={"tuning": 0.25})
    assert (len(dataset.pool), len(dataset.tuning), len(dataset.tests["test"])) == (30, 10, 10)
    assert sorted(dataset.pool.indices.tolist() + dataset.tuning.indices.tolist()) == list(range(40))


def test_a_failed_download_is_one_sentence(tmp_path, monkeypatch):
    class Unreachable:
        def __init__(self, **_request):
            raise OSError("<urlopen error no route to host>\nand more of it")

    monkeypatch.setattr(datasets, "CIFAR10", Unreachable)
    assert sentence_of(lambda: load("cifar10", data_dir=tmp_path, download=True)) == (
        f"CIFAR10 could not be downloaded to {tmp_path}: <urlopen error no route to host>"
    )
