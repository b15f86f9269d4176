"""Label noise and class skew: rates as defined, tests untouched, the same for the same data seed."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from molere_transforms.noise import labels_from_file, noisy_labels
from molere_transforms.skew import skewed_positions
from scipy.stats import chisquare
from typer.testing import CliRunner

from molere_cli.commands.app import app
from molere_cli.config.run_config import RunConfig
from molere_cli.config.sections import DataSettings
from molere_cli.data.source import load_dataset
from molere_cli.foundation.errors import ConfigError, DataError
from molere_cli.registry.registry import load_plugins

REGISTRY = load_plugins()
seeds, rates = st.integers(0, 2**20), st.floats(0, 1)


def pool(num_classes: int, size: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(num_classes, (size,), generator=generator)


@settings(max_examples=30)
@given(seed=seeds, rate=rates, num_classes=st.integers(2, 9))
def test_flip_and_pair_relabel_their_exact_share_of_every_class(
    seed: int, rate: float, num_classes: int
) -> None:
    labels = pool(num_classes, 300, seed)
    for kind in ("flip", "pair"):
        noisy = noisy_labels(labels, kind=kind, rate=rate, num_classes=num_classes, seed=seed)
        for label in range(num_classes):
            members = noisy[labels == label]
            moved = members[members != label]
            assert len(moved) == round(rate * len(members))
            assert len(moved.unique()) <= 1
            if kind == "pair" and len(moved):
                assert moved[0] == (label + 1) % num_classes


@settings(max_examples=30)
@given(seed=seeds, rate=rates, num_classes=st.integers(2, 9))
def test_uniform_noise_never_moves_more_than_its_share(seed: int, rate: float, num_classes: int) -> None:
    labels = pool(num_classes, 300, seed)
    noisy = noisy_labels(labels, kind="uniform", rate=rate, num_classes=num_classes, seed=seed)
    for label in range(num_classes):
        members = noisy[labels == label]
        assert int((members != label).sum()) <= round(rate * len(members))


def test_uniform_noise_draws_from_all_classes_alike() -> None:
    labels = torch.zeros(40_000, dtype=torch.int64)
    noisy = noisy_labels(labels, kind="uniform", rate=0.5, num_classes=5, seed=3)
    # Half keeps label 0; the other half is spread over all five, label 0 among them.
    counts = noisy.bincount(minlength=5)
    counts[0] -= 20_000
    assert chisquare(counts.numpy()).pvalue > 1e-3


@pytest.mark.parametrize("rate", [0.1, 0.4])
def test_instance_noise_has_its_rate_and_follows_the_image(rate: float) -> None:
    labels = torch.arange(4).repeat_interleave(1000)
    one_image = torch.randint(256, (3, 8, 8), generator=torch.Generator().manual_seed(0)).byte()
    images = one_image.expand(4000, -1, -1, -1).clone()
    images[500:1000] = 255 - images[500:1000]
    noisy = noisy_labels(labels, kind="instance", rate=rate, num_classes=4, seed=1, images=images)
    assert float((noisy != labels).double().mean()) == pytest.approx(rate, abs=0.03)
    flipped = noisy != labels
    first, second = (noisy[part][flipped[part]].mode().values for part in (slice(500), slice(500, 1000)))
    assert first != second


def test_instance_noise_needs_images_in_memory() -> None:
    with pytest.raises(DataError, match="read from files"):
        noisy_labels(torch.tensor([0, 1]), kind="instance", rate=0.1, num_classes=2, seed=0)


@settings(max_examples=30)
@given(seed=seeds, factor=st.floats(1.5, 40), num_classes=st.integers(2, 6))
def test_skew_is_exponential_and_as_large_as_it_can_be(seed: int, factor: float, num_classes: int) -> None:
    labels = torch.arange(num_classes).repeat(100)
    kept = skewed_positions(labels, factor=factor, num_classes=num_classes, seed=seed)
    counts = labels[kept].bincount(minlength=num_classes).tolist()
    assert counts == [round(100 * factor ** (-k / (num_classes - 1))) for k in range(num_classes)]
    assert len(kept.unique()) == len(kept)


def test_skew_of_an_uneven_pool_takes_what_the_smallest_class_allows() -> None:
    labels = torch.tensor([0] * 100 + [1] * 20 + [2] * 100)
    kept = skewed_positions(labels, factor=16, num_classes=3, seed=0)
    # Class 1 has 20 = n / 4, so n is 80.
    assert labels[kept].bincount().tolist() == [80, 20, 5]


def test_skew_that_leaves_too_little_names_the_largest_factor() -> None:
    with pytest.raises(ConfigError, match=r"class-skew 90 would leave a class with 1 .* about 50"):
        skewed_positions(torch.arange(2).repeat(100), factor=90, num_classes=2, seed=0)


@pytest.mark.parametrize("kind", ["uniform", "flip", "pair", "instance"])
def test_noise_follows_the_data_seed_alone_and_spares_test_and_tuning(kind: str) -> None:
    def load(**changes: int):  # type: ignore[no-untyped-def]
        return load_dataset(RunConfig.of(label_noise=kind, noise_rate=0.3, **changes).data, REGISTRY)

    clean, noisy = load_dataset(DataSettings(), REGISTRY), load()
    assert torch.equal(load(seed=7).dataset.pool.labels, noisy.dataset.pool.labels)
    assert not torch.equal(load(data_seed=7).dataset.pool.labels, noisy.dataset.pool.labels)
    assert torch.equal(noisy.dataset.pool.clean_labels, clean.dataset.pool.labels)
    assert noisy.fingerprint != clean.fingerprint
    assert 0.2 < noisy.num_mislabelled / 1000 < 0.4
    for name, examples in noisy.test_sets().items():
        assert torch.equal(examples.labels, clean.test_sets()[name].labels)
        assert examples.clean_labels is None


def test_a_sub_sample_of_a_skewed_pool_keeps_the_skew() -> None:
    data = load_dataset(DataSettings(class_skew=4, limit_train=300), REGISTRY)
    counts = data.dataset.pool.labels.bincount()
    assert len(data.dataset.pool) == 300
    assert float(counts[0] / counts[-1]) == pytest.approx(4, abs=0.5)


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_labels_from_a_file_replace_those_of_their_indices(tmp_path: Path) -> None:
    path = write(tmp_path / "noisy.csv", "index,label\n12,cat\n10,cat\n99,dog\n")
    labels, indices = torch.tensor([0, 0, 1]), torch.tensor([10, 11, 12])
    assert labels_from_file(path, labels, indices, ["cat", "dog"], num_full=100).tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n1,2\n", "there is no column 'index'; there are: a, b"),
        ("index,label\nx,0\n", "line 2: the index 'x' is no whole number"),
        ("index,label\n0,0\n0,1\n", "line 3: index 0 stands there twice"),
        ("index,label\n0,7\n", "line 2: '7' is neither a class name nor a class number"),
        ("index,label\n5,1\n", "names no example of the pool"),
    ],
)
def test_a_bad_label_file_is_one_sentence(text: str, message: str, tmp_path: Path) -> None:
    path = write(tmp_path / "noisy.csv", text)
    with pytest.raises(DataError, match=message):
        labels_from_file(path, torch.tensor([0, 1]), torch.tensor([0, 1]), ["cat", "dog"], num_full=6)


def test_a_missing_label_file_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cannot read .*none.csv: No such file"):
        labels_from_file(tmp_path / "none.csv", torch.tensor([0]), torch.tensor([0]), ["cat"], num_full=1)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--label-noise", "salt"], "must be one of none, uniform"),
        (["--noise-rate", "0.2"], "--noise-rate has no effect"),
        (["--label-noise", "labels.csv", "--noise-rate", "0.2"], "--noise-rate has no effect"),
    ],
)
def test_the_flags_are_checked(flags: list[str], message: str) -> None:
    result = CliRunner().invoke(app, ["train", "--method", "erm", *flags])
    assert result.exit_code != 0
    assert message in str(result.exception)


def test_a_run_records_its_noise_and_keeps_the_clean_labels(tmp_path: Path) -> None:
    flags = ["--label-noise", "pair", "--noise-rate", "0.2", "--limit-train", "100", "--epochs", "1"]
    command = ["train", "--method", "erm", *flags, "--out", str(tmp_path / "run"), "--quiet"]
    assert CliRunner().invoke(app, command).exit_code == 0
    table = pq.read_table(tmp_path / "run" / "pool.parquet").to_pydict()
    wrong = [clean != label for clean, label in zip(table["clean_label"], table["label"], strict=True)]
    assert sum(wrong) == 20
    assert '"num_mislabelled": 20' in (tmp_path / "run" / "environment.json").read_text()
