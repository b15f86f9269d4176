"""A validation set from another dataset: which examples, which labels, and who refuses it."""

from __future__ import annotations

import json

import pytest
import torch

from molere_cli import Dataset, DatasetSpec, Examples, hookimpl
from molere_cli.api.new_split import new_split_file
from molere_cli.api.run_schedule import train_runs
from molere_cli.config.plan import make_plan
from molere_cli.data.feed import normalize
from molere_cli.data.source import load_dataset
from molere_cli.foundation.errors import ConfigError, MolereError, SplitError
from molere_cli.foundation.progress import NoProgress
from molere_cli.hardness.make_split import make_split, split_for
from molere_cli.splits.split_file import read_split, write_split
from molere_cli.training.build_engine import engine_on_split
from molere_cli.training.resume_run import resume_run
from molere_cli_tests.conftest import tiny_dataset, tiny_examples
from molere_cli_tests.training import (
    INSTANCE,
    KilledAfter,
    Notebook,
    assert_same_tensors,
    tensors_of,
    tiny_config,
    train_one,
    without_times,
)

VALIDATION = torch.arange(64) % 3 == 0

WARM_UP = {**INSTANCE, "warmup_epochs": 1}


class OtherDatasets:
    """`twin`: part of the tiny pool; `sketches`: other images of three of its classes, in another order."""

    @hookimpl
    def register_datasets(self, register):
        register(DatasetSpec(name="twin", description="A part of tiny.", load=self.twin))
        register(
            DatasetSpec(name="sketches", description="Other images.", load=self.sketches, argument="SEED")
        )
        register(DatasetSpec(name="fruits", description="Other classes.", load=self.fruits))

    def twin(self, request):
        pool = tiny_dataset().pool
        part = Examples(images=pool.images[VALIDATION], labels=pool.labels[VALIDATION])
        return Dataset(pool=part, tests={"test": part}, class_names=tuple("abcd"))

    def sketches(self, request):
        pool = tiny_examples(20, seed=int(request.argument))
        pool = Examples(images=pool.images, labels=pool.labels % 3)
        return Dataset(pool=pool, tests={"test": tiny_examples(3, seed=9)}, class_names=("d", "b", "a"))

    def fruits(self, request):
        pool = tiny_examples(20, seed=4)
        return Dataset(pool=pool, tests={"test": pool}, class_names=("a", "b", "c", "pear"))


@pytest.fixture
def others(registry):
    registry.add(OtherDatasets(), "other_datasets")
    assert registry.problems == []
    return registry


def natural(dataset: str, **changes):
    return tiny_config(**{"method": "lrw", "split": f"natural:{dataset}", **WARM_UP, **changes})


def engine_of(config, registry):
    data = load_dataset(config.data, registry)
    split = make_split(config, registry, data, erm=None, runs=None, progress=NoProgress())
    return engine_on_split(make_plan(config, registry), data, split), split


@pytest.mark.parametrize("method", ["lrw", "mwn", "l2r", "gdw"])
def test_a_part_of_the_pool_as_another_dataset_trains_bit_for_bit_like_that_split(others, method):
    settings = {"method": method, **(WARM_UP if method == "lrw" else {})}
    elsewhere, split = engine_of(tiny_config(split="natural:twin", **settings), others)
    here_config = tiny_config(split="random", **settings)
    here_split = make_split(here_config, others, elsewhere.data, erm=None, runs=None, progress=NoProgress())
    here_split.in_validation.copy_(VALIDATION)
    here = engine_on_split(make_plan(here_config, others), elsewhere.data, here_split)
    losses = [[metrics.get("val/loss") for metrics in engine.loop.epochs()] for engine in (elsewhere, here)]
    assert losses[0] == losses[1]
    assert losses[0][-1] is not None
    assert_same_tensors(elsewhere.classifier.module.state_dict(), here.classifier.module.state_dict())
    assert not split.in_validation.any()


def test_validation_batches_are_the_other_pool_with_the_runs_labels(others):
    engine, split = engine_of(natural("sketches:5", augment="none", meta_batch_size=20), others)
    validation = engine.loop.method._reweighting._validation
    validation.start_epoch(1, num_batches=1)
    batch = validation.next()
    pool = tiny_examples(20, seed=5)
    assert batch.positions.sort().values.tolist() == list(range(20))
    assert torch.equal(batch.images, normalize(pool.images[batch.positions], engine.feed_settings))
    own_label = torch.tensor([3, 1, 0])  # of "d", "b" and "a" among "abcd"
    assert torch.equal(batch.labels, own_label[pool.labels[batch.positions] % 3])
    assert engine.loop.method.before_epoch(1).tolist() == list(range(64))
    assert (split.info.strategy, split.info.val_dataset) == ("natural", "sketches:5")


