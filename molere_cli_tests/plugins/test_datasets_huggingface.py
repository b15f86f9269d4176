"""Parquet folders and the Hub: layouts, class names, memory limit, and one sentence for what is broken."""

from __future__ import annotations

import io
import json
import pickle
import sys

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from molere_cli.config.run_config import RunConfig
from molere_cli.config.sections import DataSettings
from molere_cli.data.fingerprint import fingerprint
from molere_cli.data.source import load_dataset
from molere_cli.foundation.errors import ConfigError, DataError
from molere_cli.registry.registry import load_plugins

REGISTRY = load_plugins()
IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def pixels_of(number: int, *, height=6, width=7) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 256, (height, width, 3), dtype=np.uint8)


def png(pixels) -> bytes:
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "PNG")
    return content.getvalue()


def rows(numbers, *, image="image", label="label", contents=None, metadata=None, kind=IMAGE) -> pa.Table:
    """One row a number: random pixels that follow from it, labels 0 and 1 in turn."""
    contents = contents or [png(pixels_of(number)) for number in numbers]
    images = pa.array([{"bytes": content, "path": None} for content in contents], type=kind)
    table = pa.table({image: images, label: pa.array([number % 2 for number in numbers])})
    return table.replace_schema_metadata(metadata)


def write_folder(root, **tables):
    """`root` with a file a table; `train_0` becomes `train-0.parquet`."""
    root.mkdir(parents=True, exist_ok=True)
    for name, table in tables.items():
        pq.write_table(table, root / f"{name.replace('_', '-')}.parquet")
    return root


def load(root, **options):
    given = {key: str(value) for key, value in options.items()}
    return load_dataset(DataSettings(dataset=f"parquet:{root}", dataset_option=given), REGISTRY).dataset


def images_of(examples) -> torch.Tensor:
    """All images, decoded if need be."""
    if isinstance(examples.images, torch.Tensor):
        return examples.images
    return torch.stack([examples.images.read(position) for position in range(len(examples))])


def expected_images(numbers) -> torch.Tensor:
    return torch.stack([torch.from_numpy(pixels_of(number)).permute(2, 0, 1) for number in numbers])


# --- what is read


@pytest.mark.parametrize("folder", ["", "data"])
@pytest.mark.parametrize("test_name", ["test", "validation", "val"])
def test_a_folder_is_read_pixel_for_pixel(tmp_path, folder, test_name):
    write_folder(tmp_path / folder, train=rows(range(10)), **{test_name: rows(range(20, 24))})
    dataset = load(tmp_path)
    assert torch.equal(dataset.pool.images, expected_images(range(10)))
    assert torch.equal(dataset.tests["test"].images, expected_images(range(20, 24)))
    assert dataset.pool.labels.tolist() == [0, 1] * 5
    assert dataset.pool.images.dtype == torch.uint8
    assert dataset.tuning is None


def test_shards_follow_one_another_by_name(tmp_path):
    write_folder(
        tmp_path,
        train_00001_of_00003=rows(range(4, 7)),
        train_00000_of_00003=rows(range(4)),
        train_00002_of_00003=rows(range(7, 12)),
        test=rows([20, 21]),
    )
    dataset = load(tmp_path)
    assert torch.equal(dataset.pool.images, expected_images(range(12)))
    assert dataset.pool.labels.tolist() == [0, 1] * 6


@pytest.mark.parametrize("ending", ["_0", "0", ".0", " 0", "-00000-of-00001"])
def test_what_follows_the_name_of_the_split_may_be_set_off_as_datasets_does(tmp_path, ending):
    pq.write_table(rows(range(10)), tmp_path / f"train{ending}.parquet")
    pq.write_table(rows([20, 21]), tmp_path / f"test{ending}.parquet")
    dataset = load(tmp_path)
    assert (len(dataset.pool), len(dataset.tests["test"])) == (10, 2)


