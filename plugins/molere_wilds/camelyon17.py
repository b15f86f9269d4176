"""Camelyon17-WILDS (arXiv 2012.07421): is there tumour in the middle of a 96 px patch; five hospitals."""

from __future__ import annotations

from molere_cli import IMAGENET_MEAN, IMAGENET_STD, Dataset, DatasetRequest, csv_rows
from molere_wilds.listing import Part, require

NUM_HOSPITALS = 5
TUNING_HOSPITAL, TEST_HOSPITAL = 1, 2
COLUMNS = ("patient", "node", "x_coord", "y_coord", "tumor", "center", "split")
BY_HAND = "put there what the package wilds fetches as 'camelyon17' (https://wilds.stanford.edu)"


def load_camelyon17(request: DatasetRequest) -> Dataset:
    """The official split: hospitals 0, 3 and 4 train, 1 is the tuning set, 2 the test. Groups: hospitals.

    It has no in-distribution test set; `id_val`, the part of the training hospitals that is held out
    (split 1), stands beside the test set under its own name.

    Raises:
        DataError: it is not in `data_dir`, or a row of metadata.csv cannot be used.
    """
    root = request.data_dir / "camelyon17_v1.0"
    table = root / "metadata.csv"
    require(table, title="Camelyon17-WILDS", by_hand=BY_HAND)
    pool, id_val, tuning, test = (Part(root) for _ in range(4))
    for row in csv_rows(table, COLUMNS):
        hospital, held_out = row.number("center", below=NUM_HOSPITALS), row.number("split", below=2)
        if hospital == TUNING_HOSPITAL:
            part = tuning
        elif hospital == TEST_HOSPITAL:
            part = test
        else:
            part = id_val if held_out else pool
        slide = f"patient_{row['patient']}_node_{row['node']}"
        path = f"patches/{slide}/patch_{slide}_x_{row['x_coord']}_y_{row['y_coord']}.png"
        part.add(row, path, label=row.number("tumor", below=2), group=hospital)
    return Dataset(
        pool=pool.examples(),
        tuning=tuning.examples(),
        tests={"test": test.examples(), "id_val": id_val.examples()},
        class_names=("no tumour", "tumour"),
        group_names=tuple(f"hospital {number}" for number in range(NUM_HOSPITALS)),
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
        augment="crop-flip",
        crop_mode="center",
    )