def test_a_class_that_is_missing_there_is_noted(others):
    progress, config = Notebook(), natural("sketches:5")
    make_split(config, others, load_dataset(config.data, others), erm=None, runs=None, progress=progress)
    assert progress.notes == ["validation is the pool of sketches:5: 20 examples, none of class c"]


def test_a_killed_run_resumes_to_the_same_bits(others, tmp_path):
    config = natural("sketches:5")
    whole = train_one(config, others, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train_one(config, others, tmp_path / "cut", progress=KilledAfter(2, label_part="lrw"))
    (unfinished,) = (tmp_path / "cut").iterdir()
    resumed = resume_run(unfinished, others, progress=NoProgress())
    assert_same_tensors(tensors_of(whole), tensors_of(resumed))
    assert without_times(whole.metrics()) == without_times(resumed.metrics())
    assert (whole.path / "pool.parquet").read_bytes() == (resumed.path / "pool.parquet").read_bytes()
    assert whole.environment()["label"] == "LRW-Natural"
    assert whole.environment()["split"]["strategy"] == "natural:sketches:5"
    assert not {"delta", "score"} & whole.config().keys()


def test_a_split_file_brings_its_validation_set_with_it_and_checks_it(others, tmp_path):
    config = natural("sketches:5")
    made = new_split_file(
        tiny_config(split="natural:sketches:5"),
        others,
        erm=None,
        out=tmp_path / "natural.parquet",
        runs=tmp_path,
        progress=NoProgress(),
    )
    by_file = tiny_config(method="lrw", split=str(made.path), **WARM_UP)
    named, filed = (train_one(c, others, tmp_path / "runs") for c in (config, by_file))
    assert_same_tensors(tensors_of(named), tensors_of(filed))
    info = made.split.info.model_copy(update={"val_fingerprint": "0" * 32})
    write_split(type(made.split)(**{**vars(made.split), "info": info}), made.path)
    assert read_split(made.path).info.val_fingerprint == "0" * 32
    with pytest.raises(SplitError, match=r"'sketches:5', which the split validates on, has changed"):
        train_one(by_file, others, tmp_path / "runs")
    erm = make_plan(tiny_config(split=str(made.path), train_on="train"), others)
    with pytest.raises(ConfigError, match=r"another dataset \(sketches:5\), which method 'erm' cannot use"):
        split_for(erm, made.data, runs=tmp_path, progress=NoProgress())


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"method": "rho"}, r"another dataset \(twin\), which method 'rho' cannot use; use --method lrw"),
        ({"method": "erm", "train_on": "train"}, r"which method 'erm' cannot use"),
        ({"method": "erm"}, r"--split has no effect with method 'erm'"),
        ({"method": "molere"}, r"which method 'molere' cannot use"),
        ({"train_on": "train"}, r"--train-on train has no effect with --split natural:twin"),
        ({"delta": 0.2}, r"--delta has no effect .*--split natural:twin"),
        ({"score": "loss"}, r"--score has no effect .*--split natural:twin"),
        ({"split": "natural:twins"}, r"unknown dataset 'twins'; did you mean 'twin'"),
        ({"split": "natural"}, r"split strategy 'natural' needs an argument: natural:DATASET"),
    ],
)
def test_what_has_no_meaning_with_it_is_refused_before_anything_is_trained(
    others, changes, sentence, tmp_path
):
    settings = {"method": "lrw", "split": "natural:twin", **changes}
    with pytest.raises(MolereError, match=sentence):
        list(train_runs(tiny_config(**settings), [0], others, runs=tmp_path, progress=NoProgress()))
    assert list(tmp_path.iterdir()) == []


def test_a_class_that_the_run_lacks_is_an_error(others, tmp_path):
    with pytest.raises(ConfigError, match=r"'fruits' has the class 'pear', which the run was not trained on"):
        train_one(natural("fruits"), others, tmp_path)


def test_the_command_writes_name_and_fingerprint(others, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = new_split_file(
        tiny_config(split="natural:sketches:5"),
        others,
        erm=None,
        out=None,
        runs=tmp_path,
        progress=NoProgress(),
    )
    assert str(made.path) == "splits/tiny-natural-sketches-5.parquet"
    info = json.loads(read_split(made.path).info.model_dump_json())
    sketches = load_dataset(tiny_config(dataset="sketches:5").data, others)
    assert (info["val_dataset"], info["val_fingerprint"]) == ("sketches:5", sketches.fingerprint)
