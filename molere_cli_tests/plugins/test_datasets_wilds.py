"""The WILDS datasets, each on a small fixture in the layout it is published in."""

from __future__ import annotations

import csv
import sys
from dataclasses import replace

import pytest
import torch
from PIL import Image

from molere_cli.commands import app as entry
from molere_cli.config.sections import DataSettings
from molere_cli.data.check import check_dataset
from molere_cli.data.source import load_dataset
from molere_cli.foundation.errors import DataError
from molere_cli.registry.registry import load_plugins

REGISTRY = load_plugins()


def draw(path, number) -> None:
    """Write the image of that number, which its width tells."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8 + number, 8), (number, 0, 0)).save(path)


def numbers_of(examples) -> list[int]:
    return [examples.images.read(position).shape[2] - 8 for position in range(len(examples))]


def write_table(path, header, rows) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])


def write_waterbirds(root, folder="waterbird_complete95_forest2water2"):
    """Image n has bird, place and split of the table below; img_id counts from 1."""
    place = root / folder
    rows = []
    for number, (bird, ground, split) in enumerate(BIRDS):
        name = f"{number:03}.Some_bird/Bird_{number}.jpg"
        draw(place / name, number)
        rows.append([number + 1, name, bird, split, ground, f"/o/ocean/{number}.jpg"])
    header = ["img_id", "img_filename", "y", "split", "place", "place_filename"]
    write_table(place / "metadata.csv", header, rows)
    return place / "metadata.csv"


BIRDS = [(0, 0, 0), (1, 1, 2), (1, 0, 0), (0, 1, 1), (1, 1, 0), (0, 1, 2), (0, 0, 1)]  # y, place, split

PATCHES = [  # center, split, tumor
    (0, 0, 1),
    (3, 1, 0),
    (1, 0, 1),
    (2, 0, 0),
    (4, 0, 0),
    (2, 1, 1),
    (1, 1, 0),
    (3, 0, 1),
]


def write_camelyon17(root):
    """The first column has no name; patients are written with leading zeros."""
    place = root / "camelyon17_v1.0"
    rows = []
    for number, (center, split, tumor) in enumerate(PATCHES):
        patient, node, x, y = f"{20 * center + 4:03}", 1, 32 * number, 64
        slide = f"patient_{patient}_node_{node}"
        draw(place / "patches" / slide / f"patch_{slide}_x_{x}_y_{y}.png", number)
        rows.append([number, patient, node, x, y, tumor, 10 * center, center, split])
    header = ["", "patient", "node", "x_coord", "y_coord", "tumor", "slide", "center", "split"]
    write_table(place / "metadata.csv", header, rows)
    return place / "metadata.csv"


PHOTOGRAPHS = [  # split, location, y
    ("train", 0, 2),
    ("test", 5, 0),
    ("id_test", 0, 2),
    ("val", 3, 1),
    ("id_val", 0, 3),
    ("train", 1, 0),
    ("test", 4, 1),
]


def write_iwildcam(root):
    place = root / "iwildcam_v2.0"
    rows = []
    for number, (split, location, label) in enumerate(PHOTOGRAPHS):
        draw(place / "train" / f"{number:08x}-21bc-11ea.jpg", number)
        rows.append(
            [split, location, number, label, f"{number:08x}-21bc-11ea.jpg", "2013-06-05 05:44:19.000", ""]
        )
    header = ["split", "location_remapped", "sequence_remapped", "y", "filename", "datetime", "seq_id"]
    write_table(place / "metadata.csv", header, rows)
    return place / "metadata.csv"


PLOTS = [  # split, category, timestamp, country
    ("seq", "zoo", "2011-01-01T10:00:00Z", "FRA"),
    ("train", "zoo", "2012-12-31T23:59:59Z", "FRA"),
    ("train", "airport", "2013-01-01T00:00:00Z", "FRA"),
    ("val", "airport", "2013-01-01T00:00:00Z", "KEN"),
    ("val", "zoo", "2012-06-01T00:00:00Z", "KEN"),
    ("test", "barn", "2012-06-01T00:00:00Z", "XYZ"),
    ("val", "barn", "2015-12-31T23:59:59Z", "FRA"),
    ("test", "zoo", "2015-07-01T00:00:00Z", "FRA"),
    ("test", "zoo", "2016-01-01T00:00:00Z", "KEN"),
    ("train", "dam", "2002-06-01T00:00:00Z", "ATA"),
    ("train", "dam", "2005-06-01T00:00:00Z", "KEN"),
    ("test", "dam", "2015-12-31T23:30:00-01:00", "ATA"),
    ("train", "dam", "2016-06-01T00:00:00Z", "KEN"),
]


def write_fmow(root):
    """Images are numbered as the rows are; Antarctica has no region, and XYZ is no country."""
    place = root / "fmow_v1.1"
    for number in range(len(PLOTS)):
        draw(place / "images" / f"rgb_img_{number}.png", number)
    rows = [[split, "", category, "True", country, 3, time] for split, category, time, country in PLOTS]
    header = ["split", "img_filename", "category", "visible", "country_code", "cloud_cover", "timestamp"]
    write_table(place / "rgb_metadata.csv", header, rows)
    countries = [
        ["France", "FR", "FRA", "Europe"],
        ["Kenya", "KE", "KEN", "Africa"],
        ["Antarctica", "AQ", "ATA", ""],
    ]
    write_table(place / "country_code_mapping.csv", ["name", "alpha-2", "alpha-3", "region"], countries)
    return place / "rgb_metadata.csv"


WRITERS = {
    "wilds-waterbirds": write_waterbirds,
    "wilds-camelyon17": write_camelyon17,
    "wilds-iwildcam": write_iwildcam,
    "wilds-fmow": write_fmow,
}


def load(name, root):
    return load_dataset(DataSettings(dataset=name, data_dir=root), REGISTRY)


def sentence_of(name, root) -> str:
    with pytest.raises(DataError) as caught:
        load(name, root)
    sentence = str(caught.value)
    assert "\n" not in sentence
    return sentence


def seen(examples) -> tuple[list[int], list[int], list[int]]:
    """Which images, with which labels and groups."""
    assert examples.labels.dtype == examples.groups.dtype == torch.int64
    return numbers_of(examples), examples.labels.tolist(), examples.groups.tolist()


@pytest.mark.parametrize("folder", ["waterbird_complete95_forest2water2", "waterbirds_v1.0"])
def test_waterbirds_are_grouped_by_bird_and_place(tmp_path, folder):
    write_waterbirds(tmp_path, folder)
    dataset = load("wilds-waterbirds", tmp_path).dataset
    assert seen(dataset.pool) == ([0, 2, 4], [0, 1, 1], [0, 2, 3])
    assert seen(dataset.tuning) == ([3, 6], [0, 0], [1, 0])
    assert seen(dataset.tests["test"]) == ([1, 5], [1, 0], [3, 1])
    assert dataset.class_names == ("landbird", "waterbird")
    assert dataset.group_names[1:3] == ("landbird on water", "waterbird on land")


def test_camelyon17_is_split_by_hospital(tmp_path):
    """The table's own split only holds out a part of the training hospitals."""
    write_camelyon17(tmp_path)
    dataset = load("wilds-camelyon17", tmp_path).dataset
    assert seen(dataset.pool) == ([0, 4, 7], [1, 0, 1], [0, 4, 3])
    assert seen(dataset.tuning) == ([2, 6], [1, 0], [1, 1])
    assert seen(dataset.tests["test"]) == ([3, 5], [0, 1], [2, 2])
    assert seen(dataset.tests["id_val"]) == ([1], [0], [3])
    assert list(dataset.tests) == ["test", "id_val"]
    assert dataset.class_names == ("no tumour", "tumour")


