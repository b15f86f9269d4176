"""`molere predict`: the classes that the run itself would predict, for pictures that lie anywhere."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from molere_timm.small_cnn import SmallCNN
from timm.models import load_checkpoint
from torchvision.transforms.v2 import functional as transforms

from molere_cli.api.predictions import pictures_at
from molere_cli.api.run_schedule import train_runs
from molere_cli.config.run_config import RunConfig
from molere_cli.data.walk import Walk
from molere_cli.foundation.errors import DataError
from molere_cli.foundation.progress import NoProgress
from molere_cli.runs.run_directory import RunDir
from molere_cli_tests.reliability.test_strangers import REGISTRY, draw, picture

CLASSES = ("cat", "dog", "[red] newt")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with a run, and the dataset that it was trained on."""
    root = tmp_path_factory.mktemp("trained")
    draw(root / "photos" / "train", *CLASSES, count=12)
    draw(root / "photos" / "test", *CLASSES, count=5, first=12)
    config = RunConfig.of(
        dataset=f"folder:{root / 'photos'}",
        method="erm",
        image_size=12,
        epochs=2,
        batch_size=8,
        workers=0,
        precision="fp32",
        device="cpu",
    )
    (run,) = train_runs(config, [0], REGISTRY, runs=root / "runs", progress=NoProgress())
    run.path.rename(root / "run")
    shutil.rmtree(root / "runs")
    # The dataset is not where it was.
    (root / "photos").rename(root / "moved")
    return root


@pytest.fixture
def run(trained, in_tmp):
    shutil.copytree(trained, in_tmp, dirs_exist_ok=True)
    return "run"


def test_what_it_predicts_is_what_the_run_predicted(run, in_tmp, molere):
    done = molere(f"predict {run} moved/test --csv found.csv --top 2")
    assert (done.code, done.out) == (0, "")
    with open("found.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    tested = pq.read_table("run/predictions.parquet").to_pydict()
    # The test set is in the order of its classes, and a folder in that of its paths: here the same.
    assert [row["path"] for row in rows] == [
        f"moved/test/{name}/{number:03d}.png" for name in sorted(CLASSES) for number in range(12, 17)
    ]
    assert [row["prediction"] for row in rows] == [sorted(CLASSES)[k] for k in tested["prediction"]]
    for row, label, margin in zip(rows, tested["label"], tested["margin"], strict=True):
        first, second = float(row["probability"]), float(row["probability_2"])
        own = row["prediction"] == sorted(CLASSES)[label]
        expected = margin if own else -margin
        if own or row["prediction_2"] == sorted(CLASSES)[label]:
            assert first - second == pytest.approx(expected, abs=1e-5)


def test_its_probabilities_are_those_of_the_plain_network(run, molere):
    done = molere(f"predict {run} moved/test/dog/012.png --top 9 --json")
    (found,) = json.loads(done.out)
    network = SmallCNN(num_classes=3)
    load_checkpoint(network, "run/checkpoint/classifier.safetensors")
    environment = RunDir(Path("run")).environment()
    pixels = transforms.resize(transforms.pil_to_tensor(picture(1, 12)), [12, 12], antialias=True) / 255
    mean, std = (torch.tensor(environment["input"][name]).view(3, 1, 1) for name in ("mean", "std"))
    with torch.no_grad():
        probabilities = network.eval()(((pixels - mean) / std)[None]).softmax(dim=1)[0]
    expected = sorted(zip(probabilities.tolist(), sorted(CLASSES), strict=True), reverse=True)
    assert [each["class"] for each in found["predictions"]] == [name for _, name in expected]
    assert [each["probability"] for each in found["predictions"]] == pytest.approx(
        [probability for probability, _ in expected], abs=1e-5
    )


def test_a_table_shows_names_as_they_are(run, molere):
    done = molere(f"predict {run} 'moved/test/*/01[23].png' --top 3")
    assert done.code == 0
    assert done.out.count("[red] newt 0.") == 6
    assert "note: 1 skipped" not in done.err


def test_what_is_skipped_is_said(run, in_tmp, molere):
    (in_tmp / "moved" / "test" / "dog" / "notes.txt").write_text("none")
    done = molere(f"predict {run} moved/test/dog")
    assert done.code == 0 and "note: skipped: .txt 1" in done.err


@pytest.mark.parametrize(
    ("images", "sentence"),
    [
        ("nowhere", "there is no picture at nowhere; give files"),
        ("'moved/*.gif'", "there is no picture at moved/*.gif; give files"),
        ("empty", "there is no picture at empty; give files"),
        ("moved/bad.png moved/test", "moved/bad.png"),
    ],
)
def test_what_is_no_picture_is_one_sentence_and_no_file_is_written(run, in_tmp, molere, images, sentence):
    (in_tmp / "empty").mkdir()
    (in_tmp / "moved" / "bad.png").write_bytes(b"no picture")
    done = molere(f"predict {run} {images} --csv found.csv")
    assert (done.code, done.out, done.err.count("\n")) == (1, "", 1)
    assert sentence in done.err
    assert not (in_tmp / "found.csv").exists()


def test_a_folder_that_is_no_run_is_one_sentence(in_tmp, molere):
    draw(in_tmp, "pictures", count=1)
    done = molere("predict pictures pictures")
    assert done.code == 1 and "is not a run directory" in done.err


def test_a_run_that_did_not_record_its_input_needs_its_dataset(run, trained, in_tmp, molere):
    path = in_tmp / "run" / "environment.json"
    environment = json.loads(path.read_text(encoding="utf-8"))
    del environment["input"], environment["digests"]
    path.write_text(json.dumps(environment), encoding="utf-8")
    (in_tmp / "run" / "DONE").unlink()
    assert "there is no folder" in molere(f"predict {run} moved/test/dog").err
    (trained / "moved").rename(trained / "photos")
    assert molere(f"predict {run} moved/test/dog").code == 0
    (trained / "photos").rename(trained / "moved")


def test_pictures_are_taken_once_and_in_order(in_tmp):
    draw(in_tmp / "a", "x", "y", count=2)
    assert pictures_at(["a/y", "a/x/001.png", "a"], Walk()) == [
        *("a/y/000.png", "a/y/001.png", "a/x/001.png", "a/x/000.png")
    ]
    assert pictures_at(["a/**/*.png"], Walk()) == [
        *("a/x/000.png", "a/x/001.png", "a/y/000.png", "a/y/001.png")
    ]
    with pytest.raises(DataError, match="there is no picture at b"):
        pictures_at(["a", "b"], Walk())
