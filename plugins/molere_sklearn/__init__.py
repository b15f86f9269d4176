"""scikit-learn's handwritten digits, plain and coloured: the datasets that need no download."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from molere_cli import DatasetCard, DatasetSpec, hookimpl

DIGITS = DatasetCard(
    task="10 handwritten digits",
    sizes="1,000 train, 297 tuning, 500 test; 8 px",
    source="embedded (scikit-learn)",
    licence="CC BY 4.0 (UCI)",
)


@hookimpl
def register_datasets(register: Callable[[DatasetSpec], None]) -> None:
    register(
        DatasetSpec(
            name="digits",
            description="Handwritten digits, 8 px: pool 1,000, tuning 297, test 500. Embedded.",
            load="molere_sklearn.digits:digits",
            card=DIGITS,
        )
    )
    register(
        DatasetSpec(
            name="colour-digits",
            description="The same in colour, which tells the label for rho of the pool and not in the test.",
            load="molere_sklearn.digits:colour_digits",
            options="molere_sklearn.digits:ColourOptions",
            card=replace(DIGITS, groups="colour agrees with the label or not"),
        )
    )
