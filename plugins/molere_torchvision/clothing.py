"""Clothing-1M: a million pictures from shops, labelled by the words around them, 14 kinds of clothing.

Xiao et al., CVPR 2015. About 38% of the noisy labels are wrong.
"""

from __future__ import annotations

from pathlib import Path

import torch

from molere_cli import IMAGENET_MEAN, IMAGENET_STD, DataError, Dataset, DatasetRequest, Examples, FolderReader

FOLDER = "clothing1m"
NAMES = "category_names_eng.txt"
POOL, TUNING, TEST = "noisy_train_key_list.txt", "clean_val_key_list.txt", "clean_test_key_list.txt"


def load_clothing1m(request: DatasetRequest) -> Dataset:
    """The pool is the noisy training list; tuning and test set are the clean validation and test lists.

    The clean training list is left out: it would give the clean labels of a small part of the pool, where
    `clean_labels` wants them all. Should the noisy list have an image of the other two, it does not train.

    Raises:
        DataError: a list is not there, or a line of it cannot be used; the sentence names file and line.
    """
    root = request.data_dir / FOLDER
    if not (root / NAMES).is_file():
        raise DataError(
            f"Clothing-1M is not in {root} ({NAMES} is looked for there) and cannot be downloaded; "
            "its makers send it on request"
        )
    class_names = tuple(line.strip() for line in _lines(root / NAMES))
    noisy = _labels(root / "noisy_label_kv.txt", num_classes=len(class_names))
    clean = _labels(root / "clean_label_kv.txt", num_classes=len(class_names))

    held_out = {*_lines(root / TUNING), *_lines(root / TEST)}

    def examples(key_list: str, labels: dict[str, int]) -> Examples:
        listed = _lines(root / key_list)
        for number, path in enumerate(listed, start=1):
            if path not in labels:
                raise DataError(f"{root / key_list}, line {number}: {path} has no label")
        paths = [path for path in listed if path not in held_out] if key_list == POOL else listed
        return Examples(
            images=FolderReader(root, paths), labels=torch.tensor([labels[path] for path in paths])
        )

    return Dataset(
        pool=examples(POOL, noisy),
        tuning=examples(TUNING, clean),
        tests={"test": examples(TEST, clean)},
        class_names=class_names,
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
        augment="crop-flip",
        crop_mode="center",
    )


def _labels(path: Path, *, num_classes: int) -> dict[str, int]:
    """The file's lines `IMAGE LABEL`."""
    labels = {}
    for number, line in enumerate(_lines(path), start=1):
        image, _, label = line.rpartition(" ")
        if not image or not label.isdecimal() or int(label) >= num_classes:
            raise DataError(
                f"{path}, line {number}: {line!r} is no image and label of 0 to {num_classes - 1}"
            )
        labels[image] = int(label)
    return labels


def _lines(path: Path) -> list[str]:
    try:
        return [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise DataError(f"cannot read the list {path}: {reason}") from error
