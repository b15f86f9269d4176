"""Image datasets with a shift from training to test, as WILDS publishes them (arXiv 2012.07421)."""

from __future__ import annotations

from collections.abc import Callable

from molere_cli import Dataset, DatasetRequest, DatasetSpec, hookimpl


def _load_waterbirds(request: DatasetRequest) -> Dataset:
    from molere_wilds.waterbirds import load_waterbirds

    return load_waterbirds(request)


def _load_camelyon17(request: DatasetRequest) -> Dataset:
    from molere_wilds.camelyon17 import load_camelyon17

    return load_camelyon17(request)


def _load_iwildcam(request: DatasetRequest) -> Dataset:
    from molere_wilds.iwildcam import load_iwildcam

    return load_iwildcam(request)


def _load_fmow(request: DatasetRequest) -> Dataset:
    from molere_wilds.fmow import load_fmow

    return load_fmow(request)


DATASETS: tuple[tuple[str, str, Callable[[DatasetRequest], Dataset]], ...] = (
    (
        "wilds-waterbirds",
        "Waterbirds from DATA_DIR/waterbird_complete95_forest2water2; groups: bird and place.",
        _load_waterbirds,
    ),
    (
        "wilds-camelyon17",
        "Camelyon17-WILDS from DATA_DIR/camelyon17_v1.0, tested on a new hospital; groups: hospitals.",
        _load_camelyon17,
    ),
    (
        "wilds-iwildcam",
        "iWildCam2020-WILDS from DATA_DIR/iwildcam_v2.0, tested on new camera traps; groups: traps.",
        _load_iwildcam,
    ),
    (
        "wilds-fmow",
        "FMoW-WILDS from DATA_DIR/fmow_v1.1, until 2012 and tested from 2016 on; groups: regions.",
        _load_fmow,
    ),
)


@hookimpl
def register_datasets(register: Callable[[DatasetSpec], None]) -> None:
    for name, description, load in DATASETS:
        register(DatasetSpec(name=name, description=description, load=load))
