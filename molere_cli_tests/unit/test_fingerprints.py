"""Data that changed unseen: images swapped under the same names and sizes, in the pool and in test sets."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from molere_transforms.colour_patch import PatchedReader
from molere_transforms.corruption import CorruptedReader
from PIL import Image

from molere_cli.api.evaluation import evaluate_run
from molere_cli.config.run_config import RunConfig
from molere_cli.data.fingerprint import fingerprint
from molere_cli.data.folder_reader import SAMPLE, FolderReader
from molere_cli.data.holdout import subset
from molere_cli.data.source import load_dataset
from molere_cli.foundation.errors import DataError, RunError, SplitError
from molere_cli.foundation.files import same_fingerprint
from molere_cli.foundation.progress import NoProgress
from molere_cli.hardness.hardness_scores import erm_run
from molere_cli.hardness.make_split import make_split
from molere_cli.registry.specs import Examples
from molere_cli.report import compare_runs
from molere_cli.runs.run_directory import RunDir
from molere_cli.splits.split_file import Split, read_split, write_split
from molere_cli.training.resume_run import resume_run
from molere_cli.training.run_identity import checked_split
from molere_cli_tests.conftest import tiny_examples
from molere_cli_tests.fake_runs import erm_run as fake_erm
from molere_cli_tests.fake_runs import lrw_run as fake_lrw
from molere_cli_tests.training import KilledAfter, tiny_config, train_one
from molere_cli_tests.unit.test_data import streamed


def draw(path: Path, seed: int) -> None:
    """An uncompressed image: every one has the same size on disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def folder(tmp_path) -> Path:
    """A dataset of folders: 24 images of two classes in the pool, 8 in the test set."""
    root = tmp_path / "photos"
    for part, size in {"train": 24, "test": 8}.items():
        for number in range(size):
            draw(root / part / "ab"[number % 2] / f"{number:02}.bmp", seed=size + number)
    return root


def config_of(folder: Path, **changes) -> RunConfig:
    return tiny_config(dataset=f"folder:{folder}", epochs=2, batch_size=8, workers=0, image_size=8, **changes)


def pool_print(folder: Path, registry) -> str:
    return load_dataset(config_of(folder).data, registry).fingerprint


def swap(one: Path, other: Path) -> None:
    """Each under the other's name."""
    contents = one.read_bytes(), other.read_bytes()
    assert len(contents[0]) == len(contents[1])
    assert contents[0] != contents[1]
    other.write_bytes(contents[0])
    one.write_bytes(contents[1])


def swap_in(folder: Path, part: str) -> None:
    swap(*sorted((folder / part / "a").iterdir())[:2])


# --- what a fingerprint covers


def test_swapped_images_of_one_size_are_seen(folder, registry):
    before = pool_print(folder, registry)
    swap_in(folder, "train")
    after = pool_print(folder, registry)
    assert not same_fingerprint(after, before)
    assert after.split("+")[0] == before.split("+")[0]


@pytest.mark.parametrize(("position", "seen"), [(0, True), (SAMPLE - 1, True), (2500, False), (-1, True)])
def test_of_a_file_the_first_and_the_last_kilobyte_count(tmp_path, position, seen):
    examples = Examples(images=FolderReader(tmp_path, ["file"]), labels=torch.zeros(1, dtype=torch.int64))
    content = bytearray(5000)
    (tmp_path / "file").write_bytes(content)
    before = fingerprint(examples)
    content[position] = 1
    (tmp_path / "file").write_bytes(content)
    assert (fingerprint(examples) != before) == seen


@pytest.mark.parametrize("size", [0, 1, SAMPLE, SAMPLE + 1])
def test_a_small_file_counts_whole(tmp_path, size):
    (tmp_path / "file").write_bytes(bytes(range(256)) * 5)
    content = (tmp_path / "file").read_bytes()[:size]
    (tmp_path / "file").write_bytes(content)
    sample = FolderReader(tmp_path, ["file"]).sample(0)
    assert sample.startswith(content[:SAMPLE])
    assert sample.endswith(content[-SAMPLE:])


def test_more_files_than_are_read_at_once_count_in_their_order(tmp_path, monkeypatch):
    monkeypatch.setattr("molere_cli.data.fingerprint.FILES_AT_ONCE", 3)
    for number in range(10):
        (tmp_path / str(number)).write_bytes(bytes([number]))

    def print_of(order):
        labels = torch.zeros(10, dtype=torch.int64)
        return fingerprint(Examples(images=FolderReader(tmp_path, [str(n) for n in order]), labels=labels))

    before = print_of(range(10))
    assert print_of(range(10)) == before
    swap(tmp_path / "2", tmp_path / "7")
    assert print_of(range(10)) != before


