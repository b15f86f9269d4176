"""iWildCam2020-WILDS (arXiv 2012.07421): which animal a camera trap has taken; its measure is macro F1."""

from __future__ import annotations

from pathlib import Path

from molere_cli import IMAGENET_MEAN, IMAGENET_STD, Dataset, DatasetRequest, csv_rows
from molere_wilds.listing import Part, require

SPLITS = ("train", "val", "test", "id_val", "id_test")
BY_HAND = "put there what the package wilds fetches as 'iwildcam' (https://wilds.stanford.edu)"


def load_iwildcam(request: DatasetRequest) -> Dataset:
    """The official split: val (camera traps of its own) is the tuning set, id_val is left out. Groups: traps.

    Classes have the names of `categories.csv` where that lies beside the table, else their numbers.

    Raises:
        DataError: it is not in `data_dir`, or a row of metadata.csv cannot be used.
    """
    root = request.data_dir / "iwildcam_v2.0"
    table = root / "metadata.csv"
    require(table, title="iWildCam2020-WILDS", by_hand=BY_HAND)
    parts = {split: Part(root) for split in SPLITS}
    num_classes = num_traps = 0
    for row in csv_rows(table, ("split", "location_remapped", "y", "filename")):
        if row["split"] not in parts:
            raise row.error(f"unknown split {row['split']!r}; it can be {', '.join(SPLITS)}")
        label, trap = row.number("y"), row.number("location_remapped")
        num_classes, num_traps = max(num_classes, label + 1), max(num_traps, trap + 1)
        parts[row["split"]].add(row, f"train/{row['filename']}", label=label, group=trap)
    return Dataset(
        pool=parts["train"].examples(),
        tuning=parts["val"].examples(),
        tests={"test": parts["test"].examples(), "id_test": parts["id_test"].examples()},
        class_names=_class_names(root / "categories.csv", num_classes),
        group_names=tuple(f"trap {number}" for number in range(num_traps)),
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
        augment="crop-flip",
        crop_mode="center",
    )


def _class_names(path: Path, num_classes: int) -> tuple[str, ...]:
    """The file lists kinds beyond the classes too."""
    names = {}
    if path.is_file():
        names = {row.number("y"): row["name"] for row in csv_rows(path, ("y", "name"))}
    return tuple(names.get(number, str(number)) for number in range(num_classes))