def test_shards_and_one_file_have_the_same_fingerprint_read_either_way(tmp_path):
    write_folder(tmp_path / "one", train=rows(range(12)), test=rows([20, 21]))
    write_folder(
        tmp_path / "many",
        train_00000_of_00002=rows(range(5)),
        train_00001_of_00002=rows(range(5, 12)),
        test=rows([20, 21]),
    )
    one, many = load(tmp_path / "one"), load(tmp_path / "many")
    assert fingerprint(one.pool) == fingerprint(many.pool)


def test_the_validation_file_is_the_test_set_only_where_there_is_no_test_file(tmp_path):
    write_folder(tmp_path, train=rows(range(10)), validation=rows([20]), test=rows([30, 31]))
    assert torch.equal(load(tmp_path).tests["test"].images, expected_images([30, 31]))


def test_columns_of_other_names_are_found_by_type(tmp_path):
    write_folder(tmp_path, train=rows(range(10), image="photo", label="kind"), test=rows([20]))
    with pytest.raises(DataError, match="test"):
        load(tmp_path, image_column="photo", label_column="kind")
    write_folder(tmp_path, test=rows([20, 21], image="photo", label="kind"))
    dataset = load(tmp_path)
    assert torch.equal(dataset.pool.images, expected_images(range(10)))
    assert dataset.pool.labels.tolist() == [0, 1] * 5


def test_the_column_asked_for_wins(tmp_path):
    table = rows(range(10)).append_column("kind", pa.array([number % 5 for number in range(10)]))
    write_folder(tmp_path, train=table, test=table)
    assert load(tmp_path).pool.labels.tolist() == [0, 1] * 5
    dataset = load(tmp_path, label_column="kind")
    assert dataset.pool.labels.tolist() == [0, 1, 2, 3, 4] * 2
    assert dataset.class_names == tuple("01234")


def test_large_binary_columns_are_read(tmp_path):
    large = pa.struct([("bytes", pa.large_binary()), ("path", pa.string())])
    write_folder(tmp_path, train=rows(range(10), kind=large), test=rows([20, 21]))
    assert torch.equal(load(tmp_path).pool.images, expected_images(range(10)))


def test_grey_and_palette_images_become_rgb(tmp_path):
    grey = pixels_of(0)[:, :, 0]
    palette = Image.fromarray(pixels_of(1)).convert("P")
    content = io.BytesIO()
    palette.save(content, "PNG")
    table = rows(range(4), contents=[png(grey), content.getvalue(), png(grey), png(grey)])
    write_folder(tmp_path, train=table, test=rows([20, 21]))
    images = load(tmp_path).pool.images
    assert torch.equal(images[0], torch.from_numpy(grey).expand(3, -1, -1))
    assert torch.equal(images[1], torch.from_numpy(np.array(palette.convert("RGB"))).permute(2, 0, 1))


@pytest.mark.parametrize(
    "metadata",
    [
        {"class_names": json.dumps(["cat", "dog"])},
        {
            "huggingface": json.dumps(
                {
                    "info": {
                        "features": {
                            "image": {"_type": "Image"},
                            "label": {"names": ["cat", "dog"], "_type": "ClassLabel"},
                        }
                    }
                }
            )
        },
    ],
    ids=["class_names", "huggingface"],
)
def test_class_names_come_from_the_metadata(tmp_path, metadata):
    write_folder(tmp_path, train=rows(range(10), metadata=metadata), test=rows([20, 21]))
    assert load(tmp_path).class_names == ("cat", "dog")


def test_without_metadata_classes_are_numbered(tmp_path):
    write_folder(
        tmp_path, train=rows(range(10), metadata={"huggingface": '{"info": {}}'}), test=rows([20, 21])
    )
    assert load(tmp_path).class_names == ("0", "1")


def labelled(labels) -> pa.Table:
    return rows(range(len(labels))).set_column(1, "label", pa.array(labels))


def test_without_metadata_labels_with_gaps_are_renumbered_in_order(tmp_path):
    write_folder(tmp_path, train=labelled([7, 1, 3, 7]), test=labelled([3, 7]))
    dataset = load(tmp_path)
    assert dataset.class_names == ("1", "3", "7")
    assert dataset.pool.labels.tolist() == [2, 0, 1, 2]
    assert dataset.tests["test"].labels.tolist() == [1, 2]


