"""`molere.dataset`: what is to be trained and tested on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from molere_cli.api.arrays import as_images, as_labels, as_pairs
from molere_cli.config.config_file import validate_config
from molere_cli.data.holdout import split_off
from molere_cli.data.in_memory import hold
from molere_cli.data.source import LoadedDataset, load_dataset
from molere_cli.foundation.errors import DataError
from molere_cli.registry.registry import Registry, load_plugins
from molere_cli.registry.specs import Dataset, Examples


@dataclass(frozen=True, eq=False, repr=False)
class Data:
    """A dataset, loaded. settings: those of the section Data that it was loaded by, under flat names."""

    loaded: LoadedDataset
    settings: Mapping[str, Any]
    registry: Registry = field(default_factory=load_plugins)

    def __len__(self) -> int:
        """Examples of the pool."""
        return len(self.loaded.dataset.pool)

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.loaded.dataset.class_names

    def __repr__(self) -> str:
        return f"<molere data {self.loaded.summary.line()}>"


def dataset(
    source: Any,
    labels: Any = None,
    *,
    test: Any = 0.2,
    tuning: Any = None,
    groups: Any = None,
    class_names: Sequence[str] | None = None,
    group_names: Sequence[str] | None = None,
    mean: tuple[float, float, float] | None = None,
    std: tuple[float, float, float] | None = None,
    augment: Literal["none", "crop", "crop-flip"] = "none",
    name: str = "mine",
    **settings: Any,
) -> Data:
    """The data to rank, train on and test on.

    Args:
        source: a registered name (`"digits"`, `"csv:list.csv"`); a folder of images; images as an array or a
            tensor, uint8 (N, H, W), (N, C, H, W) or (N, H, W, C); a torch Dataset of (image, label); or a
            Hugging Face `datasets.Dataset`.
        labels: whole numbers from 0, (N,), for images.
        test: another such pair `(images, labels)` or `(images, labels, groups)`, or dataset; several by name
            in a dict; or the share of every class to hold out.
        tuning: a pair or dataset to choose by; or the share of the pool to hold out (`--tuning`).
        groups: whole numbers, (N,): accuracy is measured in each.
        class_names, group_names: "0", "1"... without.
        mean, std: of the pixels in [0, 1], per channel; those of the pool without.
        augment: what training does to the images.
        name: what the run calls data from memory: `arrays:NAME`.
        settings: of the section Data, as flags have them (`label_noise="uniform"`, `limit_train=1000`); for a
            name or a folder these alone count.

    Raises:
        DataError: images or labels that cannot be used.
        ConfigError, UnknownNameError: a name or a setting that does not exist.
    """
    if isinstance(tuning, float):
        settings["tuning"] = tuning
    if isinstance(source, str | Path):
        return _named(str(source), settings, is_folder=Path(source).is_dir())
    pool, names = _examples(source, labels, groups, what="images")
    held = test if isinstance(test, float) else None
    tests: dict[str, Examples] = {}
    if held is None:
        tests = {
            key: _part(value, what=f"test set {key!r}")
            for key, value in (test if isinstance(test, Mapping) else {"test": test}).items()
        }
    labels_N = [pool.labels, *(part.labels for part in tests.values())]
    num_classes = max(int(each.max()) for each in labels_N) + 1
    own_mean, own_std = _statistics(pool.images)
    made = Dataset(
        pool=pool,
        tests=tests,
        tuning=None if tuning is None or isinstance(tuning, float) else _part(tuning, what="tuning set"),
        class_names=tuple(class_names or names or map(str, range(num_classes))),
        group_names=_group_names(group_names, pool),
        mean=mean or own_mean,
        std=std or own_std,
        augment=augment,
    )
    if held is not None:
        kept, out = split_off(pool, held, seed=int(settings.get("data_seed", 0)))
        if out is None:
            raise DataError("test=0.0 leaves nothing to test on; give a share, or a test set")
        made = replace(made, pool=kept, tests={"test": out})
    return _loaded({"dataset": hold(name, made), **settings})


def _named(source: str, settings: Mapping[str, Any], *, is_folder: bool) -> Data:
    registry = load_plugins()
    if is_folder and not registry.datasets.named(source.partition(":")[0]):
        source = f"folder:{source}"
    return _loaded({"dataset": source, **settings}, registry)


def _loaded(settings: Mapping[str, Any], registry: Registry | None = None) -> Data:
    registry = registry or load_plugins()
    config = validate_config(settings)
    return Data(load_dataset(config.data, registry), dict(settings), registry)


def _part(given: Any, *, what: str) -> Examples:
    if isinstance(given, tuple | list) and len(given) in (2, 3):
        return _examples(given[0], given[1], given[2] if len(given) == 3 else None, what=what)[0]
    return _examples(given, None, None, what=what)[0]


def _examples(source: Any, labels: Any, groups: Any, *, what: str) -> tuple[Examples, tuple[str, ...]]:
    names: tuple[str, ...] = ()
    if labels is None:
        if isinstance(source, Tensor) or type(source).__module__ == "numpy":
            raise DataError(f"{what} have no labels; give them as the second argument")
        images, labels_N, names = as_pairs(source)
    else:
        images = as_images(source, what=what)
        labels_N = as_labels(labels, num_examples=len(images), what=f"labels of {what}")
    groups_N = None
    if groups is not None:
        groups_N = as_labels(groups, num_examples=len(images), what=f"groups of {what}")
    return Examples(images=images, labels=labels_N, groups=groups_N), names


def _group_names(given: Sequence[str] | None, pool: Examples) -> tuple[str, ...]:
    if given is not None:
        return tuple(given)
    return () if pool.groups is None else tuple(map(str, range(int(pool.groups.max()) + 1)))


def _statistics(images: Any) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Mean and standard deviation of each channel, in [0, 1], by counts of the 256 values."""
    import torch

    values, found = torch.arange(256, dtype=torch.float64) / 255, []
    for channel in images.unbind(1):
        share = torch.bincount(channel.flatten().int(), minlength=256).double() / channel.numel()
        mean = float((share * values).sum())
        found.append((mean, max(float((share * (values - mean).square()).sum()) ** 0.5, 1e-3)))
    (m0, s0), (m1, s1), (m2, s2) = found
    return (m0, m1, m2), (s0, s1, s2)
