"""Other people's folders, lists and Parquet files: read right, or refused in one sentence."""

from __future__ import annotations

import io
import json
import os
import unicodedata
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from molere_cli.config.paths import absolute_dataset, comma_separated, with_absolute_paths
from molere_cli.config.run_config import RunConfig
from molere_cli.config.sections import DataSettings
from molere_cli.data.feed import FeedSettings, _transform, batches_in_order, make_feed
from molere_cli.data.names import plain_name
from molere_cli.data.source import LoadedDataset, load_dataset, load_other_dataset
from molere_cli.foundation.errors import ConfigError, DataError
from molere_cli.registry.registry import load_plugins
from molere_cli.registry.specs import Examples

REGISTRY = load_plugins()
INK = ((220, 40, 40), (40, 200, 40), (40, 60, 220), (210, 200, 40))


def picture(kind: int, number: int, *, size: tuple[int, int] = (8, 8)) -> Image.Image:
    noise = np.random.default_rng((kind, number)).integers(-35, 35, (*size, 3))
    return Image.fromarray((np.array(INK[kind]) + noise).clip(0, 255).astype(np.uint8))


def draw(root: Path, *names: str, count: int = 4, first: int = 0, ending: str = "png") -> None:
    for kind, name in enumerate(names):
        (root / name).mkdir(parents=True, exist_ok=True)
        for number in range(first, first + count):
            picture(kind, number).save(root / name / f"{number:03d}.{ending}")


def load(dataset: str, *, purpose="train", **settings) -> LoadedDataset:
    return load_dataset(RunConfig.of(dataset=dataset, **settings).data, REGISTRY, purpose=purpose)


def sentence_of(dataset: str, **settings) -> str:
    with pytest.raises((DataError, ConfigError)) as caught:
        load(dataset, **settings)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def sizes(loaded: LoadedDataset) -> dict[str, int]:
    return {part: sum(counts.values()) for part, counts in loaded.summary.classes.items()}


# --- folders: which part is which


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("train", "test"),
        ("Training", "Testing"),
        ("TRAIN", "TEST"),
        ("Train", "validation"),
        ("train", "Valid"),
    ],
)
def test_parts_are_known_by_their_usual_names(tmp_path, train, test):
    draw(tmp_path / train, "glioma", "healthy", count=5)
    draw(tmp_path / test, "glioma", "healthy", count=2, first=5)
    loaded = load(f"folder:{tmp_path}")
    assert loaded.dataset.class_names == ("glioma", "healthy")
    assert sizes(loaded) == {"pool": 10, "test": 4}


@pytest.mark.parametrize("tuning", ["val", "valid", "Validation"])
def test_a_validation_part_beside_a_test_part_is_the_tuning_set(tmp_path, tuning):
    for part, count in (("train", 5), ("test", 2), (tuning, 3)):
        draw(tmp_path / part, "cat", "dog", count=count)
    loaded = load(f"folder:{tmp_path}")
    assert sizes(loaded) == {"pool": 10, "test": 4, "tuning": 6}
    assert "is a tuning set already" in sentence_of(f"folder:{tmp_path}", dataset_option={"tuning": "0.2"})


def test_a_validation_part_that_stands_in_for_a_test_part_is_said(tmp_path):
    draw(tmp_path / "train", "cat", "dog")
    draw(tmp_path / "val", "cat", "dog", count=1)
    assert load(f"folder:{tmp_path}").summary.notes == ["val/ is the test set, since there is no test/"]


@pytest.mark.parametrize("names", [("bus", "car", "train"), ("exam", "test"), ("Training", "sports", "val")])
def test_a_class_may_be_called_like_a_part(tmp_path, names):
    draw(tmp_path, *names, count=10)
    loaded = load(f"folder:{tmp_path}")
    assert loaded.dataset.class_names == tuple(sorted(names))
    assert loaded.summary.notes
    assert all(
        note.endswith("is a class, since images lie in it and no class folders")
        for note in loaded.summary.notes
    )


