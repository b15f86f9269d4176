"""From the name of a dataset to its examples: found, loaded, transformed, fingerprinted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from molere_cli.config.sections import DataSettings
from molere_cli.data.check import check_dataset
from molere_cli.data.dataset_summary import DatasetSummary, dataset_summary
from molere_cli.data.fingerprint import fingerprint
from molere_cli.data.holdout import split_off, stratified_holdout, subset
from molere_cli.data.inspection import inspect_images
from molere_cli.foundation.errors import ConfigError
from molere_cli.registry.option_errors import validate_options
from molere_cli.registry.registry import Registry
from molere_cli.registry.specs import Dataset, DatasetRequest, Examples, TransformRequest


@dataclass(frozen=True, eq=False)
class LoadedDataset:
    """A dataset with the name it was asked for by, the fingerprint of its pool, and what was taken of it."""

    name: str
    dataset: Dataset
    fingerprint: str
    summary: DatasetSummary

    @property
    def num_classes(self) -> int:
        return len(self.dataset.class_names)

    @property
    def pool_indices(self) -> Tensor:
        """The stable index of each pool example, int64 (N,)."""
        pool = self.dataset.pool
        return torch.arange(len(pool)) if pool.indices is None else pool.indices

    @property
    def num_mislabelled(self) -> int | None:
        """How many labels of the pool are wrong, None where that is not known."""
        pool = self.dataset.pool
        return None if pool.clean_labels is None else int((pool.labels != pool.clean_labels).sum())

    def test_sets(self) -> dict[str, Examples]:
        """The test sets and, where there is one, the tuning set under the name `tuning`."""
        tuning = {"tuning": self.dataset.tuning} if self.dataset.tuning is not None else {}
        return {**self.dataset.tests, **tuning}

    def test_fingerprints(self) -> dict[str, str]:
        """A fingerprint of each of them, groups and all, by name; reads a part of every file."""
        return {name: fingerprint(part, with_groups=True) for name, part in self.test_sets().items()}


Purpose = Literal["train", "validate", "test", "test others"]


def load_dataset(settings: DataSettings, registry: Registry, *, purpose: Purpose = "train") -> LoadedDataset:
    """The dataset that the settings name, every image file of it that the purpose needs looked at.

    Args:
        purpose: what it is for. `train`: its pool is trained on and its tests are tested on. `validate`: the
            pool validates another dataset's. `test`: a run on it is tested; `test others`: a run on another
            dataset is, on all of its images where it has no test set of its own.

    Raises:
        UnknownNameError: no plugin offers it.
        ConfigError: its argument or an option is missing or wrong.
        DataError: it cannot be read, or makes no sense.
    """
    name, _, argument = settings.dataset.partition(":")
    spec = registry.datasets.get(name)
    if spec.argument and not argument:
        raise ConfigError(f"dataset {name!r} needs an argument: --dataset {name}:{spec.argument}")
    if argument and not spec.argument:
        raise ConfigError(f"dataset {name!r} takes no argument; got {argument!r} after the colon")
    if purpose == "train" and spec.test_only:
        raise ConfigError(
            f"dataset {name!r} has test images alone; test a run with `molere eval RUN --on {name}`, or "
            f"validate on it with --split natural:{name}"
        )
    request = DatasetRequest(
        argument=argument or None,
        options=validate_options(spec.options, settings.dataset_option, owner=f"dataset {name!r}"),
        data_seed=settings.data_seed,
        data_dir=settings.data_dir,
        download=settings.download,
        for_test=purpose == "test others",
    )
    dataset = spec.expected(spec.load(request), Dataset, hook="load")
    with spec.watched("what load gave"):
        notes = check_dataset(dataset, name=settings.dataset, to_train=purpose == "train")
    dataset = transformed(with_tuning(dataset, settings), settings, registry)
    converted = Counter(dataset.converted)
    if settings.check != "none":
        converted += inspect_images(_needed(dataset, purpose), whole=settings.check == "full")
    summary = dataset_summary(settings.dataset, dataset, converted, notes=notes)
    return LoadedDataset(settings.dataset, dataset, fingerprint(dataset.pool), summary)


def _needed(dataset: Dataset, purpose: Purpose) -> dict[str, Examples]:
    """The parts whose images the purpose needs, by name."""
    tuning = {"tuning": dataset.tuning} if dataset.tuning is not None else {}
    tests, pool = {**dataset.tests, **tuning}, {"pool": dataset.pool}
    return {"train": {**pool, **tests}, "validate": pool, "test": tests, "test others": tests}[purpose]


def load_other_dataset(
    settings: DataSettings,
    own: LoadedDataset,
    registry: Registry,
    name: str,
    options: Mapping[str, str],
    *,
    purpose: Literal["validate", "test others"],
) -> LoadedDataset:
    """Another dataset in the place that the run's settings give it, its labels turned into the run's.

    Raises:
        UnknownNameError, ConfigError, DataError: as in `load_dataset` and `with_classes_of`.
    """
    other = load_dataset(
        DataSettings(
            dataset=name,
            dataset_option=dict(options),
            data_seed=settings.data_seed,
            data_dir=settings.data_dir,
            download=settings.download,
            check=settings.check,
        ),
        registry,
        purpose=purpose,
    )
    return with_classes_of(own, other)


def with_classes_of(own: LoadedDataset, other: LoadedDataset) -> LoadedDataset:
    """The other dataset with its labels turned into the run's, by class name.

    Where one side has no names, its classes being numbered from 0, labels are taken as they are; the summary
    says so.

    Raises:
        ConfigError: it has classes that the run's dataset has not.
    """
    own_names, names = own.dataset.class_names, other.dataset.class_names
    if own_names == names:
        return other
    missing = [name for name in names if name not in own_names]
    if missing and (_are_places(names) or _are_places(own_names)):
        if len(names) > len(own_names):
            raise ConfigError(
                f"dataset {other.name!r} has {len(names)} classes, "
                f"but the run was trained on {len(own_names)}"
            )
        nameless = other.name if _are_places(names) else own.name
        note = f"{nameless} has numbers for classes: they are taken in the order of the other dataset's"
        summary = replace(other.summary, notes=[*other.summary.notes, note])
        return replace(other, summary=summary)
    if missing:
        raise ConfigError(
            f"dataset {other.name!r} has the class {missing[0]!r}, which the run was not trained on"
            + (f" ({len(missing)} of its {len(names)} classes)" if len(missing) > 1 else "")
        )
    to_own = torch.tensor([own_names.index(name) for name in names])
    tests = {name: replace(part, labels=to_own[part.labels]) for name, part in other.dataset.tests.items()}
    pool, tuning = other.dataset.pool, other.dataset.tuning
    return replace(
        other,
        dataset=replace(
            other.dataset,
            pool=replace(pool, labels=to_own[pool.labels]),
            tests=tests,
            tuning=None if tuning is None else replace(tuning, labels=to_own[tuning.labels]),
            class_names=own_names,
        ),
    )


def _are_places(names: Sequence[str]) -> bool:
    """Whether classes are called 0, 1, 2..., that is, not at all."""
    return list(names) == [str(number) for number in range(len(names))]


def with_tuning(dataset: Dataset, settings: DataSettings) -> Dataset:
    """The dataset with a tuning set held out of its pool, where the settings ask for one.

    Before the transforms, so that it is as clean and as balanced as the pool is by itself.

    Raises:
        ConfigError: the dataset has one.
        DataError: a class is too small.
    """
    if settings.tuning is None:
        return dataset
    if dataset.tuning is not None:
        raise ConfigError(f"dataset {settings.dataset!r} has a tuning set of its own; leave --tuning out")
    pool, tuning = split_off(dataset.pool, settings.tuning, seed=settings.data_seed)
    return replace(dataset, pool=pool, tuning=tuning)


def transformed(dataset: Dataset, settings: DataSettings, registry: Registry) -> Dataset:
    """The dataset with its pool thinned out, sub-sampled, given a shortcut and relabelled, in this order.

    Skew goes first, so that a sub-sample of N has N examples and the skew asked for; the shortcut's and the
    noise's fractions are those of the final pool, and the colours are those of the right labels.

    Raises:
        ConfigError, DataError: a transform cannot be applied to this dataset, or no plugin has it.
    """
    num_full = _num_full(dataset)

    def put(dataset: Dataset, name: str, value: float, argument: str | None = None) -> Dataset:
        request = TransformRequest(
            dataset=settings.dataset,
            seed=settings.data_seed,
            value=value,
            argument=argument,
            num_full=num_full,
        )
        return apply_transform(registry, name, dataset, request)

    if settings.class_skew > 1:
        dataset = put(dataset, "class-skew", settings.class_skew)
    if settings.limit_train is not None:
        pool = limit_pool(dataset.pool, settings.limit_train, seed=settings.data_seed)
        dataset = replace(dataset, pool=pool)
    if settings.colour_patch is not None:
        dataset = put(dataset, "colour-patch", settings.colour_patch)
    if settings.label_noise != "none":
        dataset = put(dataset, "label-noise", settings.noise_rate, settings.label_noise)
    return dataset


def apply_transform(registry: Registry, name: str, dataset: Dataset, request: TransformRequest) -> Dataset:
    """The dataset after a transform.

    Raises:
        ConfigError: no plugin has it.
    """
    if not registry.transforms.named(name):
        raise ConfigError(f"no installed plugin has the transform {name!r}; ours is in molere_transforms")
    spec = registry.transforms.get(name)
    return spec.expected(spec.apply(dataset, request), Dataset, hook="apply")


def _num_full(dataset: Dataset) -> int:
    """How many examples stable indices of the pool count: those held out of it have theirs too."""
    tuning = [dataset.tuning] if dataset.tuning is not None else []
    held_out = [part.indices for part in (*dataset.tests.values(), *tuning) if part.indices is not None]
    own = [] if dataset.pool.indices is None else [dataset.pool.indices]
    return max([len(dataset.pool), *(int(indices_N.max()) + 1 for indices_N in (*own, *held_out))])


def limit_pool(pool: Examples, num_examples: int, *, seed: int) -> Examples:
    """A stratified sub-sample that keeps the stable indices of the full pool."""
    if num_examples >= len(pool):
        raise ConfigError(
            f"--limit-train {num_examples} leaves nothing out: the pool has {len(pool)} examples"
        )
    _, kept = stratified_holdout(pool.labels, num_examples, seed=seed)
    return subset(pool, kept.sort().values)
