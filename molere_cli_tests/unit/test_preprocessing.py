"""What pretrained weights expect of images reaches the network, pixel for pixel as timm has it."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file
from timm.data import create_transform, resolve_model_data_config

from molere_cli.api.run_schedule import train_runs
from molere_cli.config.plan import make_plan
from molere_cli.config.run_config import RunConfig
from molere_cli.data.feed import FeedSettings, make_feed
from molere_cli.data.folder_reader import FolderReader
from molere_cli.data.source import load_dataset
from molere_cli.foundation.errors import ConfigError, RunError
from molere_cli.foundation.progress import NoProgress
from molere_cli.registry.registry import load_plugins
from molere_cli.registry.specs import Examples, PretrainedInput
from molere_cli.runs.run_directory import RunDir
from molere_cli.training.input_preprocessing import feed_settings
from molere_cli.training.trained_model import load_alone, load_for_evaluation

REGISTRY = load_plugins()
# Bicubic and bilinear, 88% to 100% kept, ImageNet's mean and Inception's.
CHECKPOINTS = (
    "resnet18.a1_in1k",
    "vit_tiny_patch16_224.augreg_in21k_ft_in1k",
    "convnext_femto.d1_in1k",
    "efficientnet_b0.ra_in1k",
    "mobilenetv3_small_050.lamb_in1k",
    "vit_base_patch16_siglip_224.webli",
)
SIZES = [(300, 200), (200, 431), (64, 64), (224, 224), (500, 97)]


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Pictures of many shapes, and their paths."""
    root = tmp_path_factory.mktemp("photos")
    generator = np.random.default_rng(0)
    paths = []
    for number, (height, width) in enumerate(SIZES):
        small = generator.integers(0, 256, (7, 5, 3), dtype=np.uint8)
        Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC).save(root / f"{number}.png")
        paths.append(f"{number}.png")
    return root, paths


def plan_of(backbone: str, **settings):
    config = RunConfig.of(
        dataset="digits",
        backbone=backbone,
        method="erm",
        device="cpu",
        precision="fp32",
        workers=0,
        **settings,
    )
    return make_plan(config, REGISTRY)


def settings_of(backbone: str, **settings) -> FeedSettings:
    plan = plan_of(backbone, **settings)
    return feed_settings(plan, load_dataset(plan.config.data, REGISTRY))


@pytest.mark.parametrize("name", CHECKPOINTS)
@pytest.mark.parametrize("held", [False, True])
def test_what_reaches_the_network_is_what_timm_makes_of_it(photos, name, held):
    root, paths = photos
    settings = replace(settings_of(name, backbone_option={"pretrained": "true"}), augment="none")
    network = timm.create_model(name, num_classes=2)
    wanted = create_transform(**resolve_model_data_config(network), is_training=False)
    pictures = [Image.open(root / path).convert("RGB") for path in paths]
    expected = torch.stack([wanted(picture) for picture in pictures])
    reader = FolderReader(root, [Path(path) for path in paths])
    for positions in [[0, 1, 2, 3, 4]] if not held else [[0], [3]]:
        images = reader
        if held:
            images = torch.stack([reader.read(position) for position in positions])
        feed = make_feed(
            Examples(images=images, labels=torch.zeros(len(images), dtype=torch.int64)), settings
        )
        batches = [torch.arange(len(feed))]
        [tested], [trained] = feed.evaluation(batches), feed.training(batches, seed=1)
        assert tested.images.shape[-2:] == expected.shape[-2:]
        torch.testing.assert_close(tested.images, expected[positions], rtol=0, atol=2e-6)
        assert torch.equal(tested.images, trained.images)