@pytest.mark.parametrize(
    ("folders", "sentence"),
    [
        (("train", "test"), "has test/ and train/, with no class folders in them"),
        (
            ("train/cat", "train/dog", "Training/cat", "test/cat"),
            "has both Training/ and train/; which one is meant?",
        ),
        (("train/cat", "train/dog", "test"), "/test has no class folders in it"),
        (("data/cat", "data/dog"), "has one folder in it, data; did you mean folder:{root}/data?"),
        (("set/train/cat", "set/test/cat"), "has one folder in it, set; did you mean folder:{root}/set?"),
        (("only",), "has one class, 'only'; there must be two to tell apart"),
        (
            ("train/cat", "train/dog", "test/cat", "test/Dog"),
            "has a class 'Dog' that the training images do not have; did you mean 'dog'?",
        ),
    ],
)
def test_a_layout_that_says_nothing_is_a_sentence(tmp_path, folders, sentence):
    for folder in folders:
        draw(tmp_path, folder, count=10)
    assert sentence_of(f"folder:{tmp_path}").endswith(sentence.format(root=tmp_path))


# --- folders: what is an image


def test_files_of_tools_are_skipped_and_counted(tmp_path):
    for part in ("train", "test"):
        draw(tmp_path / part, "cat", "dog", count=5)
    cat = tmp_path / "train" / "cat"
    for name in ("._001.png", ".hidden.png", "Thumbs.db", "notes.txt", "README"):
        (cat / name).write_text("no picture")
    for folder in (".ipynb_checkpoints", "__MACOSX"):
        draw(cat / folder, "x", count=2)
    draw(tmp_path / "train", ".git", count=2)
    (tmp_path / "train" / "list.csv").write_text("a,b")
    os.mkfifo(cat / "pipe.png")
    loaded = load(f"folder:{tmp_path}")
    assert sizes(loaded) == {"pool": 10, "test": 10}
    assert dict(loaded.summary.skipped) == {
        "hidden": 6,
        "beside the class folders": 1,
        "neither files nor folders": 1,
        ".txt": 1,
        "without an ending": 1,
    }
    assert loaded.summary.line().startswith(
        f"folder:{tmp_path}: pool 10 (cat 5, dog 5), test 10; 10 skipped: hidden 6, "
    )


@pytest.mark.parametrize("ending", ["jfif", "jpe", "gif", "jp2", "avif", "tif", "ppm", "tga", "JPG"])
def test_every_ending_of_a_picture_counts(tmp_path, ending):
    draw(tmp_path, "cat", "dog", count=5, ending=ending)
    assert sum(sizes(load(f"folder:{tmp_path}")).values()) == 10


def test_a_picture_without_an_ending_counts(tmp_path):
    draw(tmp_path, "cat", "dog", count=5)
    for path in list(tmp_path.rglob("*.png")):
        path.rename(path.with_suffix(""))
    assert sum(sizes(load(f"folder:{tmp_path}")).values()) == 10


def test_a_folder_is_walked_once(tmp_path):
    draw(tmp_path / "train", "cat", "dog", count=5)
    draw(tmp_path / "test", "cat", "dog", count=2)
    (tmp_path / "train" / "cat" / "all").symlink_to(".")
    draw(tmp_path, "more", count=3, first=90)
    for link in ("a", "b"):
        (tmp_path / "train" / "dog" / link).symlink_to(tmp_path / "more")
    loaded = load(f"folder:{tmp_path}")
    assert dict(loaded.summary.classes["pool"]) == {"cat": 5, "dog": 8}
    assert loaded.summary.skipped["links to folders read already"] == 2


@pytest.mark.parametrize("target", ["../dog", "..", "../../test/cat", "../../test"])
def test_a_link_into_another_class_or_part_is_refused(tmp_path, target):
    draw(tmp_path / "train", "cat", "dog")
    draw(tmp_path / "test", "cat", "dog", first=20)
    (tmp_path / "train" / "cat" / "link").symlink_to(target)
    sentence = sentence_of(f"folder:{tmp_path}")
    assert "is the same folder as" in sentence
    assert sentence.endswith("; take the link away")


