"""Trackers: places where the metrics of runs are shown.

Registers `tensorboard`.
"""

from __future__ import annotations

from collections.abc import Callable

from molere_cli import TrackerSpec, hookimpl


@hookimpl
def register_trackers(register: Callable[[TrackerSpec], None]) -> None:
    register(
        TrackerSpec(
            name="tensorboard",
            description="Event files for TensorBoard, a folder a run (pip install 'molere[tensorboard]')",
            start="molere_trackers.board:EventFiles",
        )
    )
