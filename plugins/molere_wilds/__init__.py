"""Image datasets with a shift from training to test, as WILDS publishes them (arXiv 2012.07421)."""

from __future__ import annotations

from collections.abc import Callable

from molere_cli import Dataset, DatasetCard, DatasetRequest, DatasetSpec, hookimpl


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


CARDS = {
    "wilds-waterbirds": DatasetCard(
        task="landbird or waterbird, before land or water",
        sizes="4,795 train, 1,199 tuning, 5,794 test; photographs",
        source="DATA_DIR/waterbird_complete95_forest2water2, from nlp.stanford.edu/data/dro",
        licence="none stated; made of CUB-200-2011 and Places",
        groups="bird and place",
    ),
    "wilds-camelyon17": DatasetCard(
        task="tumour in a patch of lymph node, or not",
        sizes="302,436 train, 34,904 tuning, 85,054 test, 33,560 of the training hospitals held out; 96 px",
        source="DATA_DIR/camelyon17_v1.0, from wilds.stanford.edu",
        licence="CC0",
        groups="hospitals",
        paper="figure 2",
    ),
    "wilds-iwildcam": DatasetCard(
        task="182 kinds of animal in camera traps",
        sizes="129,809 train, 14,961 tuning, 42,791 test, 8,154 test of the training traps; photographs",
        source="DATA_DIR/iwildcam_v2.0, from wilds.stanford.edu",
        licence="CDLA-Permissive 1.0",
        groups="camera traps",
        paper="figure 2",
    ),
    "wilds-fmow": DatasetCard(
        task="62 kinds of land use from above",
        sizes="76,863 train, 19,915 tuning, 22,108 test, 11,327 test of the training years; 224 px",
        source="DATA_DIR/fmow_v1.1, from wilds.stanford.edu",
        licence="Functional Map of the World challenge",
        groups="regions of the world",
    ),
}
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
        register(DatasetSpec(name=name, description=description, load=load, card=CARDS[name]))
