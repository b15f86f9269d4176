"""What the first rank has made or read, told to all: configurations and splits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from molere_cli.config.run_config import RunConfig
from molere_cli.foundation.ranks import Ranks
from molere_cli.splits.split_file import HeldOut, Split, SplitInfo


def same_configs(ranks: Ranks, make: Callable[[], Sequence[RunConfig]]) -> Sequence[RunConfig]:
    """The configurations that rank 0 makes, on all ranks.

    Raises:
        MolereError: rank 0 has.
    """
    if not ranks.are_several:
        return make()
    return [RunConfig.of(**given) for given in ranks.decided(lambda: [_given(config) for config in make()])]


def _given(config: RunConfig) -> dict[str, Any]:
    return {
        name: value
        for section in config.sections()
        for name, value in section.model_dump(mode="json", include=section.model_fields_set).items()
    }


def same_split(ranks: Ranks, make: Callable[[], Split]) -> Split:
    """The split that rank 0 makes, on all ranks.

    Raises:
        MolereError: rank 0 has.
    """
    if not ranks.are_several:
        return make()

    def told() -> dict[str, Any]:
        split = make()
        held_out = None if split.held_out is None else split.held_out.columns
        return {**vars(split), "info": split.info.model_dump(mode="json"), "held_out": held_out}

    found = ranks.decided(told)
    held_out = None if found["held_out"] is None else HeldOut(*found["held_out"])
    return Split(**{**found, "info": SplitInfo(**found["info"]), "held_out": held_out})
