"""Datasets that a Python process holds, under names that a run's settings can say."""

from __future__ import annotations

from molere_cli.foundation.errors import DataError
from molere_cli.registry.specs import Dataset, DatasetRequest

NAME = "arrays"
_HELD: dict[str, Dataset] = {}


def hold(name: str, dataset: Dataset) -> str:
    """Make a dataset known to this process, in place of one of that name; what `--dataset` would call it."""
    _HELD[name] = dataset
    return f"{NAME}:{name}"


def load_held(request: DatasetRequest) -> Dataset:
    """A dataset that was held before.

    Raises:
        DataError: this process holds none of that name.
    """
    found = _HELD.get(str(request.argument))
    if found is None:
        raise DataError(
            f"dataset '{NAME}:{request.argument}' was in the memory of a Python process; give it to "
            f"`molere_cli.dataset(..., name={request.argument!r})` in yours (`molere predict` and `molere "
            "export` do without it)"
        )
    return found