def test_with_class_names_labels_stay_as_they_are(tmp_path):
    table = labelled([2, 0, 2, 0]).replace_schema_metadata({"class_names": json.dumps(["cat", "cow", "dog"])})
    write_folder(tmp_path, train=table, test=table)
    assert load(tmp_path).pool.labels.tolist() == [2, 0, 2, 0]


@pytest.mark.parametrize("chunk", [3, 4096])
def test_pixel_statistics_are_those_of_the_pool(tmp_path, monkeypatch, chunk):
    monkeypatch.setattr("molere_huggingface.assemble.CHUNK", chunk)
    write_folder(tmp_path, train=rows(range(10)), test=rows([20, 21]))
    dataset = load(tmp_path)
    pixels = expected_images(range(10)).double() / 255
    assert dataset.mean == pytest.approx(pixels.mean(dim=(0, 2, 3)).tolist(), abs=1e-9)
    assert dataset.std == pytest.approx(pixels.std(dim=(0, 2, 3), correction=0).tolist(), abs=1e-9)


# --- held out


def test_without_a_test_file_a_part_of_the_training_rows_is_held_out(tmp_path):
    write_folder(tmp_path, train=rows(range(40)))
    dataset = load(tmp_path, test_fraction=0.25)
    pool, test = dataset.pool, dataset.tests["test"]
    assert (len(pool), len(test)) == (30, 10)
    assert test.labels.bincount().tolist() == [5, 5]
    assert sorted(pool.indices.tolist() + test.indices.tolist()) == list(range(40))
    assert torch.equal(test.images, expected_images(test.indices.tolist()))


def test_a_tuning_set_is_held_out_of_the_training_rows_on_request(tmp_path):
    write_folder(tmp_path, train=rows(range(40)), test=rows([100, 101]))
    dataset = load(tmp_path, tuning=0.2)
    assert (len(dataset.pool), len(dataset.tuning), len(dataset.tests["test"])) == (32, 8, 2)
    assert sorted(dataset.pool.indices.tolist() + dataset.tuning.indices.tolist()) == list(range(40))
    assert torch.equal(dataset.tuning.images, expected_images(dataset.tuning.indices.tolist()))


def test_hold_outs_follow_the_data_seed(tmp_path):
    write_folder(tmp_path, train=rows(range(40)))

    def held_out(**seeds):
        loaded = load_dataset(RunConfig.of(dataset=f"parquet:{tmp_path}", **seeds).data, REGISTRY)
        return loaded.dataset.tests["test"].indices.tolist()

    assert held_out() == held_out(seed=5)
    assert held_out() != held_out(data_seed=5)


# --- kept compressed


def test_images_of_several_sizes_are_decoded_as_they_are_needed(tmp_path):
    sizes = [(6, 7), (6, 7), (5, 9), (6, 7)]
    shapes = [pixels_of(number, height=h, width=w) for number, (h, w) in enumerate(sizes)]
    table = rows(range(4), contents=[png(pixels) for pixels in shapes])
    write_folder(tmp_path, train=table, test=rows([20, 21]))
    pool = load(tmp_path).pool
    assert len(pool.images) == 4
    for position, pixels in enumerate(shapes):
        image = pool.images.read(position)
        assert image.dtype == torch.uint8
        assert torch.equal(image, torch.from_numpy(pixels).permute(2, 0, 1))


def test_images_beyond_the_memory_limit_are_decoded_as_they_are_needed(tmp_path):
    """Twelve images of 170 kB are 2 MB in memory, though a few kB in the file."""
    flat = [png(np.full((240, 240, 3), 20 * number, dtype=np.uint8)) for number in range(12)]
    write_folder(
        tmp_path,
        train_00000_of_00002=rows(range(6), contents=flat[:6]),
        train_00001_of_00002=rows(range(6, 12), contents=flat[6:]),
        test=rows([20, 21]),
    )
    in_memory, limited = load(tmp_path), load(tmp_path, memory_limit_mib=1)
    assert isinstance(in_memory.pool.images, torch.Tensor)
    assert not isinstance(limited.pool.images, torch.Tensor)
    assert torch.equal(images_of(limited.pool), in_memory.pool.images)
    assert isinstance(limited.tests["test"].images, torch.Tensor)
    assert limited.mean == (0.485, 0.456, 0.406)


