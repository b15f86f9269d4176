"""Waterbirds (arXiv 1911.08731): birds cut out and put before land or water, 95% of the pool as in nature."""

from __future__ import annotations

from molere_cli import IMAGENET_MEAN, IMAGENET_STD, Dataset, DatasetRequest, csv_rows
from molere_wilds.listing import Part, require

# As the authors' archive unpacks, and as the package wilds does.
FOLDERS = ("waterbird_complete95_forest2water2", "waterbirds_v1.0")
BY_HAND = (
    "unpack waterbird_complete95_forest2water2.tar.gz of https://nlp.stanford.edu/data/dro/ into the data "
    "directory"
)
BIRDS, PLACES = ("landbird", "waterbird"), ("land", "water")


def load_waterbirds(request: DatasetRequest) -> Dataset:
    """The published parts: train is the pool, val the tuning set. Groups: 2 * bird + place.

    Raises:
        DataError: it is not in `data_dir`, or a row of metadata.csv cannot be used.
    """
    tables = [request.data_dir / folder / "metadata.csv" for folder in FOLDERS]
    table = next((path for path in tables if path.is_file()), tables[0])
    require(table, title="Waterbirds", by_hand=BY_HAND)
    pool, tuning, test = parts = [Part(table.parent) for _ in range(3)]
    for row in csv_rows(table, ("img_filename", "y", "split", "place")):
        bird, place = row.number("y", below=2), row.number("place", below=2)
        parts[row.number("split", below=3)].add(row, row["img_filename"], label=bird, group=2 * bird + place)
    return Dataset(
        pool=pool.examples(),
        tuning=tuning.examples(),
        tests={"test": test.examples()},
        class_names=BIRDS,
        group_names=tuple(f"{bird} on {place}" for bird in BIRDS for place in PLACES),
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
        augment="crop-flip",
        crop_mode="center",
    )
