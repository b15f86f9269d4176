"""The commands as functions: the bits of the commands, data from memory, a user's own training loop."""

from __future__ import annotations

import logging
import subprocess
import sys
from logging.handlers import QueueHandler
from queue import SimpleQueue

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import molere_cli as molere
from molere_cli.api.arrays import as_images, as_labels
from molere_cli.config.plan import make_plan
from molere_cli.config.run_config import RunConfig
from molere_cli.data.source import load_dataset
from molere_cli.foundation.errors import ConfigError, DataError, MolereError
from molere_cli.registry.registry import load_plugins
from molere_cli.runs.run_directory import RunDir
from molere_cli.runs.run_tables import RunTable
from molere_cli.splits.split_file import read_split
from molere_cli_tests.training import assert_same_tensors, tensors_of, without_times

SMALL = {"epochs": 2, "device": "cpu", "precision": "fp32", "batch_size": 50}


def digits():
    return load_dataset(RunConfig.of(dataset="digits", limit_train=200).data, load_plugins()).dataset


def pair(examples):
    return examples.images.numpy(), examples.labels.numpy()


def from_arrays(name="digits", **settings):
    own = digits()
    return molere.dataset(
        *pair(own.pool),
        test=pair(own.tests["test"]),
        tuning=pair(own.tuning),
        class_names=own.class_names,
        mean=own.mean,
        std=own.std,
        augment=own.augment,
        name=name,
        **settings,
    )


@pytest.fixture
def arrays(in_tmp):
    return from_arrays()


@pytest.mark.slow
def test_training_on_arrays_gives_the_bits_of_the_command(arrays, in_tmp):
    (ours,) = molere.train(arrays, methods="erm", seeds=3, **SMALL)
    flags = "--epochs 2 --device cpu --precision fp32 --batch-size 50 --seed 3 --limit-train 200 --out theirs"
    command = [sys.executable, "-m", "molere_cli", "train", "--dataset", "digits", "--method", "erm"]
    subprocess.run([*command, *flags.split(), "--quiet"], check=True, cwd=in_tmp)
    theirs = RunDir(in_tmp / "theirs")
    assert_same_tensors(load_file(ours.path / "checkpoint/classifier.safetensors"), tensors_of(theirs))
    assert without_times(ours.metrics) == without_times(theirs.metrics())


def test_the_whole_story(arrays, in_tmp):
    hard = molere.rank(arrays, **SMALL)
    split = hard.split(0.2)
    assert split.finding is None
    runs = molere.train(arrays, methods=["erm", "lrw", "molere"], split=split, seeds=range(2), **SMALL)
    assert [run.config["method"] for run in runs] == ["erm", "erm", "lrw", "lrw", "molere", "molere"]
    assert hard.run in {run.path for run in runs}, "ERM with seed 0 is there already"
    table = molere.compare(runs)
    assert [row["label"] for row in table.rows] == ["ERM", "LRW-Hard", "MOLERE (LRW-Opt)"]
    assert "LRW-Hard" in repr(table)
    assert "<caption>arrays:digits" in table._repr_html_()
    again = molere.train(arrays, methods="erm", seeds=[0, 1], **SMALL)
    assert [run.path for run in again] == [run.path for run in runs[:2]]


def test_a_runs_classifier_is_the_network_that_predicts_and_says_what_it_takes(arrays, in_tmp):
    (run,) = molere.train(arrays, methods="erm", out="mine", **SMALL)
    assert run.path.resolve() == (in_tmp / "mine").resolve()
    trained = run.classifier()
    assert (trained.backbone, trained.class_names) == (run.config["backbone"], arrays.class_names)
    images = arrays.loaded.dataset.pool.images[:5]
    assert trained.input.image_size == tuple(images.shape[2:])
    mean, std = (torch.tensor(values)[:, None, None] for values in (trained.input.mean, trained.input.std))
    with torch.no_grad():
        logits = trained.network.eval()((images.float() / 255 - mean) / std)
    assert logits.softmax(dim=1).numpy() == pytest.approx(run.predict(images).probabilities, abs=1e-5)


def test_a_ranking_is_hardest_first_and_so_is_its_split(arrays, in_tmp):
    hard = molere.rank(arrays, score="margin", **SMALL)
    table = hard.table.to_pydict()
    assert table["margin"] == sorted(table["margin"])
    assert sorted(table["index"]) == sorted(arrays.loaded.pool_indices.tolist())
    pool = RunTable.pool(RunDir(hard.run)).read(["index", "margin"]).to_pydict()
    by_index = dict(zip(pool["index"], pool["margin"], strict=True))
    assert [by_index[index] for index in table["index"]] == table["margin"]
    split = hard.split(0.1, out="mine.parquet")
    on_disk = read_split(split.path)
    assert torch.equal(on_disk.in_validation, split.in_validation)
    chosen, rest = hard.values[split.in_validation], hard.values[~split.in_validation]
    assert chosen.mean() < rest.mean()
    assert on_disk.info.erm_run is not None


