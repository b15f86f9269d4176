"""How a run says how it is getting on. The library prints nothing; a command passes one of these."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol


class Progress(Protocol):
    """Who is told how a run is getting on."""

    def run_started(self, label: str, *, seed: int, num_epochs: int, path: Path | None) -> None: ...

    def step_taken(self, *, epoch: int, step: int, num_steps: int, loss: float) -> None: ...

    def epoch_ended(self, metrics: Mapping[str, float]) -> None: ...

    def run_ended(self, path: Path | None) -> None: ...

    def note(self, message: str) -> None: ...


class NoProgress:
    """Tells nobody."""

    def run_started(self, label: str, *, seed: int, num_epochs: int, path: Path | None) -> None: ...

    def step_taken(self, *, epoch: int, step: int, num_steps: int, loss: float) -> None: ...

    def epoch_ended(self, metrics: Mapping[str, float]) -> None: ...

    def run_ended(self, path: Path | None) -> None: ...

    def note(self, message: str) -> None: ...