@pytest.mark.parametrize("crop_mode", ["center", "squash", "border"])
@pytest.mark.parametrize("size", [(224, 224), (96, 160)])
def test_every_way_to_crop_is_timms(photos, crop_mode, size):
    root, paths = photos
    wanted = PretrainedInput(
        image_size=size,
        mean=(0.1, 0.2, 0.3),
        std=(0.4, 0.5, 0.6),
        interpolation="bilinear",
        crop_share=0.9,
        crop_mode=crop_mode,
    )
    settings = FeedSettings(
        mean=wanted.mean,
        std=wanted.std,
        augment="none",
        image_size=size,
        device=torch.device("cpu"),
        workers=0,
        pretrained=wanted,
    )
    theirs = create_transform(
        (3, *size),
        interpolation="bilinear",
        crop_pct=0.9,
        crop_mode=crop_mode,
        mean=wanted.mean,
        std=wanted.std,
    )
    reader = FolderReader(root, [Path(path) for path in paths])
    feed = make_feed(Examples(images=reader, labels=torch.zeros(len(paths), dtype=torch.int64)), settings)
    [found] = feed.evaluation([torch.arange(len(paths))])
    expected = torch.stack([theirs(Image.open(root / path).convert("RGB")) for path in paths])
    torch.testing.assert_close(found.images, expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize("augment", ["crop", "crop-flip"])
def test_augmentation_follows_the_seed_and_leaves_chance_outside_alone(photos, augment):
    import random

    root, paths = photos
    settings = replace(
        settings_of("resnet18.a1_in1k", backbone_option={"pretrained": "true"}), augment=augment
    )
    reader = FolderReader(root, [Path(path) for path in paths])
    feed = make_feed(Examples(images=reader, labels=torch.zeros(len(paths), dtype=torch.int64)), settings)
    batches = [torch.tensor([0, 1]), torch.tensor([2, 3, 4])]
    random.seed(5)
    torch.manual_seed(5)
    first = [batch.images for batch in feed.training(batches, seed=1)]
    after = random.getstate(), float(torch.rand(1))
    random.seed(6)
    second = [batch.images for batch in feed.training(batches, seed=1, start=1)]
    other = [batch.images for batch in feed.training(batches, seed=2)]
    random.seed(5)
    torch.manual_seed(5)
    assert after == (random.getstate(), float(torch.rand(1)))
    assert torch.equal(first[1], second[0]) and not torch.equal(first[1], other[1])
    [plain] = feed.evaluation([batches[0]])
    assert not torch.equal(plain.images, first[0])


# --- which weights say what


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A file of resnet18's tensors, with nothing beside it."""
    path = tmp_path_factory.mktemp("weights") / "resnet18.safetensors"
    save_file(timm.create_model("resnet18", num_classes=7).state_dict(), path)
    return path


def test_random_weights_expect_nothing():
    for settings in (
        settings_of("resnet18.a1_in1k"),
        settings_of("resnet18"),
        settings_of("resnet18.a1_in1k", backbone_option={"pretrained": "true"}, preprocessing="dataset"),
    ):
        assert (settings.image_size, settings.pretrained) == ((8, 8), None)


def test_a_file_has_the_input_of_the_tag(weights):
    tagged = settings_of("resnet18.a1_in1k", init_from=weights)
    assert tagged.pretrained == PretrainedInput(
        image_size=(224, 224),
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
        interpolation="bicubic",
        crop_share=0.95,
        crop_mode="center",
    )
    assert settings_of("resnet18", init_from=weights).pretrained is None
    by_option = settings_of("resnet18", init_from=weights, backbone_option={"pretrained_cfg": "a1_in1k"})
    assert by_option == tagged


def test_what_is_given_counts_for_more(weights):
    found = settings_of(
        "resnet18.a1_in1k", init_from=weights, image_size=96, crop_mode="squash", augment="crop"
    )
    assert (found.image_size, found.pretrained.image_size) == ((96, 96), (96, 96))
    assert (found.pretrained.crop_mode, found.pretrained.crop_share) == ("squash", 0.95)
    assert found.augment == "crop"


def beside(weights: Path, folder: Path, config) -> Path:
    folder.mkdir()
    shutil.copy(weights, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config) if not isinstance(config, str) else config)
    return folder / "model.safetensors"