def test_a_loop_of_ones_own_is_ranked_as_a_run_would_be(arrays, in_tmp):
    torch.manual_seed(0)
    labels = arrays.loaded.dataset.pool.labels
    logits = torch.randn(8, len(labels), 10) + 2 * torch.nn.functional.one_hot(labels, 10)
    probabilities = logits.double().softmax(dim=2)
    own = probabilities[:, torch.arange(len(labels)), labels]
    others = probabilities.clone()
    others[:, torch.arange(len(labels)), labels] = -1
    margins = own - others.max(dim=2).values
    expected = {
        "aum": margins.mean(dim=0),
        "early-aum": margins[:2].mean(dim=0),
        "margin": margins[-1],
        "loss": -own[-1].log(),
    }
    for score, values in expected.items():
        found = molere.rank(arrays, logits=logits.numpy(), score=score)
        torch.testing.assert_close(found.values, values, rtol=1e-5, atol=1e-5)
        assert found.run is None
    by_margins = molere.rank(arrays, margins=margins.float())
    torch.testing.assert_close(by_margins.values, expected["aum"], rtol=1e-5, atol=1e-5)
    right = (logits.argmax(dim=2) == labels).long()
    lost = ((right[:-1] == 1) & (right[1:] == 0)).sum(dim=0).double()
    lost[right.sum(dim=0) == 0] = 8
    assert torch.equal(molere.rank(arrays, logits=logits, score="forgetting").values, lost)
    split = by_margins.split(0.1)
    assert split.split.info.erm_run is None
    (run,) = molere.train(arrays, methods="lrw", split=split, **SMALL)
    assert torch.equal(read_split(RunDir(run.path).split_path).in_validation, split.in_validation)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"logits": np.zeros((2, 3, 10), np.float32)}, "logits must be floating point (epochs, 200, 10)"),
        ({"logits": np.full((2, 200, 10), np.nan, np.float32)}, "logits must be finite"),
        ({"logits": np.zeros((2, 200, 10), int)}, "logits must be floating point"),
        ({"margins": np.full((2, 200), 3.0)}, "of probabilities, not of logits"),
        ({"margins": np.zeros((2, 200)), "score": "loss"}, "loss cannot be had from margins"),
        ({"margins": np.zeros((2, 200)), "epochs": 3}, "epochs has no effect on what your own loop"),
        ({"score": "oof-margin"}, "use `molere split --score oof-margin`"),
        ({"method": "lrw"}, "neither method nor split"),
        ({"epoch": 3}, "epoch"),
    ],
)
def test_what_cannot_be_ranked_is_one_sentence(given, sentence, arrays):
    with pytest.raises(MolereError) as caught:
        molere.rank(arrays, **given)
    assert sentence in str(caught.value)


IMAGES = np.arange(4 * 6 * 5, dtype=np.uint8).reshape(4, 6, 5)


def test_images_are_read_in_every_layout():
    grey = as_images(IMAGES, what="images")
    assert grey.shape == (4, 3, 6, 5)
    assert torch.equal(grey[:, 2], torch.from_numpy(IMAGES))
    colour = np.stack([IMAGES, IMAGES + 1, IMAGES + 2], axis=1)
    first = as_images(torch.from_numpy(colour), what="images")
    last = as_images(colour.transpose(0, 2, 3, 1), what="images")
    assert torch.equal(first, torch.from_numpy(colour))
    assert torch.equal(first, last)


@pytest.mark.parametrize(
    ("images", "sentence"),
    [
        (IMAGES / 255, "must be uint8 from 0 to 255, but are float64; scale"),
        (IMAGES.astype(int), "must be uint8"),
        (np.zeros((4, 3, 8, 3), np.uint8), "as (N, C, H, W) and as (N, H, W, C)"),
        (np.zeros((4, 2, 8, 8), np.uint8), "must have 1 or 3 channels"),
        (np.zeros((4, 8), np.uint8), "must be (N, H, W)"),
        (np.zeros((0, 8, 8), np.uint8), "must be (N, H, W)"),
    ],
)
def test_images_that_could_be_misread_are_refused(images, sentence):
    with pytest.raises(DataError) as caught:
        as_images(images, what="images")
    assert sentence in str(caught.value)


@pytest.mark.parametrize(
    ("labels", "sentence"),
    [
        ([0.0, 1.0, 0.0, 1.0], "must be whole numbers"),
        ([True, False, True, False], "must be whole numbers"),
        ([[0, 1, 0, 1]], "must be whole numbers"),
        ([0, 1], "there are 4 images, but 2 labels"),
        ([0, -1, 0, 1], "one is -1"),
    ],
)
def test_labels_that_could_be_misread_are_refused(labels, sentence):
    with pytest.raises(DataError) as caught:
        as_labels(labels, num_examples=4, what="labels")
    assert sentence in str(caught.value)


