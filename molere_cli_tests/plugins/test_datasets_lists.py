"""Clothing-1M and the retinas: datasets that come as lists of files."""

from __future__ import annotations

import pytest

from molere_cli_tests.plugins.test_datasets_torchvision_more import draw, load, numbers_of, sentence_of

KINDS = ("T-Shirt", "Shirt", "Windbreaker")


@pytest.fixture
def clothing(tmp_path):
    """Six noisy images, and two clean ones in each of the other lists; the image's number says which."""
    root = tmp_path / "clothing1m"
    keys = [f"images/{number % 2}/{number:02}.jpg" for number in range(12)]
    for number, key in enumerate(keys):
        draw(root / key, number)
    lists = {
        "noisy_train": keys[:6],
        "clean_train": keys[6:8],
        "clean_val": keys[8:10],
        "clean_test": keys[10:],
    }
    for name, own in lists.items():
        (root / f"{name}_key_list.txt").write_text("\n".join(own) + "\n")
    for name, shift in (("noisy", 1), ("clean", 0)):
        lines = [f"{key} {(number + shift) % 3}" for number, key in enumerate(keys)]
        (root / f"{name}_label_kv.txt").write_text("\n".join(lines))
    (root / "category_names_eng.txt").write_text("\n".join(KINDS))
    return root


def test_clothing_trains_on_noisy_labels_and_is_tested_on_clean_ones(clothing, tmp_path):
    dataset = load("clothing1m", tmp_path).dataset
    assert dataset.class_names == KINDS
    assert numbers_of(dataset.pool) == list(range(6))
    assert dataset.pool.labels.tolist() == [1, 2, 0, 1, 2, 0]
    assert (numbers_of(dataset.tuning), dataset.tuning.labels.tolist()) == ([8, 9], [2, 0])
    test = dataset.tests["test"]
    assert (numbers_of(test), test.labels.tolist()) == ([10, 11], [1, 2])


def test_clothing_does_not_train_on_what_it_is_tested_on(clothing, tmp_path):
    path = clothing / "noisy_train_key_list.txt"
    path.write_text("images/1/11.jpg\nimages/0/08.jpg\n" + path.read_text())
    assert numbers_of(load("clothing1m", tmp_path).dataset.pool) == list(range(6))


@pytest.mark.parametrize(
    ("file", "text", "sentence"),
    [
        (
            "noisy_label_kv.txt",
            "images/0/00.jpg 3",
            "line 1: 'images/0/00.jpg 3' is no image and label of 0 to 2",
        ),
        (
            "noisy_label_kv.txt",
            "images/0/00.jpg",
            "line 1: 'images/0/00.jpg' is no image and label of 0 to 2",
        ),
        ("clean_test_key_list.txt", "images/0/99.jpg", "line 1: images/0/99.jpg has no label"),
    ],
)
def test_a_line_of_clothings_lists_that_is_of_no_use_is_named(file, text, sentence, clothing, tmp_path):
    (clothing / file).write_text(text)
    assert sentence_of(lambda: load("clothing1m", tmp_path)) == f"{clothing / file}, {sentence}"


def test_what_is_missing_of_clothing_is_named(clothing, tmp_path):
    (clothing / "images" / "1" / "03.jpg").unlink()
    missing = clothing / "images" / "1" / "03.jpg"
    assert sentence_of(lambda: load("clothing1m", tmp_path)) == (
        f"cannot read the image {missing}: No such file or directory"
    )
    (clothing / "clean_val_key_list.txt").unlink()
    assert sentence_of(lambda: load("clothing1m", tmp_path)).startswith(
        f"cannot read the list {clothing / 'clean_val_key_list.txt'}: "
    )
    (clothing / "category_names_eng.txt").unlink()
    assert sentence_of(lambda: load("clothing1m", tmp_path)).startswith(f"Clothing-1M is not in {clothing} (")


# --- retinas


@pytest.fixture
def retinas(tmp_path):
    """Forty patients, two eyes each; the worse eye's grade is the patient's number modulo 5."""
    root = tmp_path / "diabetic-retinopathy"
    lines = ["image,level"]
    for patient in range(40):
        for number, side in enumerate(("left", "right")):
            draw(root / "train" / f"{patient}_{side}.jpeg", 2 * patient + number)
            lines.append(f"{patient}_{side},{patient % 5 if number else 0}")
    (root / "trainLabels.csv").write_text("\n".join(lines) + "\n")
    return root


def test_both_eyes_of_a_patient_are_on_one_side_and_grades_in_proportion(retinas, tmp_path):
    dataset = load("diabetic-retinopathy", tmp_path, options={"test_fraction": 0.25, "tuning": 0.2}).dataset
    parts = {"pool": dataset.pool, "tuning": dataset.tuning, "test": dataset.tests["test"]}
    patients = {name: {number // 2 for number in numbers_of(part)} for name, part in parts.items()}
    assert {name: len(part) for name, part in parts.items()} == {"pool": 48, "tuning": 12, "test": 20}
    assert {name: len(own) for name, own in patients.items()} == {"pool": 24, "tuning": 6, "test": 10}
    assert len(patients["pool"] | patients["tuning"] | patients["test"]) == 40
    for part in parts.values():
        for number, label in zip(numbers_of(part), part.labels.tolist(), strict=True):
            assert label == (number // 2 % 5 if number % 2 else 0)
    assert sorted(patient % 5 for patient in patients["test"]) == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    other = load("diabetic-retinopathy", tmp_path, options={"test_fraction": 0.25}, data_seed=1).dataset
    assert numbers_of(other.tests["test"]) != numbers_of(dataset.tests["test"])
    assert dataset.class_names == ("none", "mild", "moderate", "severe", "proliferative")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("image,level\n0_left,5\n", ", line 2: the level is 5; it can be 0 to 4"),
        ("image,level\n0_left,0\n0_left\n", ", line 3: there are 1 cells under 2 columns"),
        ("image,level\n99_left,0\n", ", line 2: there is no file {root}/train/99_left.jpeg"),
        ("image\n0_left\n", ", line 1: there is no column 'level'; there are: image"),
    ],
)
def test_a_row_of_no_use_is_named(text, sentence, retinas, tmp_path):
    path = retinas / "trainLabels.csv"
    path.write_text(text)
    assert (
        sentence_of(lambda: load("diabetic-retinopathy", tmp_path))
        == f"{path}{sentence.format(root=retinas)}"
    )


def test_where_the_retinas_are_looked_for_is_said(tmp_path):
    sentence = sentence_of(lambda: load("diabetic-retinopathy", tmp_path))
    assert str(tmp_path / "diabetic-retinopathy") in sentence
    assert "kaggle.com" in sentence
