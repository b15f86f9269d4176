"""When a run writes its checkpoints, and how it stops."""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from molere_cli.engine.checkpoint import save_state
from molere_cli.foundation.files import digest_of_values, with_nulls
from molere_cli.foundation.stopping import Stopped, at_good_places, is_asked_to_stop, stop_if_asked
from molere_cli.runs.run_directory import RunDir
from molere_cli.training.build_engine import Engine
from molere_cli.training.model_selection import ModelSelection


class Checkpoints:
    """The checkpoints of a run: when the next one is due within an epoch, and how one is written."""

    def __init__(
        self, engine: Engine, run: RunDir, records: list[dict[str, Any]], selection: ModelSelection
    ) -> None:
        self.records = records
        """The metrics of the epochs that are trained and evaluated."""
        self._engine, self._run, self._selection = engine, run, selection
        self._interval = engine.plan.config.machine.checkpoint_interval
        self._num_steps, self._since = 0, time.monotonic()

    def step_taken(self) -> None:
        """Write one if it is due.

        Raises:
            Stopped: a signal has asked for it.
        """
        self._num_steps += 1
        # A method that cannot goes on from the end of the epoch before, whose checkpoint is there.
        can = self._engine.loop.method.resumes_within_epoch
        if can and (self._is_due() or is_asked_to_stop()):
            self.write()
        stop_if_asked()

    def _is_due(self) -> bool:
        steps, seconds = self._interval
        if steps is not None:
            return self._num_steps >= steps
        return seconds is not None and time.monotonic() - self._since >= seconds

    def write(self, **more: Any) -> None:
        """Write the state of the loop as it is, and what else there is to keep."""
        engine, selection = self._engine, self._selection
        digest = digest_of_records(self.records)
        state = {**engine.loop.state_dict(), **selection.state_dict(), "records": digest, **more}
        with self._run.new_checkpoint() as folder:
            save_state(
                state,
                engine.classifier.module,
                folder,
                selected=selection.selected,
                average=None if engine.loop.average is None else engine.loop.average.tensors(),
                selected_average=selection.selected_average,
            )
        self._num_steps, self._since = 0, time.monotonic()


def digest_of_records(records: list[dict[str, Any]]) -> str:
    """What tells the metrics of some epochs from others."""
    return digest_of_values(with_nulls(records))


@contextmanager
def stopping_well(run: RunDir) -> Iterator[None]:
    """Signals stop the block at good places, with a sentence on how to go on."""
    try:
        with at_good_places():
            yield
    except Stopped as stopped:
        if run.is_done:
            left = f"when {run.path} was finished"
        elif run.checkpoint() is None:
            left = f"before the first checkpoint of {run.path}: start it again"
        else:
            left = f"and saved: go on with `molere train --resume {shlex.quote(str(run.path))}`"
        raise Stopped(stopped.number, f"stopped by {stopped.name} {left}") from None
