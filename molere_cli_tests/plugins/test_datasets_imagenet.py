"""ImageNet, a hundred of its classes, and the sets that its runs are tested on, in small."""

from __future__ import annotations

import math
import shutil

import pytest
import torch
from molere_torchvision.imagenet import IMAGENET_100, IMAGENET_V2
from torch import nn

from molere_cli import BackboneSpec, hookimpl
from molere_cli.api.evaluation import evaluate_run
from molere_cli.api.run_schedule import train_runs
from molere_cli.config.run_config import RunConfig
from molere_cli.foundation.errors import ConfigError, DataError
from molere_cli.foundation.progress import NoProgress
from molere_cli.registry.registry import load_plugins
from molere_cli_tests.plugins.test_datasets_torchvision_more import (
    draw,
    draw_classes,
    load,
    numbers_of,
    sentence_of,
)


def test_imagenet_is_read_from_its_folders(tmp_path):
    names = ("n01440764", "n01443537")
    draw_classes(tmp_path / "imagenet" / "train", names, 4)
    draw_classes(tmp_path / "imagenet" / "val", names, 2, first=8)
    dataset = load("imagenet", tmp_path, options={"tuning": 0.25}).dataset
    assert dataset.class_names == names
    assert dataset.tests["test"].labels.tolist() == [0, 0, 1, 1]
    assert numbers_of(dataset.tests["test"]) == [8, 9, 10, 11]
    assert sorted(numbers_of(dataset.pool) + numbers_of(dataset.tuning)) == list(range(8))


def test_a_validation_set_of_imagenet_that_was_not_sorted_into_classes_is_named(tmp_path):
    draw_classes(tmp_path / "imagenet" / "train", ("n01440764", "n01443537"), 2)
    draw(tmp_path / "imagenet" / "val" / "ILSVRC2012_val_00000001.JPEG", 0)
    assert sentence_of(lambda: load("imagenet", tmp_path)) == (
        f"{tmp_path / 'imagenet' / 'val'} has no class folders in it"
    )


def test_imagenet100_is_its_hundred_classes_out_of_imagenets_folders(tmp_path):
    names = sorted(IMAGENET_100)
    assert len(set(names)) == 100
    for part, first in (("train", 0), ("val", 100)):
        draw_classes(tmp_path / "imagenet" / part, names, 1, first=first)
        draw(tmp_path / "imagenet" / part / "n99999999" / "0.jpg", 255)
    dataset = load("imagenet100", tmp_path).dataset
    assert dataset.class_names == tuple(names)
    assert numbers_of(dataset.pool) == list(range(100))
    assert dataset.tests["test"].labels.tolist() == list(range(100))
    shutil.rmtree(tmp_path / "imagenet" / "val" / names[7])
    val = tmp_path / "imagenet" / "val"
    assert sentence_of(lambda: load("imagenet100", tmp_path)) == (
        f"{val} has no folder {names[7]}, one of the hundred classes of ImageNet-100"
    )


# --- images of ImageNet's classes from elsewhere


class Favourite(nn.Module):
    """Says class 11 first, then class 3, whatever it sees."""

    def __init__(self, num_classes):
        super().__init__()
        self.head = nn.Linear(1, num_classes)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)
        self.head.bias.data[[11, 3]] = torch.tensor([2.0, 1.0])

    def forward(self, images):
        return self.head(images.mean(dim=(1, 2, 3), keepdim=True).flatten(1))


@pytest.fixture
def imagenet_run(tmp_path):
    """A run on twelve classes of ImageNet, by a network that prefers two of them."""
    registry = load_plugins()

    class Plugin:
        @hookimpl
        def register_backbones(self, register):
            build = lambda request: Favourite(request.num_classes)  # noqa: E731
            register(BackboneSpec(name="favourite", description="", build=build))

    registry.add(Plugin(), "favourites")
    names = [f"n{number:08}" for number in range(12)]
    draw_classes(tmp_path / "imagenet" / "train", names, 2)
    draw_classes(tmp_path / "imagenet" / "val", names, 1)
    config = RunConfig.of(
        dataset="imagenet",
        data_dir=tmp_path,
        backbone="favourite",
        image_size=8,
        epochs=1,
        lr=1e-12,
        workers=0,
    )
    (run,) = train_runs(config, [0], registry, runs=tmp_path / "runs", progress=NoProgress())
    return registry, run, names