def test_parts_patches_and_corruptions_of_files_have_their_samples(tmp_path):
    for number in range(4):
        (tmp_path / str(number)).write_bytes(bytes([number]))
    files = FolderReader(tmp_path, list("0123"))
    labels = torch.zeros(4, dtype=torch.int64)
    part = subset(subset(Examples(images=files, labels=labels), torch.tensor([3, 1, 0])), torch.tensor([1]))
    assert part.images.sample(0) == files.sample(1)
    assert PatchedReader(files, torch.zeros(4, 3)).sample(2) == files.sample(2)
    assert CorruptedReader(files, "gaussian_noise", 1, 0).sample(2) == files.sample(2)


@pytest.mark.parametrize("form", [lambda examples: examples, streamed], ids=["in memory", "a reader's"])
def test_what_is_covered_whole_has_no_samples_and_the_fingerprint_it_had(form):
    """A reader whose identities are the content, and a part of it."""
    examples = form(tiny_examples(64, seed=0))
    for each in (examples, subset(examples, torch.arange(10))):
        assert len(fingerprint(each)) == 32


def test_a_file_that_is_gone_is_named(tmp_path):
    with pytest.raises(DataError, match=f"cannot read the image {tmp_path}/gone: No such file"):
        FolderReader(tmp_path, ["gone"]).sample(0)


def test_groups_count_where_they_are_asked_for():
    examples = replace(tiny_examples(8, seed=0), groups=torch.zeros(8, dtype=torch.int64))
    other = replace(examples, groups=torch.ones(8, dtype=torch.int64))
    assert fingerprint(examples) == fingerprint(other)
    assert fingerprint(examples, with_groups=True) != fingerprint(other, with_groups=True)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("aa", "aa", True),
        ("aa", "bb", False),
        ("aa", "aa+cc", True),
        ("aa+cc", "aa", True),
        ("bb", "aa+cc", False),
        ("aa+cc", "aa+dd", False),
        ("aa+cc", "bb+cc", False),
    ],
)
def test_fingerprints_agree_in_what_both_cover(one, other, same):
    assert same_fingerprint(one, other) == same


# --- runs


def trained(registry, folder: Path, **changes) -> RunDir:
    return train_one(config_of(folder, **changes), registry, folder.parent / "runs")


def killed(registry, folder: Path) -> RunDir:
    with pytest.raises(KeyboardInterrupt):
        train_one(
            config_of(folder), registry, folder.parent / "runs", progress=KilledAfter(1, label_part="erm")
        )
    (path,) = (folder.parent / "runs").iterdir()
    return RunDir(path)


def evaluated(run: RunDir, registry, **how):
    return evaluate_run(run.path, registry, runs=run.path.parent, **how)


def older(run: RunDir) -> None:
    """The run as version 0.1 would have left it."""
    environment = run.environment()
    del environment["test_fingerprints"]
    environment["fingerprint"] = environment["fingerprint"].partition("+")[0]
    put_environment(run, environment)


def put_environment(run: RunDir, environment: dict[str, object]) -> None:
    """As the run would have written it."""
    was_done = run.is_done
    (run.path / "DONE").unlink(missing_ok=True)
    (run.path / "environment.json").write_text(json.dumps({**environment, "digests": {}}))
    if was_done:
        run.mark_done()


def test_a_test_set_that_has_changed_is_named_and_others_can_be_evaluated_on(registry, folder):
    finished = trained(registry, folder)
    swap_in(folder, "test")
    with pytest.raises(RunError) as caught:
        evaluated(finished, registry)
    sentence = f"test set 'test' of dataset 'folder:{folder}' has changed since {finished.path} was trained: "
    assert str(caught.value).startswith(sentence)
    assert evaluated(finished, registry, dataset=f"folder:{folder}").summaries


def test_an_unfinished_run_does_not_go_on_towards_another_test_set(registry, folder):
    run = killed(registry, folder)
    swap_in(folder, "test")
    with pytest.raises(RunError, match=r"^test set 'test' of dataset"):
        resume_run(run.path, registry, progress=NoProgress())
    swap_in(folder, "test")
    assert resume_run(run.path, registry, progress=NoProgress()).is_done


def test_a_tuning_set_that_has_changed_is_named(registry, folder):
    finished = trained(registry, folder, dataset_option={"tuning": "0.25"})
    assert finished.environment()["test_fingerprints"].keys() == {"test", "tuning"}
    data = load_dataset(config_of(folder, dataset_option={"tuning": "0.25"}).data, registry)
    reader, positions = data.dataset.tuning.images.reader, data.dataset.tuning.images.positions
    of_class = [reader.paths[p] for p in positions.tolist() if reader.paths[p].startswith("a/")]
    swap(*(reader.root / path for path in of_class[:2]))
    with pytest.raises(RunError, match=r"^test set 'tuning' of dataset"):
        evaluated(finished, registry)