def test_a_link_that_leads_nowhere_is_missed_by_name(tmp_path):
    draw(tmp_path, "cat", "dog", count=5)
    (tmp_path / "cat" / "gone.png").symlink_to("nowhere.png")
    assert (
        sentence_of(f"folder:{tmp_path}")
        == f"cannot read the image {tmp_path}/cat/gone.png: No such file or directory"
    )


def test_all_bad_pictures_are_named_before_training(tmp_path):
    draw(tmp_path / "train", "cat", "dog")
    draw(tmp_path / "test", "cat", "dog")
    torn, text = tmp_path / "test" / "dog" / "001.png", tmp_path / "train" / "cat" / "002.png"
    torn.write_bytes(torn.read_bytes()[:100])
    text.write_text("not found")
    sentence = sentence_of(f"folder:{tmp_path}")
    assert sentence.startswith("2 of 16 images cannot be read: ")
    assert all(str(path) in sentence for path in (torn, text))
    assert sizes(load(f"folder:{tmp_path}", check="none")) == {"pool": 8, "test": 8}


def test_only_a_full_check_finds_what_is_wrong_inside(tmp_path):
    draw(tmp_path, "cat", "dog", count=5)
    path = tmp_path / "cat" / "001.png"
    content = bytearray(path.read_bytes())
    content[60] ^= 255
    path.write_bytes(content)
    load(f"folder:{tmp_path}")
    assert str(path) in sentence_of(f"folder:{tmp_path}", check="full")


# --- names of classes


def test_names_that_look_alike_are_one():
    composed, decomposed = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))
    assert composed != decomposed
    assert plain_name(decomposed) == plain_name(f" {composed}\t") == composed
    assert plain_name(os.fsdecode(b"caf\xe9")) == "caf\\xe9"


def test_folders_are_matched_by_names_that_look_alike(tmp_path):
    composed, decomposed = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))
    draw(tmp_path / "train", decomposed, "bar")
    draw(tmp_path / "test", composed, "bar", first=9)
    loaded = load(f"folder:{tmp_path}")
    assert loaded.dataset.class_names == ("bar", composed)
    assert dict(loaded.summary.classes["test"]) == {"bar": 4, composed: 4}
    draw(tmp_path / "train", composed)
    assert "two folders that look alike, 'cafe\\u0301' and 'caf\\xe9'" in sentence_of(f"folder:{tmp_path}")


def test_names_that_are_not_utf_8_are_shown_by_their_bytes(tmp_path):
    draw(tmp_path, "bar", count=5)
    folder = os.path.join(os.fsencode(tmp_path), b"caf\xe9")
    os.rename(os.path.join(os.fsencode(tmp_path), b"bar"), folder)
    draw(tmp_path, "bar", count=5)
    os.rename(os.path.join(folder, b"001.png"), os.path.join(folder, b"\xff.png"))
    loaded = load(f"folder:{tmp_path}")
    assert loaded.dataset.class_names == ("bar", "caf\\xe9")
    assert len(loaded.fingerprint) == 65


def test_classes_that_differ_in_case_alone_are_pointed_out(tmp_path):
    draw(tmp_path, "Cat", "cat", "dog", count=5)
    assert load(f"folder:{tmp_path}").summary.notes == [
        "the classes 'Cat' and 'cat' differ in case or space alone"
    ]


# --- another dataset's classes


def other(own: LoadedDataset, name: str, purpose="test others") -> LoadedDataset:
    return load_other_dataset(DataSettings(), own, REGISTRY, name, {}, purpose=purpose)


def test_classes_named_by_numbers_are_matched_by_name(tmp_path):
    draw(tmp_path / "own", "0", "90", "180", "270", count=5)
    draw(tmp_path / "other", "0", "90", "270", count=5)
    own = load(f"folder:{tmp_path / 'own'}")
    assert own.dataset.class_names == ("0", "180", "270", "90")
    found = other(own, f"folder:{tmp_path / 'other'}").dataset
    assert found.tests["test"].labels.tolist() == [0] * 5 + [2] * 5 + [3] * 5
    draw(tmp_path / "strange", "0", "45", count=5)
    with pytest.raises(ConfigError, match="has the class '45', which the run was not trained on"):
        other(own, f"folder:{tmp_path / 'strange'}")