def test_a_file_has_the_input_that_timms_config_beside_it_says(weights, tmp_path):
    said = {"input_size": [3, 64, 64], "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}
    said |= {"interpolation": "bilinear", "crop_pct": 1.0, "crop_mode": "squash"}
    path = beside(weights, tmp_path / "exported", {"architecture": "resnet18", "pretrained_cfg": said})
    found = settings_of("resnet18", init_from=path)
    assert found.pretrained == PretrainedInput(
        image_size=(64, 64),
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
        interpolation="bilinear",
        crop_share=1.0,
        crop_mode="squash",
    )
    other = beside(weights, tmp_path / "other", {"anything": 1})
    assert settings_of("resnet18", init_from=other).pretrained is None


@pytest.mark.parametrize(
    "config", ["{", {"pretrained_cfg": {"input_size": [3, "x", 4]}}, {"pretrained_cfg": {"input_size": 5}}]
)
def test_what_cannot_be_read_beside_it_is_one_sentence(weights, tmp_path, config):
    path = beside(weights, tmp_path / "exported", config)
    with pytest.raises(ConfigError, match=r"config\.json does not say how images become the input"):
        settings_of("resnet18", init_from=path)
    assert settings_of("resnet18", init_from=path, preprocessing="dataset").pretrained is None


# --- in runs


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    """A run that starts from pretrained weights' input, in a small size."""
    root = tmp_path_factory.mktemp("first")
    said = {"input_size": [3, 24, 24], "mean": [0.4, 0.5, 0.6], "std": [0.3, 0.3, 0.3]}
    said |= {"interpolation": "bicubic", "crop_pct": 0.8, "crop_mode": "center"}
    file = root / "plain.safetensors"
    save_file(timm.create_model("resnet18", num_classes=7).state_dict(), file)
    path = beside(file, root / "exported", {"architecture": "resnet18", "pretrained_cfg": said})
    return trained(root, init_from=path, epochs=2), path


def trained(root: Path, progress=None, **settings) -> RunDir:
    settings = {"dataset": "digits", "limit_train": 60, "backbone": "resnet18", **settings}
    config = RunConfig.of(method="erm", device="cpu", precision="fp32", workers=0, batch_size=16, **settings)
    (run,) = train_runs(config, [0], REGISTRY, runs=root / "runs", progress=progress or NoProgress())
    return run


def test_a_run_says_what_its_input_is_and_is_tested_with_that(first):
    run, _ = first
    assert run.environment()["input"] == {
        "image_size": [24, 24],
        "crop_mode": "center",
        "crop_share": 0.8,
        "interpolation": "bicubic",
        "mean": [0.4, 0.5, 0.6],
        "std": [0.3, 0.3, 0.3],
    }
    _, _, _, tested = load_for_evaluation(run, REGISTRY)
    _, _, _, alone = load_alone(run, REGISTRY)
    assert alone.pretrained == tested.pretrained and tested.image_size == (24, 24)


def test_a_run_that_starts_from_it_has_its_input(first, tmp_path):
    run, _ = first
    found = settings_of("resnet18", init_from=run.classifier_path)
    assert found.pretrained == load_alone(run, REGISTRY)[3].pretrained
    plain = trained(tmp_path, backbone="small_cnn", epochs=1, image_size=12)
    other = settings_of("small_cnn", init_from=plain.classifier_path)
    assert (other.pretrained, other.image_size) == (None, (12, 12))
    assert other.mean == tuple(plain.environment()["input"]["mean"])


def test_a_run_does_not_go_on_with_another_input(first, tmp_path):
    from molere_cli.training.resume_run import resume_run

    run, path = first
    copy = RunDir(tmp_path / "run")
    shutil.copytree(run.path, copy.path)
    before = (path.parent / "config.json").read_text()
    try:
        (path.parent / "config.json").write_text(before.replace("24, 24", "32, 32"))
        with pytest.raises(RunError, match="began with images of another size, crop or normalisation"):
            resume_run(copy.path, REGISTRY, epochs=3, progress=NoProgress())
    finally:
        (path.parent / "config.json").write_text(before)
    resume_run(copy.path, REGISTRY, epochs=3, progress=NoProgress())
    assert len(copy.metrics()) == 3


def test_a_user_is_told(weights, tmp_path):
    class Told(NoProgress):
        def __init__(self):
            self.notes = []

        def note(self, message):
            self.notes.append(message)

    told = Told()
    trained(
        tmp_path,
        told,
        backbone="resnet18.a1_in1k",
        init_from=weights,
        image_size=32,
        epochs=1,
        limit_train=20,
    )
    [sentence] = [note for note in told.notes if note.startswith("images become the input")]
    assert "32 x 32 pixels, bicubic, center, 95% kept, mean 0.485, 0.456, 0.406" in sentence


def test_what_is_exported_says_how_pictures_are_read(first, tmp_path):
    from molere_export.weight_export import export_run

    run, _ = first
    export_run(run.path, tmp_path / "out", format="timm", note=lambda _: None)
    said = json.loads((tmp_path / "out" / "config.json").read_text())["pretrained_cfg"]
    assert (said["input_size"], said["interpolation"], said["crop_pct"], said["crop_mode"]) == (
        *([3, 24, 24], "bicubic"),
        *(0.8, "center"),
    )
    card = (tmp_path / "out" / "README.md").read_text()
    assert "the middle 80% of a side are kept" in card
    again = settings_of("resnet18", init_from=tmp_path / "out" / "model.safetensors")
    assert again.pretrained == load_alone(run, REGISTRY)[3].pretrained
