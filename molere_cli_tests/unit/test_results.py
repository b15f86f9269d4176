"""What a run writes of every example: what the network says of it, and where its image lies."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from scipy.special import softmax

from molere_cli.api.run_schedule import train_runs
from molere_cli.config.run_config import RunConfig
from molere_cli.data.origins import path_as_text
from molere_cli.engine.prediction_metrics import Predictions
from molere_cli.foundation.progress import NoProgress
from molere_cli.registry.specs import Examples
from molere_cli.runs.run_directory import RunDir
from molere_cli.training.run_outputs import _of_examples
from molere_cli.training.trained_model import load_for_evaluation
from molere_cli_tests.reliability.test_strangers import REGISTRY, draw, picture

CLASSES = ("newt", "cat", "dog")


def trained(root: Path, **settings) -> RunDir:
    config = RunConfig.of(
        method="erm", epochs=1, batch_size=8, workers=0, precision="fp32", device="cpu", **settings
    )
    (run,) = train_runs(config, [0], REGISTRY, runs=root / "runs", progress=NoProgress())
    return run


@pytest.fixture(scope="module")
def of_a_folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("folder")
    draw(root / "photos" / "train", *CLASSES, count=9)
    draw(root / "photos" / "test", *CLASSES, count=3, first=9)
    return trained(root, dataset=f"folder:{root / 'photos'}", image_size=8, limit_train=18)


def test_probabilities_are_those_of_the_checkpoint(of_a_folder):
    _, data, classifier, _ = load_for_evaluation(of_a_folder, REGISTRY)
    mean, std = (np.array(values).reshape(3, 1, 1) for values in (data.dataset.mean, data.dataset.std))
    network = classifier.module.double().eval()
    for name in ("pool", "predictions"):
        table = pq.read_table(of_a_folder.path / f"{name}.parquet").to_pydict()
        pixels = [np.asarray(Image.open(path)).transpose(2, 0, 1) / 255 for path in table["path"]]
        inputs = torch.from_numpy((np.stack(pixels) - mean) / std)
        with torch.no_grad():
            found = softmax(network(inputs).numpy(), axis=1)
        order = np.argsort(-found, axis=1)
        assert table["prediction"] == order[:, 0].tolist()
        assert table["second"] == order[:, 1].tolist()
        rows, labels = np.arange(len(found)), np.array(table["label"])
        for column, expected in {
            "probability": found[rows, order[:, 0]],
            "second_probability": found[rows, order[:, 1]],
            "label_probability": found[rows, labels],
            "loss": -np.log(found[rows, labels]),
        }.items():
            np.testing.assert_allclose(table[column], expected, rtol=1e-4, atol=1e-6)
        names = sorted(CLASSES)
        assert [Path(path).parent.name for path in table["path"]] == [names[k] for k in labels]
        assert all(os.path.isabs(path) for path in table["path"])
        assert table["group"] == [None] * len(found)


def test_a_sub_sample_has_the_paths_of_its_own_images(of_a_folder):
    table = pq.read_table(of_a_folder.pool_path).to_pydict()
    every = [f"{name}/{number:03d}.png" for name in sorted(CLASSES) for number in range(9)]
    assert len(table["index"]) == 18
    assert ["/".join(Path(path).parts[-2:]) for path in table["path"]] == [every[k] for k in table["index"]]


def test_a_row_of_a_parquet_file_is_named(tmp_path):
    import pyarrow as pa

    def encoded(kind: int, number: int, size: int) -> dict[str, object]:
        buffer = io.BytesIO()
        picture(kind, number, size=(size, size)).save(buffer, "PNG")
        return {"bytes": buffer.getvalue(), "path": None}

    (tmp_path / "p").mkdir()
    # Of two sizes, so that they are decoded as they are needed.
    for part, first in (("train-00000-of-00002", 0), ("train-00001-of-00002", 6), ("test", 12)):
        rows = [
            (encoded(number % 2, number, 8 + number % 3), number % 2) for number in range(first, first + 6)
        ]
        images, labels = zip(*rows, strict=True)
        table = pa.table({"image": list(images), "label": list(labels)})
        pq.write_table(table, tmp_path / "p" / f"{part}.parquet")
    run = trained(tmp_path, dataset=f"parquet:{tmp_path / 'p'}", image_size=8)
    table = pq.read_table(run.pool_path).to_pydict()
    for index, path in zip(table["index"], table["path"], strict=True):
        assert path == str(tmp_path / "p" / f"train-0000{index // 6}-of-00002.parquet") + f":{index % 6}"


def test_images_in_memory_have_no_path_and_groups_stay(tmp_path):
    run = trained(tmp_path, dataset="colour-digits", limit_train=60)
    for name in ("pool", "predictions"):
        table = pq.read_table(run.path / f"{name}.parquet").to_pydict()
        assert set(table["path"]) == {None}
        assert set(table["group"]) <= set(range(20)) and len(set(table["group"])) > 1


def test_one_class_has_no_second():
    predictions = Predictions.of_logits(torch.zeros(3, 1), torch.zeros(3, dtype=torch.int64))
    examples = Examples(images=torch.zeros(3, 3, 1, 1, dtype=torch.uint8), labels=predictions.labels)
    columns = _of_examples(predictions, examples, torch.arange(3))
    assert columns["second"].to_pylist() == columns["second_probability"].to_pylist() == [None] * 3
    assert columns["probability"].to_pylist() == [1.0] * 3


def test_equal_logits_name_two_classes():
    predictions = Predictions.of_logits(torch.zeros(2, 4), torch.tensor([1, 3]))
    assert (predictions.predicted.tolist(), predictions.second.tolist()) == ([0, 0], [1, 1])
    assert predictions.probability.tolist() == predictions.second_probability.tolist() == [0.25, 0.25]


def test_a_path_that_is_not_utf_8_is_shown():
    assert path_as_text(Path("/a/b\udcff.png")) == "/a/b\\xff.png"
