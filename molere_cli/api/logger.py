"""How runs get on, as records of the standard library's logger `molere`; nothing is printed."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from molere_cli.foundation.progress import NoProgress

LOGGER = logging.getLogger("molere")
LOGGER.addHandler(logging.NullHandler())


class LoggedProgress(NoProgress):
    """INFO: runs and notes; DEBUG: every epoch."""

    def data_taken(self, line: str, remarks: Sequence[str]) -> None:
        LOGGER.info("%s", line)

    def run_started(self, label: str, *, seed: int, num_epochs: int, path: Path | None) -> None:
        LOGGER.info("%s seed %d: %d epochs", label, seed, num_epochs)

    def epoch_ended(self, metrics: Mapping[str, float]) -> None:
        LOGGER.debug("%s", dict(metrics))

    def run_ended(self, path: Path | None) -> None:
        if path is not None:
            LOGGER.info("finished %s", path)

    def note(self, message: str) -> None:
        LOGGER.info("%s", message)