def test_classes_without_names_are_taken_in_order_and_that_is_said(tmp_path):
    draw(tmp_path / "own", "cat", "dog", count=5)
    draw(tmp_path / "other", "0", "1", count=5)
    found = other(load(f"folder:{tmp_path / 'own'}"), f"folder:{tmp_path / 'other'}")
    assert found.dataset.tests["test"].labels.tolist() == [0] * 5 + [1] * 5
    assert "has numbers for classes: they are taken in the order" in found.summary.notes[-1]


# --- datasets to test on


def test_a_folder_to_test_on_is_tested_whole(tmp_path):
    draw(tmp_path / "own", "cat", "dog", count=5)
    draw(tmp_path / "new", "cat", "dog", count=50, first=100)
    draw(tmp_path / "only" / "test", "cat", count=7)
    own = load(f"folder:{tmp_path / 'own'}")
    assert len(other(own, f"folder:{tmp_path / 'new'}").dataset.tests["test"]) == 100
    assert len(other(own, f"folder:{tmp_path / 'only'}").dataset.tests["test"]) == 7
    assert len(other(own, f"folder:{tmp_path / 'new'}", purpose="validate").dataset.pool) == 80
    assert "has test/ but no train/ beside it" in sentence_of(f"folder:{tmp_path / 'only'}")


def write_list(path: Path, rows: list[tuple[str, ...]], header: str) -> Path:
    path.write_text("\n".join([header, *(",".join(row) for row in rows)]) + "\n")
    return path


def test_a_list_to_test_on_is_tested_whole(tmp_path):
    draw(tmp_path, "cat", "dog", count=10)
    rows = [(f"{name}/{number:03d}.png", name) for name in ("cat", "dog") for number in range(10)]
    own = load(f"csv:{write_list(tmp_path / 'own.csv', rows, 'path,label')}")
    assert len(other(own, f"csv:{tmp_path / 'own.csv'}").dataset.tests["test"]) == 20
    tests = [(*row, "Test") for row in rows]
    path = write_list(tmp_path / "tests.csv", tests, "path,label,split")
    assert len(other(own, f"csv:{path}").dataset.tests["test"]) == 20
    assert "has no row with split train" in sentence_of(f"csv:{path}")


# --- lists


def test_labels_of_a_list_lose_the_space_around_them(tmp_path):
    draw(tmp_path, "a", "b", count=10)
    rows = [(f"{k}/{n:03d}.png", f"{k}{' ' * (n % 3)}", f" g{n % 2}") for k in "ab" for n in range(10)]
    loaded = load(f"csv:{write_list(tmp_path / 'list.csv', rows, 'path,label,group')}")
    assert loaded.dataset.class_names == ("a", "b")
    assert loaded.dataset.group_names == ("g0", "g1")


@pytest.mark.parametrize("name", ["val", "valid", "Validation", "tuning"])
def test_a_list_knows_parts_by_their_usual_names(tmp_path, name):
    draw(tmp_path, "a", "b", count=9)
    parts = ["Training", "TEST", name]
    rows = [(f"{k}/{n:03d}.png", k, parts[n % 3]) for k in "ab" for n in range(9)]
    assert sizes(load(f"csv:{write_list(tmp_path / 'list.csv', rows, 'path,label,split')}")) == {
        "pool": 6,
        "test": 6,
        "tuning": 6,
    }


def noisy(tmp_path: Path, text: str, names: tuple[str, ...], **settings) -> LoadedDataset:
    draw(tmp_path / "images", *names, count=10)
    path = tmp_path / "noise.csv"
    path.write_bytes(text.encode("utf-8-sig"))
    return load(f"folder:{tmp_path / 'images'}", label_noise=str(path), **settings)


def label_of(loaded: LoadedDataset, index: int) -> int:
    place = loaded.pool_indices.tolist().index(index)
    return int(loaded.dataset.pool.labels[place])