def test_iwildcam_is_split_by_camera_trap(tmp_path):
    write_iwildcam(tmp_path)
    dataset = load("wilds-iwildcam", tmp_path).dataset
    assert seen(dataset.pool) == ([0, 5], [2, 0], [0, 1])
    assert seen(dataset.tuning) == ([3], [1], [3])
    assert seen(dataset.tests["test"]) == ([1, 6], [0, 1], [5, 4])
    assert seen(dataset.tests["id_test"]) == ([2], [2], [0])
    assert dataset.class_names == ("0", "1", "2", "3")
    assert len(dataset.group_names) == 6


def test_animals_have_the_names_of_the_list_beside_the_table(tmp_path):
    table = write_iwildcam(tmp_path)
    names = [[3, 26, "panthera onca"], [0, 0, "empty"], [1, 10, "cuniculus paca"], [2, 20, "tapirus"]]
    write_table(table.parent / "categories.csv", ["y", "category_id", "name"], [*names, [99999, 7, "start"]])
    dataset = load("wilds-iwildcam", tmp_path).dataset
    assert dataset.class_names == ("empty", "cuniculus paca", "tapirus", "panthera onca")


def test_fmow_is_split_by_time_and_part(tmp_path):
    write_fmow(tmp_path)
    dataset = load("wilds-fmow", tmp_path).dataset
    airport, barn, dam, zoo = (dataset.class_names.index(name) for name in ("airport", "barn", "dam", "zoo"))
    assert dataset.group_names == ("Africa", "Europe", "Other")
    assert seen(dataset.pool) == ([1, 9, 10], [zoo, dam, dam], [1, 2, 0])
    assert seen(dataset.tuning) == ([3, 6], [airport, barn], [0, 1])
    assert seen(dataset.tests["test"]) == ([8, 11], [zoo, dam], [0, -1])
    assert seen(dataset.tests["id_test"]) == ([5], [barn], [-1])
    assert len(dataset.class_names) == 62
    assert list(dataset.class_names) == sorted(dataset.class_names)


