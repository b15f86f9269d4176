"""What a run's checkpoint achieves: loaded from its directory alone, on its own test sets or another's."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from molere_cli.config import RunConfig
from molere_cli.data.source import LoadedDataset, load_dataset
from molere_cli.errors import ConfigError, RunError
from molere_cli.evaluation import predict_sets
from molere_cli.metrics import class_accuracies, summarize
from molere_cli.protocols import Examples
from molere_cli.registry import Registry
from molere_cli.run_dir import RunDir, finished_runs
from molere_cli.training import load_for_evaluation


@dataclass(frozen=True)
class Evaluation:
    """A run's metrics on each test set, and its accuracy on each class (nan where there is no example)."""

    run: Path
    label: str
    dataset: str
    summaries: dict[str, dict[str, float]]
    by_class: dict[str, dict[str, float]]

    def as_json(self) -> dict[str, Any]:
        """Plain values, null for nan."""
        return {
            "run": str(self.run),
            "label": self.label,
            "dataset": self.dataset,
            "metrics": self.summaries,
            "accuracy_by_class": {
                name: {key: None if math.isnan(value) else value for key, value in classes.items()}
                for name, classes in self.by_class.items()
            },
        }


def evaluate_run(
    path: Path | None,
    registry: Registry,
    *,
    runs: Path,
    sets: Collection[str] | None = None,
    dataset: str | None = None,
    dataset_option: Mapping[str, str] | None = None,
) -> Evaluation:
    """Recompute a run's metrics from its checkpoint.

    Args:
        path: the run; None for the newest finished one under `runs`.
        sets: which test sets; None for all.
        dataset: another dataset to take the test sets from; its classes must be as many as the run's.

    Raises:
        RunError: no run, no checkpoint, or the dataset has changed.
        ConfigError: an unknown test set, options without a dataset, or another number of classes.
    """
    run = RunDir(path) if path is not None else newest_run(runs)
    plan, data, classifier, settings = load_for_evaluation(run, registry)
    if dataset_option and dataset is None:
        raise ConfigError("--dataset-option goes with --dataset; the run's own dataset is as it was trained")
    if dataset is not None:
        data = _other_dataset(plan.config, data, registry, dataset, dataset_option or {})
    chosen = _chosen_sets(data.test_sets(), sets)
    found = predict_sets(classifier, chosen, settings)
    return Evaluation(
        run=run.path,
        label=str(run.environment()["label"]),
        dataset=data.name,
        summaries={name: summarize(predictions) for name, predictions in found.items()},
        by_class={
            name: dict(zip(data.dataset.class_names, class_accuracies(predictions), strict=True))
            for name, predictions in found.items()
        },
    )


def newest_run(runs: Path) -> RunDir:
    """The run that was finished last under `runs`."""
    found = finished_runs(runs)
    if not found:
        raise RunError(f"no finished run under {runs}; make one with `molere train`")
    return found[-1]


def _other_dataset(
    config: RunConfig, own: LoadedDataset, registry: Registry, name: str, options: Mapping[str, str]
) -> LoadedDataset:
    other = load_dataset(
        RunConfig(
            dataset=name,
            dataset_option=dict(options),
            data_seed=config.data_seed,
            data_dir=config.data_dir,
            download=config.download,
        ),
        registry,
    )
    if other.num_classes != own.num_classes:
        raise ConfigError(
            f"dataset {name!r} has {other.num_classes} classes, but the run was trained on {own.num_classes}"
        )
    return other


def _chosen_sets(available: Mapping[str, Examples], names: Collection[str] | None) -> dict[str, Examples]:
    if names is None:
        return dict(available)
    for name in names:
        if name not in available:
            raise ConfigError(f"no test set {name!r}; there are: {', '.join(available)}")
    return {name: available[name] for name in names}