def test_a_part_of_a_reader_reads_the_same_images(tmp_path):
    contents = [png(pixels_of(number, height=6 + number % 3)) for number in range(20)]
    write_folder(tmp_path, train=rows(range(20), contents=contents))
    dataset = load(tmp_path, tuning=0.2)
    for part in (dataset.pool, dataset.tuning, dataset.tests["test"]):
        for position, index in enumerate(part.indices.tolist()):
            expected = torch.from_numpy(pixels_of(index, height=6 + index % 3)).permute(2, 0, 1)
            assert torch.equal(part.images.read(position), expected)


def test_a_reader_can_be_sent_to_another_process(tmp_path):
    contents = [png(pixels_of(number, height=6 + number % 3)) for number in range(20)]
    write_folder(tmp_path, train=rows(range(20), contents=contents))
    images = load(tmp_path).pool.images
    sent = pickle.loads(pickle.dumps(images))  # noqa: S301 - dumped here
    assert list(sent.identities()) == list(images.identities())
    assert all(torch.equal(sent.read(position), images.read(position)) for position in range(len(images)))


# --- what is broken


def sentence_of(call) -> str:
    with pytest.raises(DataError) as caught:
        call()
    sentence = str(caught.value)
    assert "\n" not in sentence
    return sentence


def test_a_broken_image_is_named_by_its_own_file_and_row(tmp_path):
    broken = [png(pixels_of(number)) for number in range(4, 8)]
    broken[2] = broken[2][: len(broken[2]) // 2]
    write_folder(
        tmp_path,
        train_00000_of_00002=rows(range(4)),
        train_00001_of_00002=rows(range(4, 8), contents=broken),
        test=rows([20, 21]),
    )
    sentence = sentence_of(lambda: load(tmp_path))
    place = f"cannot read the image {tmp_path / 'train-00001-of-00002.parquet'}, row 2: "
    assert sentence.startswith(place)
    assert len(sentence) > len(place)


def test_bytes_that_are_no_image_are_named(tmp_path):
    write_folder(tmp_path, train=rows(range(4)), test=rows([20, 21], contents=[b"no image", b"at all"]))
    place = f"{tmp_path / 'test.parquet'}, row"
    assert sentence_of(lambda: load(tmp_path)) == (
        f"2 of 2 images cannot be read: {place} 0, {place} 1: it is in no known image format"
    )


def test_a_broken_image_of_a_reader_is_named_before_it_is_needed(tmp_path):
    contents = [png(pixels_of(number, height=6 + number)) for number in range(4)]
    contents[3] = b"no image"
    write_folder(tmp_path, train=rows(range(4), contents=contents), test=rows([20, 21]))
    sentence = sentence_of(lambda: load(tmp_path))
    assert sentence.startswith(f"cannot read the image {tmp_path / 'train.parquet'}, row 3: ")


@pytest.mark.parametrize("sizes", ["one size", "several sizes"])
def test_a_row_without_bytes_is_named(tmp_path, sizes):
    """Found while decoding into memory, or by the fingerprint of what stays compressed."""
    height = (lambda number: 6) if sizes == "one size" else (lambda number: 6 + number)
    contents = [png(pixels_of(number, height=height(number))) for number in range(4)]
    contents[3] = None
    write_folder(tmp_path, train=rows(range(4), contents=contents), test=rows([20, 21]))
    assert sentence_of(lambda: load(tmp_path)) == (
        f"{tmp_path / 'train.parquet'}, row 3: there are no image bytes in it"
    )


def test_a_file_that_is_no_parquet_is_named(tmp_path):
    write_folder(tmp_path, train=rows(range(4)))
    (tmp_path / "test.parquet").write_bytes(b"PAR1 and then nothing of the kind")
    assert sentence_of(lambda: load(tmp_path)).startswith(f"cannot read {tmp_path / 'test.parquet'}: ")


def test_a_truncated_parquet_file_is_named(tmp_path):
    write_folder(tmp_path, train=rows(range(4)), test=rows([20, 21]))
    whole = (tmp_path / "train.parquet").read_bytes()
    (tmp_path / "train.parquet").write_bytes(whole[: len(whole) // 2])
    assert sentence_of(lambda: load(tmp_path)).startswith(f"cannot read {tmp_path / 'train.parquet'}: ")


def test_a_missing_folder_is_named(tmp_path):
    assert sentence_of(lambda: load(tmp_path / "nowhere")) == f"there is no folder {tmp_path / 'nowhere'}"


def test_a_folder_without_a_training_file_is_named(tmp_path):
    write_folder(tmp_path, test=rows([20, 21]), trainer=rows([1, 2]))
    assert (
        sentence_of(lambda: load(tmp_path))
        == f"{tmp_path} has neither train.parquet nor train-*.parquet in it"
    )


def test_a_shard_with_other_columns_is_named(tmp_path):
    write_folder(
        tmp_path,
        train_00000_of_00002=rows(range(4)),
        train_00001_of_00002=rows(range(4, 8), label="kind"),
        test=rows([20, 21]),
    )
    sentence = sentence_of(lambda: load(tmp_path))
    assert sentence.startswith(f"{tmp_path / 'train-00001-of-00002.parquet'} has the columns image (")
    assert "kind (int64), but " in sentence
    assert sentence.endswith("label (int64)")


def test_a_file_without_rows_is_named(tmp_path):
    write_folder(tmp_path, train=rows(range(4)).slice(0, 0), test=rows([20, 21]))
    assert sentence_of(lambda: load(tmp_path)) == f"{tmp_path / 'train.parquet'} has no rows in it"


def test_missing_labels_are_counted(tmp_path):
    table = rows(range(4)).set_column(1, "label", pa.array([0, None, 1, None], type=pa.int64()))
    write_folder(tmp_path, train=table, test=rows([20, 21]))
    assert sentence_of(lambda: load(tmp_path)) == (
        f"{tmp_path / 'train.parquet'}: column 'label' has 2 rows without a label"
    )


def test_labels_beyond_the_class_names_are_refused(tmp_path):
    metadata = {"class_names": json.dumps(["only one"])}
    write_folder(tmp_path, train=rows(range(4), metadata=metadata), test=rows([20, 21]))
    assert "row 1: the label is 1, but there are 1 classes" in sentence_of(lambda: load(tmp_path))


def test_a_test_label_that_no_training_row_has_is_named(tmp_path):
    write_folder(tmp_path, train=labelled([3, 7, 3, 7]), test=labelled([3, 5]))
    assert sentence_of(lambda: load(tmp_path)) == (
        f"{tmp_path / 'test.parquet'} has label 5, which no training row has"
    )


@pytest.mark.parametrize("key", ["class_names", "huggingface"])
def test_metadata_that_cannot_be_read_is_named(tmp_path, key):
    write_folder(tmp_path, train=rows(range(4), metadata={key: "{cat, dog"}), test=rows([20, 21]))
    assert sentence_of(lambda: load(tmp_path)) == (
        f"{tmp_path / 'train.parquet'}: the schema's metadata {key!r} is no JSON"
    )


def test_an_ambiguous_label_column_is_asked_for(tmp_path):
    table = rows(range(4), label="a").append_column("b", pa.array([0, 1, 2, 3]))
    write_folder(tmp_path, train=table, test=rows([20, 21]))
    assert sentence_of(lambda: load(tmp_path)) == (
        f"{tmp_path / 'train.parquet'}: which column is the label? Give --dataset-option label_column=NAME, "
        "where labels are whole numbers, text, or true and false; "
        "the columns are image (struct<bytes: binary, path: string>), a (int64), b (int64)"
    )


def test_a_column_that_holds_no_images_is_refused(tmp_path):
    write_folder(tmp_path, train=rows(range(4)), test=rows([20, 21]))
    sentence = sentence_of(lambda: load(tmp_path, image_column="label"))
    assert "'label' is no image column: it holds int64, and images are structs" in sentence
    assert sentence.endswith("the columns are image, label")


def test_a_struct_whose_bytes_are_numbers_is_no_image_column(tmp_path):
    numbers = pa.struct([("bytes", pa.list_(pa.uint8())), ("path", pa.string())])
    table = rows(range(4)).set_column(0, "image", pa.array([{"bytes": [1, 2], "path": None}] * 4, numbers))
    write_folder(tmp_path, train=table, test=rows([20, 21]))
    assert "which column is the image?" in sentence_of(lambda: load(tmp_path))


def test_an_option_out_of_range_is_a_configuration_error(tmp_path):
    with pytest.raises(ConfigError, match=r"dataset 'parquet': tuning = '0.9'"):
        load(tmp_path, tuning=0.9)


# --- real images


@pytest.mark.parametrize(("name", "num_classes"), [("cifar10", 10), ("cifar100", 100)])
def test_cifar_is_read_pixel_for_pixel(real_data, tmp_path, name, num_classes):
    """A slice of each file, so that the whole need not be decoded; Pillow says what is right."""
    sources = {part: pq.read_table(real_data / name / f"{part}.parquet") for part in ("train", "test")}
    slices = {part: table.slice(len(table) // 2, 300) for part, table in sources.items()}
    write_folder(tmp_path, **slices)
    options = {"label_column": "fine_label"} if "fine_label" in sources["train"].column_names else {}
    dataset = load(tmp_path, **options)
    assert len(dataset.class_names) == num_classes
    for part, examples in {"train": dataset.pool, "test": dataset.tests["test"]}.items():
        column = "img" if "img" in slices[part].column_names else "image"
        for position, row in enumerate(slices[part][column].to_pylist()):
            with Image.open(io.BytesIO(row["bytes"])) as image:
                expected = np.array(image.convert("RGB"))
            assert np.array_equal(examples.images[position].permute(1, 2, 0).numpy(), expected)


# --- the Hub


@pytest.fixture
def offline(tmp_path, monkeypatch):
    """`datasets` without network and with a cache of its own."""
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hf" / "datasets")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    return tmp_path


def load_hub(name, **options):
    return load_dataset(DataSettings(dataset=f"hf:{name}", dataset_option=options), REGISTRY).dataset


def test_a_local_folder_of_parquet_files_is_read_through_datasets(offline):
    metadata = {
        "huggingface": json.dumps(
            {
                "info": {
                    "features": {
                        "image": {"_type": "Image"},
                        "label": {"names": ["cat", "dog"], "_type": "ClassLabel"},
                    }
                }
            }
        )
    }
    folder = write_folder(
        offline / "pets", train=rows(range(10), metadata=metadata), test=rows([20, 21], metadata=metadata)
    )
    dataset = load_hub(folder)
    assert torch.equal(dataset.pool.images, expected_images(range(10)))
    assert torch.equal(dataset.tests["test"].images, expected_images([20, 21]))
    assert dataset.class_names == ("cat", "dog")


def test_a_local_folder_of_image_files_is_read_through_datasets(offline):
    for number in range(10):
        name = offline / "pets" / "train" / ("cat", "dog")[number % 2] / f"{number}.png"
        name.parent.mkdir(parents=True, exist_ok=True)
        name.write_bytes(png(pixels_of(number)))
    dataset = load_hub(offline / "pets", test_fraction="0.2")
    assert dataset.class_names == ("cat", "dog")
    found = {tuple(image.flatten().tolist()) for image in dataset.pool.images}
    found |= {tuple(image.flatten().tolist()) for image in dataset.tests["test"].images}
    assert found == {tuple(image.flatten().tolist()) for image in expected_images(range(10))}
    assert (len(dataset.pool), len(dataset.tests["test"])) == (8, 2)


def test_images_that_are_in_the_table_are_not_copied_out_of_it(offline, monkeypatch):
    """What `datasets` maps from disk stays there, however large."""

    def fail(table):
        raise AssertionError("embedding copies every image")

    monkeypatch.setattr("datasets.table.embed_table_storage", fail)
    folder = write_folder(offline / "pets", train=rows(range(10)), test=rows([20, 21]))
    assert torch.equal(load_hub(folder).pool.images, expected_images(range(10)))


def test_an_unknown_name_is_one_sentence(offline):
    sentence = sentence_of(lambda: load_hub("nobody/nothing"))
    assert sentence.startswith("cannot load 'nobody/nothing' through datasets: ")


def test_an_error_without_words_is_still_one_sentence(offline, monkeypatch):
    def fail(name, config):
        raise TimeoutError

    monkeypatch.setattr(datasets, "load_dataset", fail)
    sentence = sentence_of(lambda: load_hub("nobody/nothing"))
    assert sentence == "cannot load 'nobody/nothing' through datasets: TimeoutError"


def test_arrow_files_that_datasets_has_saved_are_read(offline):
    features = datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(names=["cat", "dog"])}
    )
    parts = {}
    for part, numbers in (("train", range(10)), ("test", [20, 21])):
        images = [{"bytes": png(pixels_of(number)), "path": None} for number in numbers]
        table = {"image": images, "label": [number % 2 for number in numbers]}
        parts[part] = datasets.Dataset.from_dict(table, features=features)
    datasets.DatasetDict(parts).save_to_disk(offline / "saved")
    dataset = load_hub(offline / "saved")
    assert torch.equal(dataset.pool.images, expected_images(range(10)))
    assert torch.equal(dataset.tests["test"].images, expected_images([20, 21]))
    assert dataset.pool.labels.tolist() == [0, 1] * 5
    assert dataset.class_names == ("cat", "dog")


def test_what_datasets_has_saved_is_opened_without_a_guess_at_its_format(offline, monkeypatch):
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["a", "b"])})
    table = {"image": [{"bytes": png(pixels_of(number)), "path": None} for number in range(10)]}
    table["label"] = [number % 2 for number in range(10)]
    saved = offline / "saved"
    datasets.DatasetDict({"train": datasets.Dataset.from_dict(table, features=features)}).save_to_disk(saved)
    with pytest.raises(DataError, match="cannot load"):
        load_hub(saved, config="day")
    monkeypatch.delattr(datasets, "load_dataset")
    pool = load_hub(saved).pool
    assert torch.equal(pool.images, expected_images(pool.indices.tolist()))


