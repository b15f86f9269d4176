"""Diabetic retinopathy: photographs of the retina in five grades (Kaggle and EyePACS, 2015)."""

from __future__ import annotations

from pathlib import Path

import torch

from molere_cli import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    DataError,
    Dataset,
    DatasetRequest,
    Examples,
    FolderReader,
    csv_rows,
    stratified_holdout,
)

FOLDER, LIST = "diabetic-retinopathy", "trainLabels.csv"
GRADES = ("none", "mild", "moderate", "severe", "proliferative")


def load_retinopathy(request: DatasetRequest) -> Dataset:
    """`trainLabels.csv` with the columns image,level, and `train/IMAGE.jpeg`.

    The labels of the competition's test set came later and elsewhere, so a part of the patients is held out
    as the test set, by the worse of their two eyes; both eyes stay together.

    Raises:
        DataError: the list is not there, or a row of it cannot be used; the sentence names file and line.
    """
    root = request.data_dir / FOLDER
    if not (root / LIST).is_file():
        raise DataError(
            f"the retinopathy images are not in {root} ({LIST} is looked for there) and are not downloaded; "
            "unpack them there as train/IMAGE.jpeg, from kaggle.com/c/diabetic-retinopathy-detection"
        )
    rows = _rows(root / LIST)
    patients = sorted({_patient(image) for image, _ in rows})
    worst = dict.fromkeys(patients, 0)
    for image, level in rows:
        worst[_patient(image)] = max(worst[_patient(image)], level)
    worst_P = torch.tensor([worst[patient] for patient in patients])
    options, seed = request.options, request.data_seed
    kept, held = stratified_holdout(worst_P, options.test_fraction, seed=seed)
    parts = {"test": held, "pool": kept}
    if options.tuning:
        inner, tuned = stratified_holdout(worst_P[kept], options.tuning, seed=seed)
        parts |= {"pool": kept[inner], "tuning": kept[tuned]}

    def examples(part: str) -> Examples:
        members = {patients[position] for position in parts[part].tolist()}
        own = [(image, level) for image, level in rows if _patient(image) in members]
        return Examples(
            images=FolderReader(root / "train", [f"{image}.jpeg" for image, _ in own]),
            labels=torch.tensor([level for _, level in own]),
        )

    return Dataset(
        pool=examples("pool"),
        tuning=examples("tuning") if "tuning" in parts else None,
        tests={"test": examples("test")},
        class_names=GRADES,
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
        augment="crop-flip",
        crop_mode="center",
    )


def _patient(image: str) -> str:
    """`10` of `10_left`."""
    return image.partition("_")[0]


def _rows(path: Path) -> list[tuple[str, int]]:
    rows = []
    for row in csv_rows(path, ("image", "level")):
        image = path.parent / "train" / f"{row['image']}.jpeg"
        if not image.is_file():
            raise row.error(f"there is no file {image}")
        rows.append((row["image"], row.number("level", below=len(GRADES))))
    return rows
