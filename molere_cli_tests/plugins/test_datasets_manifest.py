"""`csv:FILE`: which image gets which label, group and part, and one sentence for what is wrong with a row."""

from __future__ import annotations

import pytest
import torch
from PIL import Image

from molere_cli.config.run_config import RunConfig
from molere_cli.config.sections import DataSettings
from molere_cli.data.source import load_dataset
from molere_cli.foundation.errors import ConfigError, DataError
from molere_cli.registry.registry import load_plugins

REGISTRY = load_plugins()


def draw(path, number) -> None:
    """Write the image of that number, which its width tells."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8 + number, 8), (number, 0, 0)).save(path)


def write(root, *lines, header="path,label", images=8):
    """The images `images/0.png`... and a list of them."""
    for number in range(images):
        draw(root / "images" / f"{number}.png", number)
    (root / "list.csv").write_text("\n".join((header, *lines)) + "\n", encoding="utf-8")
    return root / "list.csv"


def write_pairs(root, size) -> None:
    """`size` images of two classes in turn, without a split."""
    write(root, *(f"images/{n}.png,{'cat' if n % 2 else 'dog'}" for n in range(size)), images=size)


def load(root, **changes):
    options = {key: str(value) for key, value in changes.pop("options", {}).items()}
    config = RunConfig.of(dataset=f"csv:{root / 'list.csv'}", dataset_option=options, **changes)
    return load_dataset(config.data, REGISTRY)


def numbers_of(examples) -> list[int]:
    images = [examples.images.read(position) for position in range(len(examples))]
    assert all(image.dtype == torch.uint8 and image[0, 0, 0] == image.shape[2] - 8 for image in images)
    return [image.shape[2] - 8 for image in images]


def sentence_of(root, **changes) -> str:
    with pytest.raises(DataError) as caught:
        load(root, **changes)
    sentence = str(caught.value)
    assert "\n" not in sentence
    return sentence


FULL = (
    "images/3.png,dog,beach,train",
    "images/0.png,cat,city,test",
    "images/7.png,cat,wood,tuning",
    "images/1.png,cat,beach,train",
    "images/5.png,dog,city,test",
)


def test_rows_say_label_group_and_part(tmp_path):
    write(tmp_path, *FULL, header="path,label,group,split")
    dataset = load(tmp_path).dataset
    pool, tuning, test = dataset.pool, dataset.tuning, dataset.tests["test"]
    assert dataset.class_names == ("cat", "dog")
    assert dataset.group_names == ("beach", "city", "wood")
    assert (numbers_of(pool), numbers_of(tuning), numbers_of(test)) == ([3, 1], [7], [0, 5])
    assert (pool.labels.tolist(), tuning.labels.tolist(), test.labels.tolist()) == ([1, 0], [0], [0, 1])
    assert (pool.groups.tolist(), tuning.groups.tolist(), test.groups.tolist()) == ([0, 0], [2], [1, 1])


def test_columns_may_come_in_any_order_among_others(tmp_path):
    write(
        tmp_path,
        '7,"train",images/2.png,"a, b"',
        "8,test,./images/4.png,c",
        "9,train,images/1.png,c",
        header="id,split,path,label",
    )
    dataset = load(tmp_path).dataset
    assert dataset.class_names == ("a, b", "c")
    assert numbers_of(dataset.pool) == [2, 1]
    assert numbers_of(dataset.tests["test"]) == [4]
    assert dataset.pool.groups is None
    assert dataset.group_names == ()


def test_numbers_are_put_in_the_order_of_their_values(tmp_path):
    write(
        tmp_path,
        "images/0.png,10,train",
        "images/1.png,9,train",
        "images/2.png,9,test",
        header="path,label,split",
    )
    dataset = load(tmp_path).dataset
    assert dataset.class_names == ("9", "10")
    assert dataset.pool.labels.tolist() == [1, 0]


def test_a_byte_order_mark_and_blank_lines_do_no_harm(tmp_path):
    path = write(tmp_path, *FULL[:2], "", *FULL[2:], "", header="path,label,group,split")
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    assert numbers_of(load(tmp_path).dataset.pool) == [3, 1]


def test_without_a_split_a_part_of_every_class_is_held_out_by_the_data_seed(tmp_path):
    write_pairs(tmp_path, 40)
    dataset = load(tmp_path, options={"test_fraction": 0.25, "tuning": 0.2}).dataset
    pool, tuning, test = dataset.pool, dataset.tuning, dataset.tests["test"]
    assert test.labels.bincount().tolist() == [5, 5]
    assert (len(pool), len(tuning)) == (24, 6)
    assert sorted(numbers_of(pool) + numbers_of(tuning) + numbers_of(test)) == list(range(40))
    again, other = (
        load(tmp_path, options={"test_fraction": 0.25}, **seed).dataset.tests["test"]
        for seed in ({"seed": 3}, {"data_seed": 3})
    )
    assert numbers_of(again) == numbers_of(test)
    assert numbers_of(other) != numbers_of(test)


def test_the_fingerprint_follows_the_images_and_labels_but_not_the_place(tmp_path):
    for name in ("here", "there", "relabelled"):
        lines = FULL if name != "relabelled" else (FULL[0].replace("dog", "cat"), *FULL[1:4])
        write(tmp_path / name, *lines, "images/6.png,dog,city,train", header="path,label,group,split")
    names = ("here", "there", "relabelled")
    here, there, relabelled = (load(tmp_path / name).fingerprint for name in names)
    assert here == there != relabelled


def test_a_file_that_is_no_image_is_named_before_it_is_needed(tmp_path):
    write(tmp_path, *FULL, header="path,label,group,split")
    (tmp_path / "images" / "1.png").write_text("no image")
    with pytest.raises(DataError, match=r"1\.png: it is in no known image format"):
        load(tmp_path)


# --- what is wrong with it


@pytest.mark.parametrize(
    ("row", "what"),
    [
        ("images/99.png,cat,city,train", "there is no file {root}/images/99.png"),
        ("images,cat,city,train", "there is no file {root}/images"),
        ("images/6.png,cat,city,exam", "unknown split 'exam'; say train, tuning or test"),
        ("images/6.png,cat,city,", "the split is empty"),
        ("images/6.png,cat", "there are 2 cells under 4 columns"),
        ("images/6.png,cat,,train", "the group is empty"),
        ("images/6.png,,city,train", "the label is empty"),
        (",cat,city,train", "the path is empty"),
        ("./images/3.png,cat,city,test", "./images/3.png stands in line 2 already"),
        ("images/6.png,eel,city,test", "no training image has the label 'eel'"),
        ("images/6.png,eel,city,tuning", "no training image has the label 'eel'"),
    ],
)
def test_a_row_that_cannot_be_used_is_named_by_its_line(tmp_path, row, what):
    write(tmp_path, FULL[0], "", *FULL[1:], row, header="path,label,group,split")
    assert sentence_of(tmp_path) == f"{tmp_path / 'list.csv'}, line 8: {what.format(root=tmp_path)}"


@pytest.mark.parametrize("missing", ["path", "label"])
def test_a_missing_column_is_named(tmp_path, missing):
    write(tmp_path, "images/0.png,cat", header="path,label".replace(missing, "other"))
    there = "path,label".replace(missing, "other").replace(",", ", ")
    assert sentence_of(tmp_path) == (
        f"{tmp_path / 'list.csv'}, line 1: there is no column {missing!r}; there are: {there}"
    )


def test_a_column_that_is_there_twice_is_named(tmp_path):
    write(tmp_path, "images/0.png,cat,dog", header="path,label,label")
    assert sentence_of(tmp_path) == f"{tmp_path / 'list.csv'}, line 1: there is more than one column 'label'"


@pytest.mark.parametrize("part", ["train", "test"])
def test_a_part_without_rows_is_named(tmp_path, part):
    rest = [row for row in FULL if not row.endswith((f",{part}", ",tuning"))]
    write(tmp_path, *rest, header="path,label,group,split")
    assert sentence_of(tmp_path) == (
        f"{tmp_path / 'list.csv'} has no row with split {part}; add some, or leave the column out"
    )


def test_a_tuning_set_of_its_own_and_one_held_out_exclude_each_other(tmp_path):
    write(tmp_path, *FULL, header="path,label,group,split")
    assert sentence_of(tmp_path, options={"tuning": 0.1}) == (
        f"{tmp_path / 'list.csv'} has a tuning set of its own; leave the option tuning=0.1 out"
    )


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", "line 1: there is no column 'path'"),
        (b"path,label\n", " has no row below its header"),
        (b"path,label\n\xff\xfe,cat\n", "cannot read"),
        (b'path,label\n"images/0.png,cat\n', "cannot read"),
    ],
)
def test_a_file_that_is_no_list_is_one_sentence(tmp_path, content, what):
    (tmp_path / "list.csv").write_bytes(content)
    assert what in sentence_of(tmp_path)


def test_a_missing_file_is_named(tmp_path):
    assert sentence_of(tmp_path) == (f"cannot read {tmp_path / 'list.csv'}: No such file or directory")


def test_the_file_must_be_given():
    with pytest.raises(ConfigError, match="--dataset csv:FILE"):
        load_dataset(DataSettings(dataset="csv"), REGISTRY)
