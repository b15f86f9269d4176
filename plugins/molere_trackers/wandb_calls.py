"""Trackio, a board that lies beside the user's other files and needs no account; its calls are W&B's."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from contextlib import redirect_stdout
from importlib.util import find_spec

from molere_cli import ConfigError, TrackerRequest

PROJECT = "molere"


class TrackioRun:
    """A run of the project `molere`, where Trackio keeps its projects (`TRACKIO_DIR`)."""

    def __init__(self, request: TrackerRequest) -> None:
        """Begin it.

        Raises:
            ConfigError: Trackio is not installed.
        """
        if find_spec("trackio") is None:
            raise ConfigError(
                "tracker trackio needs Trackio; install it with `pip install 'molere[trackio]'`"
            )
        import trackio

        with redirect_stdout(sys.stderr):  # it says hello
            trackio.init(
                project=PROJECT,
                name=request.name,
                config={"run": str(request.run.absolute()), **request.settings},
                embed=False,
                auto_log_gpu=False,
                auto_log_cpu=False,
            )

    def log(self, record: Mapping[str, float], *, epoch: int) -> None:
        import trackio

        trackio.log(dict(record), step=epoch)

    def close(self) -> None:
        import trackio

        with redirect_stdout(sys.stderr):
            trackio.finish()