def test_labels_are_names_or_numbers_for_a_whole_file(tmp_path):
    names = ("0", "180", "90")
    every = "".join(f"{index},0\n" for index in range(30))
    first, second = noisy(tmp_path, f"index,label\n{every}", names).pool_indices[:2].tolist()
    by_name = noisy(tmp_path, f"index,label\r\n{first},90\r\n{second},180\r\n", names)
    assert (label_of(by_name, first), label_of(by_name, second)) == (2, 1)
    by_number = noisy(tmp_path, f"index,label\n{first},1\n{second},2\n", names)
    assert (label_of(by_number, first), label_of(by_number, second)) == (1, 2)
    with pytest.raises(DataError, match=r"line 3: '2' is neither a class name nor a class number"):
        noisy(tmp_path, f"index,label\n{first},90\n{second},2\n", names)


def test_an_index_beyond_the_pool_is_refused(tmp_path):
    with pytest.raises(DataError, match="line 3: the index is 20; it can be 0 to 19"):
        noisy(tmp_path, "index,label\n0,dog\n20,dog\n", ("cat", "dog"))
    # Those that were held out, or left out of a sub-sample, have indices too.
    every = "".join(f"{index},dog\n" for index in range(20))
    assert set(
        noisy(tmp_path, f"index,label\n{every}", ("cat", "dog"), limit_train=8).dataset.pool.labels.tolist()
    ) == {1}


# --- Parquet


def row(kind: int, number: int, **changes) -> dict[str, object]:
    file = io.BytesIO()
    picture(kind, number, **changes).save(file, "PNG")
    return {"bytes": file.getvalue(), "path": None}


