"""How a run says how it is getting on. The library prints nothing; a command passes one of these."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol


class Progress(Protocol):
    """Who is told how a run is getting on."""

    def run_started(self, label: str, *, seed: int, num_epochs: int, path: Path | None) -> None: ...

    def step_taken(self, *, epoch: int, step: int, num_steps: int, loss: float) -> None: ...

    def epoch_ended(self, metrics: Mapping[str, float]) -> None: ...

    def run_ended(self, path: Path | None) -> None: ...

    def note(self, message: str) -> None: ...

    def data_taken(self, line: str, remarks: Sequence[str]) -> None:
        """What was taken of a dataset; `remarks` are those parts of it that must be read."""


class NoProgress:
    """Tells nobody."""

    def data_taken(self, line: str, remarks: Sequence[str]) -> None: ...

    def run_started(self, label: str, *, seed: int, num_epochs: int, path: Path | None) -> None: ...

    def step_taken(self, *, epoch: int, step: int, num_steps: int, loss: float) -> None: ...

    def epoch_ended(self, metrics: Mapping[str, float]) -> None: ...

    def run_ended(self, path: Path | None) -> None: ...

    def note(self, message: str) -> None: ...
