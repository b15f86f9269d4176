"""What a run's checkpoint achieves: loaded from its directory alone, on its own test sets or another's."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from molere_cli.config import RunConfig
from molere_cli.data.corruption import corrupted_examples
from molere_cli.data.source import LoadedDataset, load_dataset
from molere_cli.errors import ConfigError, RunError
from molere_cli.evaluation import predict_sets
from molere_cli.metrics import class_accuracies, summarize
from molere_cli.protocols import Examples
from molere_cli.registry import Registry
from molere_cli.run_dir import RunDir, finished_runs
from molere_cli.training import load_for_evaluation

CORRUPTED = re.compile(r"(?:corrupted|[\w-]+-c):(\w+):(\d+)")


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
        sets: which test sets; None for all of the dataset. Beside their names: `corrupted:KIND:SEVERITY` for
            the run's own test set corrupted on the fly (`cifar10-c:KIND:SEVERITY` and the like mean the
            same), and another dataset as `NAME` or `NAME:ARGUMENT` for its test sets.
        dataset: another dataset to take the test sets from.

    Raises:
        RunError: no run, no checkpoint, or the dataset has changed.
        ConfigError: an unknown test set, options without a dataset, or classes that the run does not have.
    """
    run = RunDir(path) if path is not None else newest_run(runs)
    plan, data, classifier, settings = load_for_evaluation(run, registry)
    if dataset_option and dataset is None:
        raise ConfigError("--dataset-option goes with --dataset; the run's own dataset is as it was trained")
    class_names = data.dataset.class_names
    if dataset is not None:
        data = _other_dataset(plan.config, data, registry, dataset, dataset_option or {})
    chosen = _chosen_sets(plan.config, data, registry, sets)
    found = predict_sets(classifier, chosen, settings)
    return Evaluation(
        run=run.path,
        label=str(run.environment()["label"]),
        dataset=data.name,
        summaries={name: summarize(predictions) for name, predictions in found.items()},
        by_class={
            name: dict(zip(class_names, class_accuracies(predictions), strict=True))
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
    return _with_classes_of(own, other)


def _with_classes_of(own: LoadedDataset, other: LoadedDataset) -> LoadedDataset:
    """The other dataset with its labels turned into the run's, by class name.

    Where either side has numbers for names, labels are taken as they are.

    Raises:
        ConfigError: it has classes that the run's dataset has not.
    """
    own_names, names = own.dataset.class_names, other.dataset.class_names
    if own_names == names:
        return other
    unnamed = any(all(name.isdecimal() for name in side) for side in (own_names, names))
    if unnamed:
        if len(names) > len(own_names):
            raise ConfigError(
                f"dataset {other.name!r} has {len(names)} classes, "
                f"but the run was trained on {len(own_names)}"
            )
        return other
    if missing := [name for name in names if name not in own_names]:
        raise ConfigError(
            f"dataset {other.name!r} has the class {missing[0]!r}, which the run was not trained on"
            + (f" ({len(missing)} of its {len(names)} classes)" if len(missing) > 1 else "")
        )
    to_own = torch.tensor([own_names.index(name) for name in names])
    tests = {name: replace(part, labels=to_own[part.labels]) for name, part in other.dataset.tests.items()}
    tuning = other.dataset.tuning
    return replace(
        other,
        dataset=replace(
            other.dataset,
            tests=tests,
            tuning=None if tuning is None else replace(tuning, labels=to_own[tuning.labels]),
            class_names=own_names,
        ),
    )


def _chosen_sets(
    config: RunConfig, data: LoadedDataset, registry: Registry, names: Collection[str] | None
) -> dict[str, Examples]:
    available = data.test_sets()
    if names is None:
        return dict(available)
    chosen: dict[str, Examples] = {}
    known_datasets = {offer.spec.name for offer in registry.datasets.offers}
    for name in names:
        corrupted = CORRUPTED.fullmatch(name)
        if name in available:
            chosen[name] = available[name]
        elif corrupted is not None:
            test = available.get("test", next(iter(available.values())))
            kind, severity = corrupted.group(1), int(corrupted.group(2))
            chosen[name] = corrupted_examples(test, kind=kind, severity=severity, seed=config.data_seed)
        elif name.partition(":")[0] in known_datasets:
            other = _other_dataset(config, data, registry, name, {})
            tests = other.dataset.tests
            chosen |= {name if len(tests) == 1 else f"{name}/{part}": tests[part] for part in tests}
        else:
            raise ConfigError(
                f"no test set {name!r}; there are: {', '.join(available)}, and corrupted:KIND:SEVERITY "
                "or another dataset, say folder:DIR"
            )
    return chosen