@pytest.mark.parametrize("name", WRITERS)
def test_the_fingerprint_does_not_know_where_the_data_lies(name, tmp_path):
    for place in ("here", "there"):
        WRITERS[name](tmp_path / place)
    assert load(name, tmp_path / "here").fingerprint == load(name, tmp_path / "there").fingerprint


# --- what is wrong with it


TABLES = {
    "wilds-waterbirds": ("Waterbirds", "waterbird_complete95_forest2water2/metadata.csv"),
    "wilds-camelyon17": ("Camelyon17-WILDS", "camelyon17_v1.0/metadata.csv"),
    "wilds-iwildcam": ("iWildCam2020-WILDS", "iwildcam_v2.0/metadata.csv"),
    "wilds-fmow": ("FMoW-WILDS", "fmow_v1.1/rgb_metadata.csv"),
}


@pytest.mark.parametrize("name", WRITERS)
def test_what_is_missing_says_which_file_was_looked_for_and_where_it_comes_from(name, tmp_path):
    title, file = TABLES[name]
    table = tmp_path / file
    sentence = sentence_of(name, tmp_path)
    assert sentence.startswith(
        f"{title} is not in {table.parent} and cannot be downloaded (there is no file {table}); "
    )
    assert "https://" in sentence
    assert sentence.endswith(", or look elsewhere with --data-dir")


def test_the_list_of_countries_is_looked_for_too(tmp_path):
    countries = write_fmow(tmp_path).with_name("country_code_mapping.csv")
    countries.unlink()
    assert f"(there is no file {countries})" in sentence_of("wilds-fmow", tmp_path)


@pytest.mark.parametrize("name", WRITERS)
def test_a_row_whose_image_is_not_there_is_named(name, tmp_path):
    """The pool's last row, in line 2 + n for the image n."""
    table = WRITERS[name](tmp_path)
    dataset = load(name, tmp_path).dataset
    path = dataset.pool.images.root / dataset.pool.images.paths[-1]
    line = 2 + numbers_of(dataset.pool)[-1]
    path.unlink()
    assert sentence_of(name, tmp_path) == f"{table}, line {line}: there is no file {path}"


@pytest.mark.parametrize("name", WRITERS)
def test_a_truncated_image_is_named_when_it_is_read(name, tmp_path):
    WRITERS[name](tmp_path)
    images = load(name, tmp_path).dataset.tests["test"].images
    path = images.root / images.paths[0]
    path.write_bytes(path.read_bytes()[:45])
    with pytest.raises(DataError) as caught:
        images.read(0)
    assert str(caught.value).startswith(f"cannot read the image {path}: ")