def test_of_several_configurations_one_is_chosen(offline):
    for name, numbers in (("day", range(10)), ("night", range(10, 16))):
        write_folder(offline / "pets" / name, train=rows(numbers), test=rows([20]))
    configs = "".join(f"- config_name: {name}\n  data_dir: {name}\n" for name in ("day", "night"))
    (offline / "pets" / "README.md").write_text(f"---\nconfigs:\n{configs}---\n")
    folder = offline / "pets"
    assert sentence_of(lambda: load_hub(folder)) == (
        f"{str(folder)!r} has several configurations: day, night; choose one with --dataset-option config=day"
    )
    assert torch.equal(load_hub(folder, config="night").pool.images, expected_images(range(10, 16)))
    sentence = sentence_of(lambda: load_hub(folder, config="dusk"))
    assert sentence.startswith(f"cannot load {str(folder)!r} through datasets: ")
    assert "dusk" in sentence


def test_a_dataset_without_a_training_split_is_named(offline):
    folder = write_folder(offline / "pets", test=rows([20, 21]))
    assert sentence_of(lambda: load_hub(folder)) == (
        f"{str(folder)!r} has no split called train; it has test"
    )


def test_a_broken_image_of_the_hub_is_named_by_split_and_row(offline):
    folder = write_folder(
        offline / "pets", train=rows(range(4)), test=rows([20, 21], contents=[png(pixels_of(0)), b"no"])
    )
    assert sentence_of(lambda: load_hub(folder)) == (
        f"cannot read the image hf:{folder}, split test, row 1: it is in no known image format"
    )


def test_a_missing_package_says_what_to_install(offline, monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    sentence = sentence_of(lambda: load_hub("nobody/nothing"))
    assert sentence == "hf: needs the package datasets; pip install 'molere[huggingface]'"
