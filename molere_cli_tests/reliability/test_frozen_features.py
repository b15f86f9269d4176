"""A frozen backbone sees each image once, and what comes of it is what it was."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from molere_cli import BackboneSpec, Examples, erm_epochs, hookimpl
from molere_cli.api.evaluation import evaluate_run
from molere_cli.api.predictions import prepare_predictions
from molere_cli.config.sections import ClassifierSettings
from molere_cli.data.folder_reader import FolderReader
from molere_cli.data.source import load_dataset
from molere_cli.engine import feature_store
from molere_cli.engine.classifier import Classifier
from molere_cli.engine.feature_store import cache_folder
from molere_cli.engine.optimizer import build_optimizer, build_scheduler
from molere_cli.foundation.errors import TrainingError
from molere_cli.training import frozen_features
from molere_cli.training.frozen_features import FrozenFeatures, HeadStart
from molere_cli_tests.conftest import TINY_SIZE, tiny_net
from molere_cli_tests.plugins.test_baselines import context_of
from molere_cli_tests.training import (
    INSTANCE,
    KilledAfter,
    Notebook,
    assert_same_tensors,
    engine_for,
    tensors_of,
    tiny_config,
    train_methods,
    train_one,
    without_times,
)

TESTS = 32


@pytest.fixture(autouse=True)
def fresh_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MOLERE_CACHE", str(tmp_path / "cache"))
    forget()


def forget():
    """As in a new process."""
    frozen_features._OF_THIS_PROCESS.clear()


@pytest.fixture
def seen(monkeypatch) -> list[int]:
    """How many images pass through a backbone for their features, a number a pass."""
    counts, own = [], FrozenFeatures.computed

    def counted(self, feed, positions):
        counts.append(len(positions))
        return own(self, feed, positions)

    monkeypatch.setattr(FrozenFeatures, "computed", counted)
    return counts


def frozen(**changes):
    return tiny_config(freeze_backbone=True, **changes)


def written():
    return sorted((cache_folder() / "features").glob("*/*.safetensors"))


@pytest.mark.parametrize(
    "method",
    [
        {"method": "erm"},
        {"method": "lrw", "split": "random", "delta": 0.25, **INSTANCE},
        {"method": "lrw", "split": "random", "delta": 0.25, "reweighter": "features", "warmup_epochs": 0},
        {"method": "molere", "split": "none", **INSTANCE, "splitter_interval": 1},
        {"method": "jtt"},
        {"method": "rho", "split": "random", "delta": 0.25, "train_on": "train"},
        {"method": "fsr"},
        {"method": "mwn", "split": "random", "delta": 0.25},
        {"method": "l2r", "split": "random", "delta": 0.25},
        {"method": "gdw", "split": "random", "delta": 0.25},
    ],
    ids=lambda method: f"{method['method']}-{method.get('reweighter', '')}",
)
def test_a_run_on_features_is_the_run_on_images(method, registry, tmp_path, monkeypatch):
    """But for where the head starts, and its steps."""
    monkeypatch.setattr(HeadStart, "put_into", lambda _self, _classifier: None)
    ways = {"features": {}, "images": {"cache_features": False, "augment": "none"}}
    runs = {name: train_one(frozen(**method, **way), registry, tmp_path / name) for name, way in ways.items()}
    found, expected = (tensors_of(runs[name]) for name in ways)
    assert found.keys() == expected.keys()
    for name in found:
        torch.testing.assert_close(found[name], expected[name], rtol=1e-4, atol=1e-5)
    for one, other in zip(*(without_times(run.metrics()) for run in runs.values()), strict=True):
        assert one == pytest.approx(other, rel=1e-3, abs=1e-3, nan_ok=True)


def test_every_image_passes_once_for_all_methods_seeds_and_commands(registry, tmp_path, seen):
    configs = [frozen(), frozen(method="lrw", split="hard", delta=0.25, **INSTANCE)]
    train_methods(configs, [0, 0], registry, runs=tmp_path / "runs", progress=Notebook())
    assert sum(seen) == TINY_SIZE + TESTS
    forget()
    run = train_one(frozen(lr=0.01), registry, tmp_path / "again")
    evaluate_run(run.path, registry, runs=tmp_path)
    assert sum(seen) == TINY_SIZE + TESTS
    # Another seed has other weights here, where features start at random.
    train_one(frozen(seed=1), registry, tmp_path / "again")
    assert sum(seen) == 2 * (TINY_SIZE + TESTS)


@pytest.mark.parametrize("changes", [{"image_size": 16}, {"preprocessing": "dataset", "image_size": 12}])
def test_another_input_has_features_of_its_own(changes, registry, tmp_path, seen):
    train_one(frozen(), registry, tmp_path / "runs")
    train_one(frozen(**changes), registry, tmp_path / "runs")
    assert sum(seen) == 2 * (TINY_SIZE + TESTS)


def damage_flip(path):
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)


def damage_digest(path):
    """One image's features under another's name."""
    content = bytearray(path.read_bytes())
    start = 8 + int.from_bytes(content[:8], "little")
    content[start] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    "damage",
    [
        damage_flip,
        damage_digest,
        lambda path: path.write_bytes(path.read_bytes()[:-100]),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(np.random.default_rng(0).bytes(2000)),
    ],
    ids=["flip", "digest", "cut", "empty", "noise"],
)
def test_damaged_features_are_computed_again(damage, registry, tmp_path, seen):
    first = train_one(frozen(), registry, tmp_path / "runs")
    for path in written():
        damage(path)
    forget()
    notebook = Notebook()
    second = train_one(frozen(), registry, tmp_path / "again", notebook)
    assert sum(seen) == 2 * (TINY_SIZE + TESTS)
    assert sum("is damaged" in note for note in notebook.notes) == 2
    assert_same_tensors(tensors_of(first), tensors_of(second))
    forget()
    train_one(frozen(), registry, tmp_path / "third")
    assert sum(seen) == 2 * (TINY_SIZE + TESTS)


def photos(folder, *, number=12):
    """With so much noise in the middle that neither size nor ends of a file say what is in it."""
    generator = np.random.default_rng(0)
    for part in ("train", "test"):
        for label in ("a", "b"):
            (folder / part / label).mkdir(parents=True)
            for count in range(number):
                pixels = generator.integers(0, 256, (40, 40, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / part / label / f"{count}.bmp")
    return f"folder:{folder}"


def test_a_picture_that_has_changed_in_the_middle_passes_again(registry, tmp_path, seen):
    config = frozen(dataset=photos(tmp_path / "photos"), image_size=8, check="none")
    train_one(config, registry, tmp_path / "runs")
    assert sum(seen) == 48
    picture = tmp_path / "photos" / "train" / "a" / "3.bmp"
    content, times = bytearray(picture.read_bytes()), os.stat(picture)
    content[2400:2500] = bytes(100)
    picture.write_bytes(content)
    os.utime(picture, ns=(times.st_atime_ns, times.st_mtime_ns))
    forget()
    train_one(config, registry, tmp_path / "again")
    assert sum(seen) == 49


def test_predictions_are_those_of_the_whole_network(registry, tmp_path, seen):
    config = frozen(dataset=photos(tmp_path / "photos"), image_size=8)
    run = train_one(config, registry, tmp_path / "runs")
    seen.clear()
    new = [str(path) for path in sorted((tmp_path / "photos" / "test").glob("*/*.bmp"))]
    made = prepare_predictions(run.path, new, registry)
    found = [prediction.probabilities for prediction in made.predictions(top=2)]
    assert seen == []
    examples = Examples(images=FolderReader(Path(), new), labels=torch.zeros(len(new), dtype=torch.int64))
    (batch,) = made.settings.features.feed(examples).evaluation([torch.arange(len(new))])
    with torch.no_grad():
        whole = made.classifier.module.eval()(batch.images).softmax(dim=1)
    torch.testing.assert_close(torch.tensor(found), whole.topk(2, dim=1).values, rtol=1e-4, atol=1e-5)


def test_a_stopped_run_goes_on_to_the_same_bits(registry, tmp_path):
    adamw = {"optimizer": "adamw", "lr": 0.01, "weight_decay": 1.0}
    config = frozen(method="lrw", split="random", delta=0.25, **INSTANCE, **adamw)
    whole = train_one(config, registry, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train_one(config, registry, tmp_path / "runs", KilledAfter(2, label_part="lrw"))
    forget()
    outcome = train_methods(
        [config], [0], registry, runs=tmp_path / "runs", resume_unfinished=True, progress=Notebook()
    )
    (run,) = outcome.finished
    assert_same_tensors(tensors_of(run), tensors_of(whole))
    assert without_times(run.metrics()) == without_times(whole.metrics())


def test_a_run_of_a_version_without_features_goes_on_with_augmented_images(registry, tmp_path, seen):
    config = frozen(cache_features=False)
    whole = train_one(config, registry, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train_one(config, registry, tmp_path / "runs", KilledAfter(2, label_part="erm"))
    (path,) = (tmp_path / "runs").glob("tiny-*/config.json")
    settings = json.loads(path.read_text())
    del settings["cache_features"]
    path.write_text(json.dumps(settings))
    outcome = train_methods(
        [config], [0], registry, runs=tmp_path / "runs", resume_unfinished=True, progress=Notebook()
    )
    (run,) = outcome.finished
    assert seen == []
    assert_same_tensors(tensors_of(run), tensors_of(whole))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"augment": "crop-flip"}, "`--augment none` would keep features"),
        (
            {"method": "lrw", "split": "random", "delta": 0.25, "reweighter": "image"},
            "--reweighter image looks",
        ),
        ({"method": "molere", "split": "none", "splitter": "image"}, "--splitter image looks"),
        ({"backbone": "scaled"}, "more than a classification layer"),
    ],
)
def test_where_images_are_needed_it_says_so_and_takes_them(changes, reason, registry, tmp_path, seen):
    registry.add(Scaled(), "scaled_plugin")
    notebook = Notebook()
    train_one(frozen(**changes), registry, tmp_path / "runs", notebook)
    assert seen == [] and written() == []
    assert sum(reason in note for note in notebook.notes) >= 1


class Scaled:
    """A network that does more to logits than its last layer."""

    @hookimpl
    def register_backbones(self, register):
        register(
            BackboneSpec(
                name="scaled",
                description="A network with a fixed temperature.",
                build=lambda request: nn.Sequential(tiny_net(request), Doubled()),
            )
        )


class Doubled(nn.Module):
    def forward(self, logits):
        return 2 * logits


def test_without_room_the_run_goes_on_and_says_so(registry, tmp_path, monkeypatch, seen):
    def full(*_arguments, **_named):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(feature_store, "save_file", full)
    notebook = Notebook()
    run = train_one(frozen(), registry, tmp_path / "runs", notebook)
    assert run.is_done and written() == []
    assert (
        sum("features are not kept for another command: cannot write" in note for note in notebook.notes) == 2
    )


def test_features_that_are_not_finite_are_refused(registry, tmp_path, monkeypatch):
    own = Classifier.whole_pass

    def broken(self, images):
        output = own(self, images)
        if len(images) > 2:
            output = output._replace(features=output.features.clone())
            output.features[5] = torch.nan
        return output

    monkeypatch.setattr(Classifier, "whole_pass", broken)
    with pytest.raises(TrainingError, match="not finite for 1 of 64 images, the first of them number 5"):
        train_one(frozen(), registry, tmp_path / "runs")
    assert written() == []


def test_the_cache_is_listed_and_cleared(registry, tmp_path, molere):
    assert molere("cache").out.startswith("0.0 MiB of features kept in")
    train_one(frozen(), registry, tmp_path / "runs")
    (listed,) = json.loads(molere("cache --json").out)
    assert (listed["about"]["backbone"], listed["num_images"]) == ("tiny_net", TINY_SIZE + TESTS)
    assert listed["num_bytes"] == sum(path.stat().st_size for path in written())
    assert " 96 " in molere("cache").out
    kept = tmp_path / "cache" / "mine.txt"
    kept.write_text("of somebody else")
    assert molere("cache --clear").code == 0
    assert written() == [] and kept.exists()


def test_a_dry_run_looks_at_few_images_and_keeps_nothing(molere, in_tmp):
    done = molere("train --dataset digits --freeze-backbone --method erm --epochs 2 --device cpu --dry-run")
    assert done.code == 0 and written() == []


@pytest.mark.parametrize("weight_decay", [0.0, 0.5])
def test_a_scaled_step_is_the_step_on_scaled_features(weight_decay):
    """Whatever features a backbone gives, a recipe means the same."""
    scale = 1 / 16
    settings = ClassifierSettings(optimizer="adamw", lr=0.01, weight_decay=weight_decay)
    generator = torch.Generator().manual_seed(0)
    features = 40 * torch.randn(64, 10, generator=generator)
    labels = torch.arange(64) % 3
    as_they_are, scaled = nn.Linear(10, 3).double(), nn.Linear(10, 3).double()
    for head in (as_they_are, scaled):
        nn.init.zeros_(head.weight)
        nn.init.zeros_(head.bias)
    pairs = (
        (as_they_are, features.double(), {as_they_are.weight: scale}),
        (scaled, scale * features.double(), None),
    )
    for head, inputs, scales in pairs:
        optimizer = build_optimizer(settings, head, scales=scales)
        schedule = build_scheduler(settings, optimizer)
        for epoch in range(20):
            schedule.step(epoch)
            optimizer.zero_grad()
            nn.functional.cross_entropy(head(inputs), labels).backward()
            optimizer.step()
    torch.testing.assert_close(as_they_are.weight, scale * scaled.weight, rtol=1e-5, atol=1e-8)
    torch.testing.assert_close(as_they_are.bias, scaled.bias, rtol=1e-5, atol=1e-8)


def head_before_training(config, registry):
    classifier = engine_for(config, registry).classifier
    return classifier.head.weight.detach().clone(), classifier.head_scales[classifier.head.weight]


def test_the_head_starts_at_zero_unless_a_file_has_it(registry, tmp_path):
    weight, scale = head_before_training(frozen(), registry)
    assert not weight.any()
    data = load_dataset(frozen().data, registry)
    engine = engine_for(frozen(), registry)
    features = engine.feed_settings.features(data.dataset.pool)
    centred = scale * (features - features.mean(dim=0))
    assert float(centred.square().sum(dim=1).mean()) == pytest.approx(100, rel=1e-4)
    run = train_one(frozen(), registry, tmp_path / "runs")
    trained = tensors_of(run)["6.weight"]
    weight, _ = head_before_training(frozen(init_from=run.classifier_path), registry)
    assert torch.equal(weight, trained)


def test_fits_beside_a_run_start_as_it_does(registry):
    context = context_of(frozen(method="focal", seed=5), registry)
    first = erm_epochs(context, torch.ones(TINY_SIZE, dtype=torch.bool))
    erm = engine_for(frozen(seed=5), registry)
    for classifier, _ in zip(first, erm.loop.epochs(), strict=True):
        assert_same_tensors(classifier.module.state_dict(), erm.classifier.module.state_dict())