def test_a_test_set_that_is_gone_is_named(registry, folder):
    finished = trained(registry, folder)
    environment = finished.environment()
    environment["test_fingerprints"]["beach"] = "0" * 32
    put_environment(finished, environment)
    with pytest.raises(RunError, match=f"has no test set 'beach' any more, which {finished.path} has$"):
        evaluated(finished, registry)


def test_a_pool_of_swapped_images_is_refused(registry, folder):
    finished = trained(registry, folder)
    swap_in(folder, "train")
    with pytest.raises(RunError, match=r"^dataset 'folder:.*' has changed since"):
        evaluated(finished, registry)
    config = config_of(folder, method="lrw", split="hard")
    data = load_dataset(config.data, registry)
    again = erm_run(config, registry, data, score="aum", runs=finished.path.parent, progress=NoProgress())
    assert again.path != finished.path


def test_a_run_of_version_0_1_is_checked_by_what_it_recorded(registry, folder):
    run = killed(registry, folder)
    older(run)
    swap_in(folder, "train")
    swap_in(folder, "test")
    assert resume_run(run.path, registry, progress=NoProgress()).is_done
    assert evaluated(run, registry).summaries
    config = config_of(folder, method="lrw", split="hard")
    data = load_dataset(config.data, registry)
    found = erm_run(config, registry, data, score="aum", runs=run.path.parent, progress=NoProgress())
    assert found.path == run.path
    draw(folder / "train" / "a" / "99.bmp", seed=0)
    with pytest.raises(RunError, match=r"^dataset 'folder:.*' has changed since"):
        evaluated(run, registry)


# --- splits


def test_a_split_is_of_its_pool_whatever_becomes_of_the_test_set(registry, folder, tmp_path):
    config = config_of(folder, split="random", delta=0.25)
    data = load_dataset(config.data, registry)
    split = make_split(config, registry, data, erm=None, runs=tmp_path, progress=NoProgress())
    write_split(split, tmp_path / "split.parquet")
    info = split.info.model_copy(update={"fingerprint": data.fingerprint.partition("+")[0]})
    write_split(Split(**{**vars(split), "info": info}), tmp_path / "older.parquet")
    swap_in(folder, "test")
    data = load_dataset(config.data, registry)
    for name in ("split", "older"):
        read = checked_split(tmp_path / f"{name}.parquet", data, note=print)
        assert read.in_validation.equal(split.in_validation)
    swap_in(folder, "train")
    data = load_dataset(config.data, registry)
    checked_split(tmp_path / "older.parquet", data, note=print)
    with pytest.raises(SplitError, match="was made for another pool"):
        checked_split(tmp_path / "split.parquet", data, note=print)
    assert read_split(tmp_path / "split.parquet").info.format_version == 1


# --- comparisons


def labels(root: Path) -> list[str]:
    return [result.row.label for result in compare_runs(sorted(root.iterdir())).results]


def test_runs_on_other_test_sets_are_other_rows(tmp_path):
    tested = [{"test_fingerprints": {"test": text}} for text in ("a", "b")]
    fake_erm(tmp_path / "erm", 0.5, environment=tested[0])
    fake_lrw(tmp_path / "one", 0.6, environment=tested[0])
    assert labels(tmp_path) == ["ERM", "LRW-Hard"]
    fake_lrw(tmp_path / "other", 0.6, config={"seed": 1}, environment=tested[1])
    found = compare_runs(sorted(tmp_path.iterdir())).results
    assert len(found) == 3
    assert [result.gain is not None for result in found].count(True) == 1
    assert len({result.row.label for result in found}) == 3


def test_a_run_of_version_0_1_is_in_the_row_of_newer_ones(tmp_path):
    fake_erm(tmp_path / "erm", 0.5)
    newer = {"fingerprint": "f0+ab", "test_fingerprints": {"test": "a"}}
    fake_erm(tmp_path / "erm1", 0.5, config={"seed": 1}, environment=newer)
    fake_lrw(tmp_path / "lrw", 0.6, environment=newer)
    assert labels(tmp_path) == ["ERM", "LRW-Hard"]
    swapped = {"fingerprint": "f0+cd", "test_fingerprints": {"test": "a"}}
    fake_lrw(tmp_path / "swapped", 0.6, config={"seed": 1}, environment=swapped)
    assert labels(tmp_path)[2:] == [
        "LRW-Hard [fingerprint=f0+ab]",
        "LRW-Hard [fingerprint=f0+cd]",
    ]