@pytest.mark.parametrize(
    ("name", "before", "after", "what"),
    [
        ("wilds-waterbirds", ",1,2,1,", ",2,2,1,", "line 3: the y is 2; it can be 0 to 1"),
        ("wilds-waterbirds", ",1,2,1,", ",1,3,1,", "line 3: the split is 3; it can be 0 to 2"),
        ("wilds-waterbirds", ",1,2,1,", ",1,2,sea,", "line 3: the place 'sea' is no whole number"),
        ("wilds-waterbirds", ",1,2,1,", ",1,2,", "line 3: there are 5 cells under 6 columns"),
        ("wilds-waterbirds", "img_filename", "file", "line 1: there is no column 'img_filename'"),
        ("wilds-waterbirds", "place_filename", "place", "line 1: there is more than one column 'place'"),
        ("wilds-camelyon17", ",1,20,2,1", ",1,20,7,1", "line 7: the center is 7; it can be 0 to 4"),
        ("wilds-camelyon17", ",1,20,2,1", ",1,20,2,-1", "line 7: the split '-1' is no whole number"),
        ("wilds-camelyon17", "tumor", "label", "line 1: there is no column 'tumor'"),
        ("wilds-iwildcam", "id_val,", "idval,", "line 6: unknown split 'idval'; it can be train, val, "),
        ("wilds-iwildcam", "test,5,1,0,", "test,5,1,,", "line 3: the y '' is no whole number"),
        ("wilds-fmow", "seq,", "seqs,", "line 2: unknown split 'seqs'; it can be train, val, test, seq"),
        ("wilds-fmow", ",barn,True,XYZ", ",burn,True,XYZ", "line 7: unknown category 'burn'"),
        ("wilds-fmow", "2002-06-01T", "June ", "line 11: the timestamp 'June 00:00:00Z' is no ISO 8601 date"),
    ],
)
def test_a_row_that_cannot_be_used_is_named_by_its_line(tmp_path, name, before, after, what):
    table = WRITERS[name](tmp_path)
    text = table.read_bytes().decode()
    assert text.count(before) == 1
    table.write_bytes(text.replace(before, after).encode())
    assert sentence_of(name, tmp_path).startswith(f"{table}, {what}")


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", "{table}, line 1: there is no column 'img_filename'"),
        (b"img_filename,y,split,place\r\n\r\n", "{table} has no row below its header"),
        (b"img_filename,y,split,place\n\xff\xfe,0,0,0\n", "cannot read {table}: "),
        (b'img_filename,y,split,place\n"a.jpg,0,0,0\n', "cannot read {table}: "),
    ],
)
def test_a_file_that_is_no_table_is_one_sentence(tmp_path, content, what):
    table = write_waterbirds(tmp_path)
    table.write_bytes(content)
    assert sentence_of("wilds-waterbirds", tmp_path).startswith(what.format(table=table))


def test_a_part_without_images_is_named(tmp_path):
    table = write_waterbirds(tmp_path)
    lines = table.read_text().splitlines()
    table.write_text("\n".join(line for line in lines if ",1,2,1," not in line and ",0,2,1," not in line))
    assert sentence_of("wilds-waterbirds", tmp_path) == ("the test of dataset 'wilds-waterbirds' is empty")


def test_a_pool_may_not_have_examples_of_no_group(tmp_path):
    """Methods that go by groups take them for positions."""
    write_fmow(tmp_path)
    dataset = load("wilds-fmow", tmp_path).dataset
    check_dataset(dataset, name="wilds-fmow")
    groups = torch.tensor([1, -1, 0])
    with pytest.raises(DataError, match=r"the pool of dataset 'wilds-fmow' has group -1; groups start at 0"):
        check_dataset(replace(dataset, pool=replace(dataset.pool, groups=groups)), name="wilds-fmow")


# --- from the command line


@pytest.fixture
def molere(monkeypatch, capsys, in_tmp):
    """Run a command line; exit code and what was written to stderr."""

    def run(*words) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["molere", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            entry.main()
        return ended.value.code or 0, capsys.readouterr().err

    return run


TRAIN = (
    "train",
    "--quiet",
    "--method",
    "erm",
    "--epochs",
    1,
    "--workers",
    0,
    "--device",
    "cpu",
    "--image-size",
    8,
)


def test_a_run_measures_macro_f1_and_the_worst_group_on_every_set(molere, in_tmp):
    write_fmow(in_tmp / "data")
    code, _ = molere(*TRAIN, "--dataset", "wilds-fmow", "--out", "run")
    assert code == 0
    last = (in_tmp / "run" / "metrics.jsonl").read_text().splitlines()[-1]
    for key in ("test/macro_f1", "id_test/macro_f1", "tuning/macro_f1", "test/worst_group"):
        assert f'"{key}"' in last
    assert '"id_test/worst_group"' not in last


def test_a_missing_folder_ends_a_command_before_anything_is_written(molere, in_tmp):
    code, errors = molere(*TRAIN, "--dataset", "wilds-waterbirds", "--data-dir", in_tmp / "nowhere")
    assert code == 1
    assert errors.startswith("molere: Waterbirds is not in ")
    assert errors.count("\n") == 1
    assert list(in_tmp.iterdir()) == []


def test_a_truncated_image_ends_a_run_by_its_name(molere, in_tmp):
    table = write_waterbirds(in_tmp / "data")
    path = table.parent / "002.Some_bird" / "Bird_2.jpg"
    path.write_bytes(path.read_bytes()[:200])
    code, errors = molere(*TRAIN, "--dataset", "wilds-waterbirds", "--out", "run")
    assert code == 1
    assert f"molere: cannot read the image {path}: " in errors
    assert not (in_tmp / "run" / "DONE").exists()
