"""What a run's checkpoint achieves: loaded from its directory alone, on its own test sets or another's."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from molere_cli.config.paths import absolute_dataset
from molere_cli.config.run_config import RunConfig
from molere_cli.data.source import LoadedDataset, apply_transform, load_other_dataset
from molere_cli.engine.prediction import predict_sets
from molere_cli.engine.prediction_metrics import class_accuracies, named_group_accuracies, summarize
from molere_cli.foundation.errors import ConfigError, RunError
from molere_cli.foundation.files import with_nulls
from molere_cli.foundation.locks import Note
from molere_cli.registry.registry import Registry
from molere_cli.registry.specs import Dataset, Examples, TransformRequest
from molere_cli.runs.find_runs import finished_runs
from molere_cli.runs.run_directory import RunDir
from molere_cli.training.run_identity import check_test_sets
from molere_cli.training.trained_model import load_for_evaluation

OF_A_FAMILY = re.compile(r"[\w-]+-c:(\w+:\d+)")
"""`cifar10-c:KIND:SEVERITY` and the like, which mean `corrupted:KIND:SEVERITY`."""


@dataclass(frozen=True, eq=False)
class ChosenSet:
    """A test set, its groups' names, and whether predictions on it count among its own classes alone."""

    examples: Examples
    group_names: Sequence[str]
    among_own_classes: bool

    @classmethod
    def of(cls, examples: Examples, dataset: Dataset) -> Self:
        """A test set of a dataset, or made of one."""
        return cls(examples, dataset.group_names, dataset.among_own_classes)


@dataclass(frozen=True)
class Evaluation:
    """A run's metrics on each test set, and its accuracy on each class (nan where there is no example).

    by_group: accuracy in each group of those sets that have any, the worst first. sizes: examples in each.
    remarks: what should be known of how other datasets were taken.
    """

    run: Path
    label: str
    dataset: str
    sizes: dict[str, int]
    summaries: dict[str, dict[str, float]]
    by_class: dict[str, dict[str, float]]
    by_group: dict[str, dict[str, float]]
    remarks: list[str]

    def as_json(self) -> dict[str, Any]:
        """Plain values, None for what is no number."""
        return {
            "run": str(self.run),
            "label": self.label,
            "dataset": self.dataset,
            "examples": self.sizes,
            "metrics": with_nulls(self.summaries),
            "accuracy_by_class": with_nulls(self.by_class),
            "accuracy_by_group": self.by_group,
            "worst_group": {name: next(iter(accuracies)) for name, accuracies in self.by_group.items()},
        }


def evaluate_run(
    path: Path | None,
    registry: Registry,
    *,
    runs: Path,
    sets: Collection[str] | None = None,
    dataset: str | None = None,
    dataset_option: Mapping[str, str] | None = None,
    average: bool = False,
    note: Note = lambda _message: None,
) -> Evaluation:
    """Recompute a run's metrics from its checkpoint.

    Args:
        path: the run; None for the newest finished one under `runs`.
        sets: which test sets; None for all of the dataset. Beside their names: `corrupted:KIND:SEVERITY`, or
            another transform by its name, for the run's own test set changed on the fly
            (`cifar10-c:KIND:SEVERITY` and the like mean the same), and another dataset as `NAME` or
            `NAME:ARGUMENT` for its test sets.
        dataset: another dataset to take the test sets from.
        average: whether to test the moving average of weights.
        note: told if the newest checkpoint is damaged, so that the one before it is used.

    Raises:
        RunError: no run, no checkpoint, or the dataset has changed.
        ConfigError: an unknown test set, options without a dataset, or classes that the run does not have.
    """
    run = RunDir(path) if path is not None else newest_run(runs)
    plan, data, classifier, settings = load_for_evaluation(run, registry, average=average, note=note)
    if dataset_option and dataset is None:
        raise ConfigError("--dataset-option goes with --dataset; the run's own dataset is as it was trained")
    class_names = data.dataset.class_names
    others: list[LoadedDataset] = []
    if dataset is None:
        check_test_sets(run, data)
    else:
        data = load_other_dataset(
            plan.config.data,
            data,
            registry,
            absolute_dataset(dataset, registry),
            dataset_option or {},
            purpose="test others",
        )
        others.append(data)
    split = run.environment().get("split")
    validated_on = None if split is None else str(split["strategy"]).removeprefix("natural:")
    chosen = _chosen_sets(plan.config, data, registry, sets, validated_on=validated_on, others=others)
    found = predict_sets(
        classifier,
        {name: part.examples for name, part in chosen.items()},
        settings,
        among_present={name for name, part in chosen.items() if part.among_own_classes},
    )
    return Evaluation(
        run=run.path,
        label=str(run.environment()["label"]),
        dataset=data.name,
        sizes={name: len(part.examples) for name, part in chosen.items()},
        summaries={name: summarize(predictions) for name, predictions in found.items()},
        by_class={
            name: dict(zip(class_names, class_accuracies(predictions), strict=True))
            for name, predictions in found.items()
        },
        by_group={
            name: by_group
            for name, predictions in found.items()
            if predictions.groups is not None
            and (by_group := named_group_accuracies(predictions, chosen[name].group_names))
        },
        remarks=[remark for other in others for remark in other.summary.remarks()],
    )


def newest_run(runs: Path) -> RunDir:
    """The run that was finished last under `runs`."""
    found = finished_runs(runs)
    if not found:
        raise RunError(f"no finished run under {runs}; make one with `molere train`")
    return found[-1]


def _chosen_sets(
    config: RunConfig,
    data: LoadedDataset,
    registry: Registry,
    names: Collection[str] | None,
    *,
    validated_on: str | None,
    others: list[LoadedDataset],
) -> dict[str, ChosenSet]:
    """The sets by name, those of other datasets loaded and put into `others`."""
    available = {name: ChosenSet.of(examples, data.dataset) for name, examples in data.test_sets().items()}
    if names is None:
        return available
    chosen: dict[str, ChosenSet] = {}
    known_datasets = {entry.spec.name for entry in registry.datasets.entries}
    for name in names:
        family = OF_A_FAMILY.fullmatch(name)
        transform, _, argument = (f"corrupted:{family[1]}" if family else name).partition(":")
        if name in available:
            chosen[name] = available[name]
        elif family or registry.transforms.named(transform) or transform == "corrupted":
            test = available.get("test", next(iter(available.values())))
            request = TransformRequest(
                dataset=config.data.dataset, seed=config.data.data_seed, argument=argument or None
            )
            alone = replace(data.dataset, tests={"test": test.examples})
            changed = apply_transform(registry, transform, alone, request)
            chosen[name] = ChosenSet.of(changed.tests["test"], data.dataset)
        elif name.partition(":")[0] in known_datasets:
            place = absolute_dataset(name, registry)
            other = load_other_dataset(config.data, data, registry, place, {}, purpose="test others")
            others.append(other)
            tested = [part.images for part in other.dataset.tests.values()]
            if validated_on in {name, place} and any(
                images is other.dataset.pool.images for images in tested
            ):
                raise ConfigError(f"all images of {name} were the validation set of this run; test on others")
            tests = {
                part: ChosenSet.of(examples, other.dataset) for part, examples in other.dataset.tests.items()
            }
            chosen |= {name if len(tests) == 1 else f"{name}/{part}": tests[part] for part in tests}
        else:
            raise ConfigError(
                f"no test set {name!r}; there are: {', '.join(available)}, and corrupted:KIND:SEVERITY "
                "or another dataset, say folder:DIR"
            )
    return chosen