def write_parquet(path: Path, labels, *, names=None, first: int = 0, images=None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    encoded = images or [row(place % 4, first + place) for place in range(len(labels))]
    table = pa.table({"image": pa.array(encoded, kind), "label": labels})
    if names is not None:
        features = {"label": {"names": names, "_type": "ClassLabel"}}
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    pq.write_table(table, path)


def test_parquet_classes_are_matched_by_name(tmp_path):
    write_parquet(tmp_path / "train.parquet", [0, 1, 2, 0], names=["cat", "dog", "fox"])
    write_parquet(tmp_path / "test.parquet", [0, 1, 2], names=["fox", "cat", "dog"], first=50)
    dataset = load(f"parquet:{tmp_path}").dataset
    assert dataset.class_names == ("cat", "dog", "fox")
    assert dataset.tests["test"].labels.tolist() == [2, 0, 1]
    write_parquet(tmp_path / "test.parquet", [0, 1], names=["cat", "owl"], first=50)
    assert sentence_of(f"parquet:{tmp_path}").endswith(
        "test.parquet has label owl, which no training row has"
    )


def test_numbers_beside_names_are_places_and_that_is_said(tmp_path):
    write_parquet(tmp_path / "train.parquet", [0, 1, 1, 0], names=["cat", "dog"])
    write_parquet(tmp_path / "test.parquet", [1, 0], first=50)
    loaded = load(f"parquet:{tmp_path}")
    assert loaded.dataset.tests["test"].labels.tolist() == [1, 0]
    assert loaded.summary.notes[0].endswith(
        "has no class names: its numbers are taken in the order of the names that "
        f"{tmp_path}/train.parquet has"
    )
    write_parquet(tmp_path / "test.parquet", [1, 2], first=50)
    assert "has label 2, but" in sentence_of(f"parquet:{tmp_path}")


@pytest.mark.parametrize(
    ("labels", "names", "numbers"),
    [
        (["dog", "cat ", "dog", "cat"], ("cat", "dog"), [1, 0, 1, 0]),
        ([True, False, True, False], ("false", "true"), [1, 0, 1, 0]),
        (pa.array(["b", "a", "b", "a"]).dictionary_encode(), ("a", "b"), [1, 0, 1, 0]),
        (pa.array(["10", "9", "10", "9"], pa.large_string()), ("9", "10"), [1, 0, 1, 0]),
        (pa.array([7, 3, 7, 3], pa.uint8()), ("3", "7"), [1, 0, 1, 0]),
    ],
)
def test_labels_may_be_text_truth_or_numbers(tmp_path, labels, names, numbers):
    for part, first in (("train", 0), ("test", 50)):
        write_parquet(tmp_path / f"{part}.parquet", labels, first=first)
    dataset = load(f"parquet:{tmp_path}").dataset
    assert dataset.class_names == names
    assert dataset.pool.labels.tolist() == dataset.tests["test"].labels.tolist() == numbers


@pytest.mark.parametrize(
    ("labels", "sentence"),
    [
        ([0, -1, 1, 0], "row 1: the label is -1, which says that there is none; leave such rows out"),
        (pa.array([0, None, 1, 0]), "column 'label' has 1 rows without a label"),
        (pa.array([0, 2**64 - 1, 1, 0], pa.uint64()), "column 'label' has labels beyond 64 bits"),
        ([0.0, 1.0, 0.5, 1.0], "labels are whole numbers, text, or true and false"),
    ],
)
def test_labels_that_are_none_are_refused(tmp_path, labels, sentence):
    write_parquet(tmp_path / "train.parquet", labels)
    write_parquet(tmp_path / "test.parquet", [0, 1])
    assert sentence in sentence_of(f"parquet:{tmp_path}")


def test_a_shard_that_is_missing_is_named(tmp_path):
    for number in (0, 2):
        write_parquet(tmp_path / f"train-0000{number}-of-00003.parquet", [0, 1])
    write_parquet(tmp_path / "test-00000-of-00001.parquet", [0, 1], first=50)
    assert sentence_of(f"parquet:{tmp_path}") == f"{tmp_path} lacks train-00001-of-00003.parquet of 3 shards"
    write_parquet(tmp_path / "train-00001-of-00003.parquet", [0, 1])
    assert sizes(load(f"parquet:{tmp_path}")) == {"pool": 6, "test": 2}
    write_parquet(tmp_path / "train-00000-of-00001.parquet", [0, 1])
    assert "which is of another download" in sentence_of(f"parquet:{tmp_path}")


def test_validation_rows_beside_test_rows_are_the_tuning_set(tmp_path):
    for part, first in (("train", 0), ("test", 50), ("validation", 90)):
        write_parquet(tmp_path / f"{part}.parquet", [0, 1, 0, 1], first=first)
    assert sizes(load(f"parquet:{tmp_path}")) == {"pool": 4, "test": 4, "tuning": 4}


def test_all_bad_rows_are_named(tmp_path):
    images = [row(place % 2, place) for place in range(6)]
    images[1]["bytes"], images[4]["bytes"] = b"no picture", images[4]["bytes"][:60]
    write_parquet(tmp_path / "train.parquet", [0, 1] * 3, images=images)
    write_parquet(tmp_path / "test.parquet", [0, 1], first=50)
    sentence = sentence_of(f"parquet:{tmp_path}")
    assert sentence.startswith("2 of 6 images cannot be read: ")
    assert "row 1" in sentence
    assert "row 4" in sentence


@pytest.mark.parametrize("in_memory", [True, False])
def test_what_is_particular_about_rows_is_counted(tmp_path, in_memory):
    images = [row(place % 2, place, size=(8, 8 if in_memory else 8 + place)) for place in range(4)]
    for place in (0, 3):
        file, image = io.BytesIO(), Image.open(io.BytesIO(images[place]["bytes"]))
        image.putalpha(90)
        image.save(file, "PNG")
        images[place]["bytes"] = file.getvalue()
    write_parquet(tmp_path / "train.parquet", [0, 1, 0, 1], images=images)
    write_parquet(tmp_path / "test.parquet", [0, 1], first=50)
    loaded = load(f"parquet:{tmp_path}")
    assert isinstance(loaded.dataset.pool.images, torch.Tensor) == in_memory
    assert loaded.summary.remarks() == ["2 with transparency, put on white"]


# --- geometry

WIDE = (8, 32)


def wide(kind: int) -> torch.Tensor:
    """A bright block at the left end, or at the right end."""
    image = torch.zeros(3, *WIDE, dtype=torch.uint8)
    image[:, :, slice(0, 4) if kind == 0 else slice(28, 32)] = 255
    return image


class Reader:
    def __len__(self) -> int:
        return 2

    def read(self, position: int) -> torch.Tensor:
        return wide(position)

    def identities(self):
        return iter([b"0", b"1"])


def seen(images, size: int, *, crop_mode: str, augment: str, training: bool) -> torch.Tensor:
    """The images as batches have them, in [0, 255]."""
    settings = FeedSettings(
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
        augment=augment,
        image_size=(size, size),
        device=torch.device("cpu"),
        workers=0,
        crop_mode=crop_mode,
    )
    feed = make_feed(Examples(images=images, labels=torch.tensor([0, 1])), settings)
    batches = batches_in_order(feed)
    found = feed.training(batches, seed=0) if training else feed.evaluation(batches)
    return torch.cat([batch.images for batch in found]) * 255


@pytest.mark.parametrize("crop_mode", ["squash", "center"])
@pytest.mark.parametrize("size", [16, 80])
def test_a_wide_picture_has_one_geometry(crop_mode, size):
    """In training and in testing, from files and in memory: its ends are there in all of them, or in none."""
    in_memory = torch.stack([wide(0), wide(1)])
    plain = seen(Reader(), size, crop_mode=crop_mode, augment="none", training=False)
    for images in (Reader(), in_memory):
        for training in (False, True):
            found = seen(images, size, crop_mode=crop_mode, augment="none", training=training)
            assert (found - plain).abs().max() <= 1
    ends = plain[0, :, :, 0].mean() + plain[1, :, :, -1].mean()
    assert (ends > 400) == (crop_mode == "squash")


@pytest.mark.parametrize("shape", [(200, 800), (800, 200), (300, 300)])
def test_a_random_crop_is_stretched_as_the_whole_picture_is_in_testing(shape):
    """The crop is as wide as it is high, in parts of the whole, up to 4:3."""
    height, width = shape
    across = torch.linspace(0, 1, width).expand(height, width)
    down = torch.linspace(0, 1, height)[:, None].expand(height, width)
    places = torch.stack([across, down, down])
    settings = FeedSettings(
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
        augment="crop",
        image_size=(96, 96),
        device=torch.device("cpu"),
        workers=0,
    )
    crop = _transform(settings)
    for seed in range(50):
        torch.manual_seed(seed)
        found = crop(places)
        part_across = float(found[0, :, -1].mean() - found[0, :, 0].mean())
        part_down = float(found[1, -1].mean() - found[1, 0].mean())
        assert 0.7 <= part_across / part_down <= 1.45


# --- paths


@pytest.mark.parametrize(
    "spelling", ["photos", "./photos", "photos/", "../here/photos", "~/photos", "{root}/here/photos"]
)
def test_one_folder_has_one_name(tmp_path, monkeypatch, spelling):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("HOME", str(tmp_path / "here"))
    spelled = spelling.format(root=tmp_path)
    assert absolute_dataset(f"folder:{spelled}", REGISTRY) == f"folder:{tmp_path}/here/photos"
    config = with_absolute_paths(
        RunConfig.of(
            dataset=f"folder:{spelled}",
            split=f"natural:folder:{spelled}",
            label_noise="n.csv",
            init_from="w.safetensors",
        ),
        REGISTRY,
    )
    here = f"{tmp_path}/here"
    assert config.split.split == f"natural:folder:{here}/photos"
    assert config.data.label_noise == f"{here}/n.csv"
    assert str(config.classifier.init_from) == f"{here}/w.safetensors"
    assert str(config.data.data_dir) == f"{here}/data"


def test_what_is_no_path_stays_as_it_is():
    config = with_absolute_paths(RunConfig.of(dataset="hf:org/name", split="hard"), REGISTRY)
    assert (config.data.dataset, config.split.split) == ("hf:org/name", "hard")
    assert with_absolute_paths(RunConfig.of(split="none", method="molere"), REGISTRY).split.split == "none"


def test_a_part_with_a_comma_stands_in_quotes():
    assert comma_separated('test, "folder:a,b",corrupted:jpeg:3') == [
        "test",
        "folder:a,b",
        "corrupted:jpeg:3",
    ]
    for text in ('test,"folder:a', "test,,x", ","):
        with pytest.raises(ConfigError):
            comma_separated(text)
