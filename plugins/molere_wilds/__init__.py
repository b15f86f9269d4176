"""Image datasets with a shift from training to test, as WILDS publishes them (arXiv 2012.07421)."""

from __future__ import annotations

from collections.abc import Callable

from molere_cli import DatasetCard, DatasetSpec, hookimpl

DATASETS = (
    DatasetSpec(
        name="wilds-waterbirds",
        description="Waterbirds from DATA_DIR/waterbird_complete95_forest2water2; groups: bird and place.",
        load="molere_wilds.waterbirds:load_waterbirds",
        card=DatasetCard(
            task="landbird or waterbird, before land or water",
            sizes="4,795 train, 1,199 tuning, 5,794 test; photographs",
            source="DATA_DIR/waterbird_complete95_forest2water2, from nlp.stanford.edu/data/dro",
            licence="none stated; made of CUB-200-2011 and Places",
            groups="bird and place",
        ),
    ),
    DatasetSpec(
        name="wilds-camelyon17",
        description="Camelyon17-WILDS from DATA_DIR/camelyon17_v1.0, tested on a new "
        "hospital; groups: hospitals.",
        load="molere_wilds.camelyon17:load_camelyon17",
        card=DatasetCard(
            task="tumour in a patch of lymph node, or not",
            sizes="302,436 train, 34,904 tuning, 85,054 test, 33,560 of the training "
            "hospitals held out; 96 px",
            source="DATA_DIR/camelyon17_v1.0, from wilds.stanford.edu",
            licence="CC0",
            groups="hospitals",
            paper="figure 2",
        ),
    ),
    DatasetSpec(
        name="wilds-iwildcam",
        description="iWildCam2020-WILDS from DATA_DIR/iwildcam_v2.0, tested on new camera "
        "traps; groups: traps.",
        load="molere_wilds.iwildcam:load_iwildcam",
        card=DatasetCard(
            task="182 kinds of animal in camera traps",
            sizes="129,809 train, 14,961 tuning, 42,791 test, 8,154 test of the training traps; photographs",
            source="DATA_DIR/iwildcam_v2.0, from wilds.stanford.edu",
            licence="CDLA-Permissive 1.0",
            groups="camera traps",
            paper="figure 2",
        ),
    ),
    DatasetSpec(
        name="wilds-fmow",
        description="FMoW-WILDS from DATA_DIR/fmow_v1.1, until 2012 and tested from 2016 "
        "on; groups: regions.",
        load="molere_wilds.fmow:load_fmow",
        card=DatasetCard(
            task="62 kinds of land use from above",
            sizes="76,863 train, 19,915 tuning, 22,108 test, 11,327 test of the training years; 224 px",
            source="DATA_DIR/fmow_v1.1, from wilds.stanford.edu",
            licence="Functional Map of the World challenge",
            groups="regions of the world",
        ),
    ),
)


@hookimpl
def register_datasets(register: Callable[[DatasetSpec], None]) -> None:
    for spec in DATASETS:
        register(spec)
