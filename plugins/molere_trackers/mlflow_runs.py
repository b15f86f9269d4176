"""MLflow, on a server or in a file."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping
from importlib.util import find_spec

from molere_cli import ConfigError, TrackerRequest

EXPERIMENT = "molere"
LONGEST = 6000
"""Characters of a parameter that MLflow keeps."""
_REFUSED = re.compile(r"[^\w\-./: ]")
MOST = 100
"""Parameters, and metrics, that MLflow takes at a time."""


class MLflowRun:
    """A run of the experiment `molere`: at MLFLOW_TRACKING_URI, else in the file `out/mlflow.db`."""

    def __init__(self, request: TrackerRequest) -> None:
        """Begin it.

        Raises:
            ConfigError: MLflow is not installed.
        """
        if find_spec("mlflow") is None:
            raise ConfigError("tracker mlflow needs MLflow; install it with `pip install 'molere[mlflow]'`")
        from mlflow.entities import Param
        from mlflow.tracking import MlflowClient

        place = os.environ.get("MLFLOW_TRACKING_URI")
        if place is None:
            request.out.mkdir(parents=True, exist_ok=True)
            place = f"sqlite:///{request.out.absolute() / 'mlflow.db'}"
        self._client = MlflowClient(tracking_uri=place)
        experiment = self._client.get_experiment_by_name(EXPERIMENT)
        number = (
            self._client.create_experiment(EXPERIMENT) if experiment is None else experiment.experiment_id
        )
        self._id = self._client.create_run(number, run_name=request.name).info.run_id
        params = [
            Param(name, str(value)[:LONGEST])
            for name, value in {"run": request.run.absolute(), **request.settings}.items()
        ]
        for start in range(0, len(params), MOST):
            self._client.log_batch(self._id, params=params[start : start + MOST])

    def log(self, record: Mapping[str, float], *, epoch: int) -> None:
        from mlflow.entities import Metric

        now = int(1000 * time.time())
        metrics = [Metric(_REFUSED.sub("_", name), value, now, epoch) for name, value in record.items()]
        for start in range(0, len(metrics), MOST):
            self._client.log_batch(self._id, metrics=metrics[start : start + MOST])

    def close(self) -> None:
        self._client.set_terminated(self._id)
