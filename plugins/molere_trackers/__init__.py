"""Trackers: places where the metrics of runs are shown.

Registers `tensorboard`, `trackio` and `mlflow`, and the command `log`.
"""

from __future__ import annotations

from collections.abc import Callable

import typer

from molere_cli import TrackerSpec, hookimpl
from molere_cli.commands import examples


@hookimpl
def register_trackers(register: Callable[[TrackerSpec], None]) -> None:
    register(
        TrackerSpec(
            name="tensorboard",
            description="Event files for TensorBoard, a folder a run (pip install 'molere[tensorboard]')",
            start="molere_trackers.board:EventFiles",
        )
    )
    register(
        TrackerSpec(
            name="trackio",
            description="Trackio's project `molere`, for `trackio show` (pip install 'molere[trackio]')",
            start="molere_trackers.wandb_calls:TrackioRun",
        )
    )
    register(
        TrackerSpec(
            name="mlflow",
            description=(
                "MLflow's experiment `molere`, on its server or in a file (pip install 'molere[mlflow]')"
            ),
            start="molere_trackers.mlflow_runs:MLflowRun",
        )
    )


@hookimpl
def register_commands(app: typer.Typer) -> None:
    from molere_trackers.log_command import log

    app.command(epilog=examples("molere log runs/*", "molere log runs/* --to trackio"))(log)
