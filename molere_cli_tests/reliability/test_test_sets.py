"""Test sets beside a dataset's own: corrupted ones, and those of other datasets."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from molere_transforms.corruption import KINDS, corrupt, corrupted_examples
from PIL import Image
from torch import Tensor
from typer.testing import CliRunner

from molere_cli.commands.app import app
from molere_cli.config.sections import DataSettings
from molere_cli.data.dataset_summary import dataset_summary
from molere_cli.data.source import LoadedDataset, load_dataset, with_classes_of
from molere_cli.foundation.errors import ConfigError
from molere_cli.registry.registry import load_plugins
from molere_cli.registry.specs import Dataset, Examples


def photo(size: int, num_images: int = 1) -> Tensor:
    """Smooth colours with some texture, so that every corruption has something to take away."""
    generator = np.random.default_rng(0)
    rows, columns = np.mgrid[0:size, 0:size] / size
    base = np.stack([rows, columns, 0.5 + 0.3 * np.sin(9 * rows)])
    images = base + 0.08 * generator.standard_normal((num_images, 3, size, size))
    return torch.from_numpy((255 * images.clip(0, 1)).astype(np.uint8))


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(3)


@pytest.mark.parametrize("size", [32, 96])
@pytest.mark.parametrize("kind", KINDS)
def test_each_severity_takes_the_image_further_away(kind: str, size: int) -> None:
    images = photo(size)
    errors = [
        float(
            (corrupt(images, kind=kind, severity=severity, generator=generator()).float() - images.float())
            .square()
            .mean()
        )
        for severity in (1, 2, 3, 4, 5)
    ]
    assert errors[0] > 0
    # On one image, neighbouring severities of these two may change places.
    steps = errors[::4] if kind in ("pixelate", "jpeg") else errors
    assert steps == sorted(steps)


def test_noise_and_contrast_are_what_their_numbers_say() -> None:
    grey = torch.full((1, 3, 64, 64), 128, dtype=torch.uint8)
    noisy = corrupt(grey, kind="gaussian_noise", severity=5, generator=generator()).double() / 255
    assert float(noisy.std()) == pytest.approx(0.10, rel=0.05)
    image = photo(32).double()
    flat = corrupt(image.byte(), kind="contrast", severity=2, generator=generator()).double()
    assert float(flat.std(dim=(-1, -2)).mean()) == pytest.approx(
        0.5 * float(image.std(dim=(-1, -2)).mean()), rel=0.02
    )


def test_brightness_raises_the_value_and_keeps_the_hue() -> None:
    pixel = torch.tensor([100, 50, 0], dtype=torch.uint8).view(1, 3, 1, 1)
    brighter = corrupt(pixel.expand(1, 3, 8, 8), kind="brightness", severity=3, generator=generator())
    # 0.15 of 255 onto the largest channel; the others in proportion.
    assert brighter[0, :, 0, 0].tolist() == [138, 69, 0]
    black = torch.zeros(1, 3, 8, 8, dtype=torch.uint8)
    assert corrupt(black, kind="brightness", severity=3, generator=generator()).unique().tolist() == [38]


def test_jpeg_is_what_pillow_makes_of_it(tmp_path: Path) -> None:
    image = photo(32)
    ours = corrupt(image, kind="jpeg", severity=1, generator=generator())[0]
    path = tmp_path / "image.jpg"
    Image.fromarray(image[0].permute(1, 2, 0).numpy()).save(path, quality=80)
    theirs = torch.from_numpy(np.array(Image.open(path))).permute(2, 0, 1)
    assert float((ours.float() - theirs.float()).abs().max()) == 0


class Stored:
    def __init__(self, images: Tensor) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def read(self, position: int) -> Tensor:
        return self.images[position]

    def identities(self) -> Iterator[bytes]:
        return iter([b"x"] * len(self))


def test_streamed_images_are_corrupted_as_they_are_read() -> None:
    images = photo(16, 4)
    examples = Examples(images=Stored(images), labels=torch.zeros(4, dtype=torch.int64))
    found = corrupted_examples(examples, kind="gaussian_noise", severity=3, seed=5).images
    assert not isinstance(found, Tensor)
    assert torch.equal(found.read(2), found.read(2))
    assert not torch.equal(found.read(2), images[2])
    assert not torch.equal(found.read(1).int() - images[1].int(), found.read(2).int() - images[2].int())


def test_an_unknown_corruption_is_named() -> None:
    examples = Examples(images=photo(8), labels=torch.zeros(1, dtype=torch.int64))
    with pytest.raises(ConfigError, match="unknown corruption 'fog'; there are: gaussian_noise"):
        corrupted_examples(examples, kind="fog", severity=1, seed=0)
    with pytest.raises(ConfigError, match="severity 6 of jpeg"):
        corrupted_examples(examples, kind="jpeg", severity=6, seed=0)


def loaded(name: str, class_names: tuple[str, ...], labels: list[int]) -> LoadedDataset:
    examples = Examples(images=photo(8, len(labels)), labels=torch.tensor(labels))
    dataset = Dataset(pool=examples, tests={"test": examples}, class_names=class_names)
    return LoadedDataset(name, dataset, "f", dataset_summary(name, dataset, {}))


def test_labels_of_another_dataset_are_matched_by_class_name() -> None:
    own = loaded("own", ("cat", "dog", "emu"), [0, 1, 2])
    other = with_classes_of(own, loaded("other", ("emu", "cat"), [0, 1, 1]))
    assert other.dataset.tests["test"].labels.tolist() == [2, 0, 0]
    with pytest.raises(ConfigError, match="has the class 'fox', which the run was not trained on"):
        with_classes_of(own, loaded("other", ("cat", "fox"), [0, 1]))
    numbered = loaded("other", ("0", "1", "2"), [2, 1])
    assert with_classes_of(own, numbered).dataset.tests["test"].labels.tolist() == [2, 1]
    with pytest.raises(ConfigError, match="has 4 classes, but the run was trained on 3"):
        with_classes_of(own, loaded("other", ("0", "1", "2", "3"), [3]))


def test_eval_on_several_sets(tmp_path: Path) -> None:
    run = tmp_path / "run"
    train = [
        "train",
        "--method",
        "erm",
        "--epochs",
        "1",
        "--limit-train",
        "100",
        "--out",
        str(run),
        "--quiet",
    ]
    assert CliRunner().invoke(app, train).exit_code == 0
    on = "test,digits-c:pixelate:5,colour-digits"
    result = CliRunner().invoke(app, ["eval", str(run), "--on", on, "--json"])
    assert result.exit_code == 0, result.output
    assert all(f'"{name}"' in result.stdout for name in on.split(","))
    wrong = CliRunner().invoke(app, ["eval", str(run), "--on", "test,blurry"])
    assert "no test set 'blurry'; there are: test, tuning, and corrupted:" in str(wrong.exception)


def test_a_corrupted_set_keeps_labels_and_groups() -> None:
    data = load_dataset(DataSettings(dataset="colour-digits"), load_plugins())
    test = data.dataset.tests["test"]
    found = corrupted_examples(test, kind="contrast", severity=5, seed=0)
    assert torch.equal(found.labels, test.labels)
    assert torch.equal(found.groups, test.groups)
    assert found.images.shape == test.images.shape
