"""FMoW-WILDS (arXiv 2012.07421): what stands on a plot of land, by satellite, over the years."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from molere_cli import IMAGENET_MEAN, IMAGENET_STD, CsvRow, Dataset, DatasetRequest, csv_rows
from molere_wilds.listing import Part, require

FIRST_TUNING_YEAR, FIRST_TEST_YEAR = 2013, 2016
SPLITS = ("train", "val", "test", "seq")
OTHER, NO_GROUP = "Other", -1
BY_HAND = "put there what the package wilds fetches as 'fmow' (https://wilds.stanford.edu)"
CATEGORIES = (
    "airport",
    "airport_hangar",
    "airport_terminal",
    "amusement_park",
    "aquaculture",
    "archaeological_site",
    "barn",
    "border_checkpoint",
    "burial_site",
    "car_dealership",
    "construction_site",
    "crop_field",
    "dam",
    "debris_or_rubble",
    "educational_institution",
    "electric_substation",
    "factory_or_powerplant",
    "fire_station",
    "flooded_road",
    "fountain",
    "gas_station",
    "golf_course",
    "ground_transportation_station",
    "helipad",
    "hospital",
    "impoverished_settlement",
    "interchange",
    "lake_or_pond",
    "lighthouse",
    "military_facility",
    "multi-unit_residential",
    "nuclear_powerplant",
    "office_building",
    "oil_or_gas_facility",
    "park",
    "parking_lot_or_garage",
    "place_of_worship",
    "police_station",
    "port",
    "prison",
    "race_track",
    "railway_bridge",
    "recreational_facility",
    "road_bridge",
    "runway",
    "shipyard",
    "shopping_mall",
    "single-unit_residential",
    "smokestack",
    "solar_farm",
    "space_facility",
    "stadium",
    "storage_tank",
    "surface_mine",
    "swimming_pool",
    "toll_booth",
    "tower",
    "tunnel_opening",
    "waste_disposal",
    "water_treatment_facility",
    "wind_farm",
    "zoo",
)


def load_fmow(request: DatasetRequest) -> Dataset:
    """The official split by time: train and `id_test` before 2013, tuning 2013 to 2015, test from 2016 on.

    Of each time only the images of its own part of the original dataset count; id_val is left out, and so is
    what was kept back (seq). Groups: regions. The few images of no region are the group Other in the pool,
    and of no group in the other sets: the worst region of WILDS leaves them out.

    Raises:
        DataError: it is not in `data_dir`, or a row of one of its tables cannot be used.
    """
    root = request.data_dir / "fmow_v1.1"
    table, countries = root / "rgb_metadata.csv", root / "country_code_mapping.csv"
    for path in (table, countries):
        require(path, title="FMoW-WILDS", by_hand=BY_HAND)
    region_of = _regions(countries)
    regions = (*sorted(set(region_of.values()) - {OTHER}), OTHER)
    label_of = {name: label for label, name in enumerate(CATEGORIES)}
    pool, id_test, tuning, test = (Part(root) for _ in range(4))
    by_time = {("train", 0): pool, ("test", 0): id_test, ("val", 1): tuning, ("test", 2): test}
    rows = csv_rows(table, ("split", "category", "timestamp", "country_code"))
    for number, row in enumerate(rows):
        if row["split"] not in SPLITS:
            raise row.error(f"unknown split {row['split']!r}; it can be {', '.join(SPLITS)}")
        if row["category"] not in label_of:
            raise row.error(f"unknown category {row['category']!r}")
        part = by_time.get((row["split"], _era(row)))
        if part is None:
            continue
        region = region_of.get(row["country_code"], OTHER)
        group = NO_GROUP if region == OTHER and part is not pool else regions.index(region)
        # Images are numbered as the rows are, those that are left out included.
        part.add(row, f"images/rgb_img_{number}.png", label=label_of[row["category"]], group=group)
    return Dataset(
        pool=pool.examples(),
        tuning=tuning.examples(),
        tests={"test": test.examples(), "id_test": id_test.examples()},
        class_names=CATEGORIES,
        group_names=regions,
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
        augment="crop-flip",
        crop_mode="center",
    )


def _era(row: CsvRow) -> int:
    """0, 1 or 2: before the tuning years, in them, after them; by the year in UTC."""
    try:
        taken = datetime.fromisoformat(row["timestamp"])
    except ValueError as error:
        raise row.error(f"the timestamp {row['timestamp']!r} is no ISO 8601 date") from error
    year = taken.astimezone(UTC).year if taken.tzinfo else taken.year
    return (year >= FIRST_TUNING_YEAR) + (year >= FIRST_TEST_YEAR)


def _regions(path: Path) -> dict[str, str]:
    """Region by country code; a country without one counts as Other."""
    return {row["alpha-3"]: row["region"] or OTHER for row in csv_rows(path, ("alpha-3", "region"))}