def test_a_torch_dataset_and_one_of_hugging_face_are_the_arrays(in_tmp):
    datasets = pytest.importorskip("datasets")
    own = digits()
    rows = [
        (Image.fromarray(image.permute(1, 2, 0).numpy()), int(label))
        for image, label in zip(own.pool.images, own.pool.labels, strict=True)
    ]
    as_torch = molere.dataset(rows, test=pair(own.tests["test"]), name="torch")
    features = datasets.Features(
        {"label": datasets.ClassLabel(names=list(own.class_names)), "image": datasets.Image()}
    )
    table = datasets.Dataset.from_dict(
        {"image": [image for image, _ in rows], "label": [label for _, label in rows]}, features=features
    )
    as_table = molere.dataset(table, test=pair(own.tests["test"]), name="table")
    for data in (as_torch, as_table):
        assert torch.equal(data.loaded.dataset.pool.images, own.pool.images)
        assert torch.equal(data.loaded.dataset.pool.labels, own.pool.labels)
    assert as_table.class_names == own.class_names
    with pytest.raises(DataError, match="images of several sizes"):
        molere.dataset([(rows[0][0], 0), (rows[0][0].resize((4, 4)), 1)])
    with pytest.raises(DataError, match="have no labels"):
        molere.dataset(own.pool.images)


def test_what_is_not_given_is_held_out_and_measured(in_tmp):
    own = digits()
    data = molere.dataset(*pair(own.pool), test=0.25, tuning=0.2, groups=own.pool.labels % 2)
    dataset = data.loaded.dataset
    assert len(dataset.tests["test"]) == 50
    assert len(dataset.tuning) == 30
    assert len(data) == 120
    indices = [part.indices for part in (dataset.pool, dataset.tests["test"], dataset.tuning)]
    assert torch.cat(indices).sort().values.tolist() == list(range(200))
    everything = own.pool.images.double() / 255
    assert dataset.mean == pytest.approx(everything.mean(dim=(0, 2, 3)).tolist())
    assert dataset.std == pytest.approx(everything.std(dim=(0, 2, 3), correction=0).tolist())
    assert dataset.group_names == ("0", "1")
    (run,) = molere.train(data, methods="erm", select="best", **SMALL)
    assert run.results["test/worst_group"] <= run.results["test/accuracy"]


def test_predictions_of_arrays_are_those_of_the_run(arrays, in_tmp):
    (run,) = molere.train(arrays, methods="erm", **SMALL)
    test = digits().tests["test"]
    found = run.predict(test.images)
    recorded = run.predictions.filter([name == "test" for name in run.predictions["test_set"].to_pylist()])
    assert found.labels.tolist() == recorded["prediction"].to_pylist()
    assert found.probabilities.max(axis=1) == pytest.approx(recorded["probability"].to_numpy(), abs=1e-6)
    (in_tmp / "new").mkdir()
    for number, image in enumerate(test.images[:3]):
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(in_tmp / "new" / f"{number}.png")
    files = run.predict("new")
    assert files.paths == ("new/0.png", "new/1.png", "new/2.png")
    assert files.probabilities == pytest.approx(found.probabilities[:3], abs=1e-6)
    assert files.classes == found.classes[:3]


@pytest.mark.slow
def test_a_process_that_holds_no_arrays_says_so_and_predicts_all_the_same(arrays, in_tmp):
    (run,) = molere.train(arrays, methods="erm", **SMALL)
    (in_tmp / "new").mkdir()
    Image.fromarray(digits().pool.images[0, 0].numpy()).save(in_tmp / "new" / "0.png")
    cli = [sys.executable, "-m", "molere_cli"]
    kept = {"capture_output": True, "text": True, "cwd": in_tmp}
    predicted = subprocess.run([*cli, "predict", run.path, "new"], **kept)
    assert predicted.returncode == 0, predicted.stderr
    evaluated = subprocess.run([*cli, "eval", run.path], **kept)
    assert evaluated.returncode == 1
    assert "was in the memory of a Python process; give it to `molere_cli.dataset(" in evaluated.stderr


def test_nothing_is_printed_and_the_logger_hears(arrays, capfd, monkeypatch):
    logger, heard = logging.getLogger("molere"), SimpleQueue()
    monkeypatch.setattr(logger, "handlers", [*logger.handlers, QueueHandler(heard)])
    logger.setLevel(logging.DEBUG)
    try:
        molere.train(arrays, methods="erm", **SMALL)
    finally:
        logger.setLevel(logging.NOTSET)
    out, err = capfd.readouterr()
    assert (out, err) == ("", "")
    records = [heard.get() for _ in range(heard.qsize())]
    assert {record.levelname for record in records} == {"INFO", "DEBUG"}
    assert any("ERM seed 0: 2 epochs" in record.message for record in records)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"dataset": "digits"}, "dataset is settled by data"),
        ({"seed": 3}, "seed is settled by data, methods, split or seeds"),
        ({"method": "erm"}, "method is settled by"),
        ({"epoch": 3}, "unknown"),
        ({"reweighter_interval": 3, "methods": "erm"}, "no effect"),
    ],
)
def test_a_setting_that_makes_no_sense_is_one_sentence(settings, sentence, arrays):
    with pytest.raises(ConfigError) as caught:
        molere.train(arrays, **{"methods": "erm", **settings})
    assert sentence in str(caught.value)


def test_a_plan_of_arrays_is_known_to_everybody(arrays):
    assert make_plan(RunConfig.of(dataset="arrays:digits", method="erm"), load_plugins()).method.name == "erm"