@pytest.mark.parametrize(
    ("name", "folder", "among_own"),
    [
        ("imagenet-a", "imagenet-a", True),
        ("imagenet-r", "imagenet-r", True),
        ("imagenet-sketch", "sketch", False),
    ],
)
def test_their_labels_are_imagenets_and_predictions_count_as_published(
    name, folder, among_own, imagenet_run, tmp_path
):
    registry, run, names = imagenet_run
    draw_classes(tmp_path / folder, (names[3], names[9]), 2)
    found = evaluate_run(run.path, registry, runs=tmp_path, sets=["test", name])
    assert found.summaries["test"]["accuracy"] == pytest.approx(1 / 12)
    # Its favourite, class 11, is not among them: then it says class 3, which half of them are.
    assert found.summaries[name]["accuracy"] == (0.5 if among_own else 0.0)
    by_class = found.by_class[name]
    assert (by_class[names[3]], by_class[names[9]]) == ((1.0, 0.0) if among_own else (0.0, 0.0))
    assert math.isfinite(found.summaries[name]["margin"])


def test_imagenet_v2_has_numbers_for_folders_and_ten_comes_after_nine(imagenet_run, tmp_path):
    registry, run, _ = imagenet_run
    draw_classes(tmp_path / IMAGENET_V2.folder, [str(number) for number in range(12)], 1)
    found = evaluate_run(run.path, registry, runs=tmp_path, sets=["imagenet-v2"])
    assert found.summaries["imagenet-v2"]["accuracy"] == pytest.approx(1 / 12)
    assert [name for name, value in found.by_class["imagenet-v2"].items() if value == 1.0] == ["n00000011"]
    draw(tmp_path / IMAGENET_V2.folder / "n01440764" / "0.jpg", 0)
    with pytest.raises(DataError, match=r"n01440764 is no class of ImageNet-V2: its folders are numbers"):
        evaluate_run(run.path, registry, runs=tmp_path, sets=["imagenet-v2"])


@pytest.mark.parametrize("name", ["imagenet-a", "imagenet-r", "imagenet-sketch", "imagenet-v2"])
def test_nobody_trains_on_what_is_there_to_test_on(name, tmp_path):
    with pytest.raises(ConfigError) as refused:
        load(name, tmp_path)
    assert str(refused.value) == (
        f"dataset '{name}' has test images alone; test a run with `molere eval RUN --on {name}`, or "
        f"validate on it with --split natural:{name}"
    )


def test_what_is_missing_is_a_sentence_with_its_source(imagenet_run, tmp_path):
    registry, run, _ = imagenet_run
    with pytest.raises(DataError, match=r"ImageNet-A is not in .*imagenet-a .*natural-adv-examples"):
        evaluate_run(run.path, registry, runs=tmp_path, sets=["imagenet-a"])


def test_the_images_that_a_run_validated_on_do_not_test_it(imagenet_run, tmp_path):
    registry, _, names = imagenet_run
    draw_classes(tmp_path / "imagenet-a", (names[3], names[9]), 2)
    config = RunConfig.of(
        dataset="imagenet",
        data_dir=tmp_path,
        backbone="favourite",
        image_size=8,
        epochs=2,
        workers=0,
        method="lrw",
        split="natural:imagenet-a",
        warmup_epochs=1,
    )
    (run,) = train_runs(config, [0], registry, runs=tmp_path / "natural", progress=NoProgress())
    with pytest.raises(ConfigError, match=r"all images of imagenet-a were the validation set of this run"):
        evaluate_run(run.path, registry, runs=tmp_path, sets=["imagenet-a"])
