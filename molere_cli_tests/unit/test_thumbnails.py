"""Thumbnails: small enough, of the images that they name, and of those that a page asks for."""

from __future__ import annotations

import io

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from molere_cli.data import thumbnails
from molere_cli.data.thumbnails import MAX_BYTES, MAX_SIDE, thumbnail
from molere_cli.foundation.errors import ConfigError
from molere_cli.registry.registry import load_plugins
from molere_cli.runs import gallery_choice
from molere_cli.runs.run_directory import RunDir
from molere_cli.runs.run_tables import RunTable
from molere_cli.training.trained_model import load_for_evaluation
from molere_cli_tests.unit.test_results import trained


def pixels(webp: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(webp)).convert("RGB"))


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 9))
def test_a_tiny_image_stays_as_it_is(height, width, seed):
    image = torch.randint(
        256, (3, height, width), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed)
    )
    found = thumbnail(image)
    assert len(found) <= MAX_BYTES
    if max(height, width) <= 32:
        np.testing.assert_array_equal(pixels(found), image.permute(1, 2, 0).numpy())


@pytest.mark.parametrize("size", [(300, 200), (128, 128), (64, 1000), (3, 4000)])
def test_a_large_one_is_small_and_keeps_its_shape(size):
    noise = torch.randint(256, (3, *size), dtype=torch.uint8)
    for image in (noise, torch.full((3, *size), 90, dtype=torch.uint8)):
        found = thumbnail(image)
        height, width = pixels(found).shape[:2]
        assert len(found) <= MAX_BYTES
        assert max(height, width) <= MAX_SIDE
    scale = MAX_SIDE / max(size)
    assert abs(height - scale * size[0]) <= 1 and abs(width - scale * size[1]) <= 1
    assert np.abs(pixels(found).astype(int) - 90).max() <= 2


def test_a_pillow_without_webp_is_one_sentence(monkeypatch):
    monkeypatch.setattr(thumbnails.features, "check", lambda _name: False)
    with pytest.raises(ConfigError, match="train with --no-thumbnails"):
        thumbnail(torch.zeros(3, 4, 4, dtype=torch.uint8))


@pytest.fixture(scope="module")
def noisy(tmp_path_factory):
    root = tmp_path_factory.mktemp("thumbnails")
    return trained(root, dataset="digits", label_noise="uniform", noise_rate=0.3, limit_train=700)


def test_they_are_the_images_that_they_name(noisy):
    _, data, _, _ = load_for_evaluation(noisy, load_plugins())
    rows = pq.read_table(noisy.thumbnails_path).to_pylist()
    sets = data.test_sets()
    assert {row["set"] for row in rows} == {"pool"} | {f"test/{name}" for name in sets}
    places = {index: place for place, index in enumerate(data.pool_indices.tolist())}
    for row in rows:
        if row["set"] == "pool":
            image = data.dataset.pool.images[places[row["index"]]]
        else:
            image = sets[row["set"].removeprefix("test/")].images[row["index"]]
        np.testing.assert_array_equal(pixels(row["webp"]), image.permute(1, 2, 0).numpy())


def test_the_hardest_and_the_easiest_of_every_class_are_there(noisy):
    kept = pq.read_table(noisy.thumbnails_path).to_pylist()
    kept = {row["index"] for row in kept if row["set"] == "pool"}
    pool = pq.read_table(noisy.pool_path).to_pylist()
    for label in range(10):
        members = sorted((row for row in pool if row["label"] == label), key=lambda row: row["aum"])
        assert {row["index"] for row in members[:30] + members[-10:]} <= kept
    assert len(kept) <= gallery_choice.HARDEST + gallery_choice.EASIEST + 2 * gallery_choice.MOVED
    assert len(kept) < len(pool)


def test_of_a_test_set_what_is_wrong(noisy):
    kept = pq.read_table(noisy.thumbnails_path).to_pylist()
    kept = {row["index"] for row in kept if row["set"] == "test/test"}
    tested = [row for row in pq.read_table(noisy.predictions_path).to_pylist() if row["test_set"] == "test"]
    wrong = [row for row in tested if row["label"] != row["prediction"]]
    nearest = sorted(wrong, key=lambda row: -row["margin"])[: gallery_choice.WRONG // 2]
    assert kept == {row["index"] for row in nearest} and kept


def test_none_where_none_are_wanted(tmp_path):
    run = trained(tmp_path, dataset="digits", limit_train=60, thumbnails=False)
    assert not run.has_thumbnails()
    assert RunTable.thumbnails(run) is None


def test_those_that_are_lost_are_missed(noisy, tmp_path):
    import shutil

    from molere_cli.foundation.errors import RunError

    copy = RunDir(tmp_path / "run")
    shutil.copytree(noisy.path, copy.path)
    copy.thumbnails_path.unlink()
    with pytest.raises(RunError, match=r"thumbnails\.parquet"):
        RunTable.thumbnails(copy)


scores = st.one_of(st.floats(-1, 1), st.just(float("nan")))


@given(st.lists(st.tuples(st.integers(0, 6), scores), max_size=60), st.integers(1, 30))
def test_every_class_gives_as_many(rows, most):
    labels = np.array([label for label, _ in rows], dtype=np.int64)
    score = np.array([value for _, value in rows])
    found = gallery_choice.by_class(labels, score, most=most).tolist()
    known = [row for row in range(len(rows)) if score[row] == score[row]]
    classes = sorted({labels[row] for row in known})
    assert len(found) == len(set(found)) <= most and set(found) <= set(known)
    if len(classes) > most:
        assert found == sorted(known, key=lambda row: score[row])[:most]
        return
    for label in classes:
        members = sorted((row for row in known if labels[row] == label), key=lambda row: score[row])
        assert [row for row in found if labels[row] == label] == members[: most // len(classes)]


def test_equal_weights_move_nothing():
    for weight in (np.ones(9), np.full(9, np.nan), np.array([])):
        assert [len(rows) for rows in gallery_choice.raised_and_lowered(weight)] == [0, 0]
    weight = np.array([1.0, 3.0, np.nan, 0.5, 2.0, 0.1])
    raised, lowered = gallery_choice.raised_and_lowered(weight, most=2)
    assert (raised.tolist(), lowered.tolist()) == ([1, 4], [5, 3])
