"""Which epoch's classifier counts, and when training stops, by the tuning set alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

from torch import Tensor

from molere_cli.config.sections import SelectionSettings
from molere_cli.data.source import LoadedDataset
from molere_cli.engine.checkpoint import classifier_tensors
from molere_cli.engine.prediction import predict_sets
from molere_cli.engine.prediction_metrics import summarize
from molere_cli.foundation.errors import ConfigError
from molere_cli.training.build_engine import Engine

TUNING = "tuning"


def check_selection(settings: SelectionSettings, data: LoadedDataset) -> None:
    """Raise ConfigError if the settings select by what the dataset has not."""
    if not settings.needs_tuning:
        return
    flag = "--select best" if settings.select == "best" else "--patience"
    tuning = data.dataset.tuning
    if tuning is None:
        raise ConfigError(
            f"{flag} needs a tuning set, which dataset {data.name!r} has not; hold one out of the pool with "
            "--tuning 0.1"
        )
    if settings.select_by == "worst_group" and (tuning.groups is None or bool((tuning.groups < 0).all())):
        raise ConfigError(
            f"--select-by worst_group needs groups in the tuning set, which dataset {data.name!r} has not; "
            "use worst_class or accuracy"
        )


class ModelSelection:
    """The best epoch so far by the tuning set, and its classifier where that one counts.

    The best is the first that no later one beats.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._settings = engine.plan.config.selection
        self.best_epoch: int | None = None
        self._best = -1.0
        self._epoch = -1
        self._selected: dict[str, Tensor] | None = None
        self.selected_average: dict[str, Tensor] | None = None
        """The tensors of the moving average of its epoch, where there is one."""

    @property
    def has_stopped(self) -> bool:
        """Whether patience has come to its end."""
        patience, best = self._settings.patience, self.best_epoch
        return patience is not None and best is not None and self._epoch - best >= patience

    def why_stopped(self) -> str:
        """A sentence for the user of a run that `has_stopped`."""
        assert self.best_epoch is not None
        return (
            f"stopped after epoch {self._epoch + 1}: none since epoch {self.best_epoch + 1} had a better "
            f"{self._settings.select_by.replace('_', ' ')} on the tuning set"
        )

    @property
    def selected(self) -> Mapping[str, Tensor] | None:
        """The tensors of the classifier that counts, None if it is the one that trains."""
        return self._selected

    def look(self, epoch: int) -> dict[str, float]:
        """Look at the tuning set after an epoch; what is measured on it, empty where nobody asks."""
        if not self._settings.needs_tuning:
            return {}
        engine, ranks = self._engine, self._engine.loop.ranks
        tuning = {TUNING: engine.data.test_sets()[TUNING]}
        found = predict_sets(engine.classifier, tuning, engine.feed_settings, ranks=ranks)
        metrics = ranks.decided(lambda: summarize(found[TUNING]))
        self._epoch = epoch
        if metrics[self._settings.select_by] > self._best:
            self._best, self.best_epoch = metrics[self._settings.select_by], epoch
            if self._settings.select == "best":
                self._selected = classifier_tensors(engine.classifier.module)
                if engine.loop.average is not None:
                    self.selected_average = engine.loop.average.tensors()
        return {f"{TUNING}/{key}": value for key, value in metrics.items()}

    @contextmanager
    def in_place(self) -> Iterator[dict[str, float]]:
        """With the classifier that counts in the engine, and its epoch's average; yields what to record."""
        module = self._engine.classifier.module
        if self._selected is None or self.best_epoch is None:
            yield {}
            return
        trained = classifier_tensors(module)
        module.load_state_dict(self._selected)
        average = self._engine.loop.average
        try:
            with nullcontext() if average is None else average.replaced_by(self.selected_average):
                yield {"selected/epoch": self.best_epoch}
        finally:
            module.load_state_dict(trained)

    def state_dict(self) -> dict[str, Any]:
        """What a resume needs beside the selected classifier's tensors; empty where nothing is selected."""
        if not self._settings.needs_tuning:
            return {}
        return {"selection": {"best": self._best, "best_epoch": self.best_epoch, "epoch": self._epoch}}

    def load_state_dict(
        self,
        state: Mapping[str, Any],
        selected: dict[str, Tensor] | None,
        selected_average: dict[str, Tensor] | None,
    ) -> None:
        """Go on from a checkpoint's state."""
        if (own := state.get("selection")) is not None:
            self._best, self.best_epoch, self._epoch = own["best"], own["best_epoch"], own["epoch"]
        self._selected, self.selected_average = selected, selected_average
