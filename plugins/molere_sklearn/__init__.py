"""scikit-learn's handwritten digits, plain and coloured: the datasets that need no download."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from pydantic import Field

from molere_cli import Dataset, DatasetCard, DatasetRequest, DatasetSpec, Options, hookimpl


class ColourOptions(Options):
    """rho: the fraction of the training pool whose colour agrees with the label."""

    rho: float = Field(0.95, ge=0, le=1)


def _load_digits(request: DatasetRequest) -> Dataset:
    from molere_sklearn.digits import digits

    return digits(data_seed=request.data_seed)


def _load_colour_digits(request: DatasetRequest) -> Dataset:
    from molere_sklearn.digits import colour_digits

    return colour_digits(rho=request.options.rho, data_seed=request.data_seed)


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
            load=_load_digits,
            card=DIGITS,
        )
    )
    register(
        DatasetSpec(
            name="colour-digits",
            description="The same in colour, which tells the label for rho of the pool and not in the test.",
            load=_load_colour_digits,
            options=ColourOptions,
            card=replace(DIGITS, groups="colour agrees with the label or not"),
        )
    )
