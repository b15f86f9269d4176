"""Whether a dataset is what the engine takes it for, member by member.

Shapes: N examples of a part.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from numbers import Real
from typing import Any, get_args

import torch
from torch import Tensor

from molere_cli.data.augmentation import Augment, CropMode
from molere_cli.data.inspection import InspectedReader
from molere_cli.foundation.errors import DataError
from molere_cli.registry.specs import Dataset, Examples


def check_dataset(dataset: Dataset, *, name: str, to_train: bool = True) -> list[str]:
    """What is odd about a dataset, in sentences.

    Args:
        to_train: whether its pool is trained on.

    Raises:
        DataError: there is what the engine could not use or would misread; the sentence names dataset, part
            and member.
    """
    whole = f"dataset {name!r}"
    for member in ("class_names", "group_names"):
        _check_names(getattr(dataset, member), f"{whole} has {member}")
    if not dataset.class_names:
        raise DataError(f"{whole} has no class_names")
    for member in ("mean", "std"):
        _check_statistics(getattr(dataset, member), f"{whole} has {member}", positive=member == "std")
    if dataset.augment not in get_args(Augment):
        raise DataError(f"{whole} has augment {dataset.augment!r}; it can be {', '.join(get_args(Augment))}")
    if not isinstance(dataset.tests, Mapping) or not dataset.tests:
        raise DataError(f"{whole} has no test set")
    tuning = {"tuning": dataset.tuning} if dataset.tuning is not None else {}
    for part, examples in {"pool": dataset.pool, **dataset.tests, **tuning}.items():
        where = f"the {part} of {whole}"
        _check_examples(examples, where, num_classes=len(dataset.class_names))
        _check_groups(examples, where, lowest=0 if part == "pool" else -1, names=dataset.group_names)
    if dataset.crop_mode not in get_args(CropMode):
        raise DataError(
            f"{whole} has crop_mode {dataset.crop_mode!r}; it can be {', '.join(get_args(CropMode))}"
        )
    if to_train:
        _check_classes(dataset, whole)
    return _alike(dataset.class_names)


def _check_classes(dataset: Dataset, whole: str) -> None:
    """Raise DataError unless there are two classes to tell apart."""
    there = dataset.pool.labels.unique()
    if len(there) > 1:
        return
    (only,) = (dataset.class_names[int(label)] for label in there)
    if len(dataset.class_names) > 1:
        raise DataError(
            f"every example in the pool of {whole} is of class {only!r}; there must be two classes"
        )
    raise DataError(f"{whole} has one class, {only!r}; there must be two to tell apart")


def _alike(names: tuple[str, ...]) -> list[str]:
    """A sentence for every two names that differ by nothing that the eye sees at once."""
    seen: dict[str, str] = {}
    sentences = []
    for name in names:
        folded = " ".join(name.casefold().split())
        if folded in seen:
            sentences.append(f"the classes {seen[folded]!r} and {name!r} differ in case or space alone")
        seen.setdefault(folded, name)
    return sentences


def _check_names(given: Any, what: str) -> None:
    if not (isinstance(given, tuple) and all(isinstance(name, str) and name for name in given)):
        raise DataError(f"{what} {given!r}, which is no tuple of non-empty strings")
    if twice := [name for name, count in Counter(given).items() if count > 1]:
        raise DataError(f"{what} with {twice[0]!r} twice")


def _check_statistics(given: Any, what: str, *, positive: bool) -> None:
    numbers = given if isinstance(given, tuple | list) else ()
    fits = len(numbers) == 3 and all(isinstance(value, Real) and math.isfinite(value) for value in numbers)
    if not fits or (positive and min(numbers) <= 0):
        raise DataError(
            f"{what} {given!r}, which is not three {'positive' if positive else 'finite'} numbers"
        )


def _check_examples(examples: Examples, where: str, *, num_classes: int) -> None:
    if not isinstance(examples, Examples):
        raise DataError(f"{where} is {type(examples).__name__}, not Examples")
    labels = _whole_numbers(examples.labels, "labels", where)
    if not len(labels):
        raise DataError(f"{where} is empty")
    _check_images(examples.images, where, num_labels=len(labels))
    _check_range(labels, "label", where, num_classes=num_classes)
    for member in ("groups", "indices", "clean_labels"):
        if getattr(examples, member) is not None:
            _whole_numbers(getattr(examples, member), member, where, length=len(labels))
    if examples.clean_labels is not None:
        _check_range(examples.clean_labels, "clean label", where, num_classes=num_classes)
    if examples.indices is not None:
        values, counts = examples.indices.unique(return_counts=True)
        if len(twice := values[counts > 1]):
            raise DataError(f"{where} has index {int(twice[0])} twice")


def _check_images(images: Any, where: str, *, num_labels: int) -> None:
    if isinstance(images, Tensor):
        _check_pixels(images, where, shape="(N, 3, H, W)")
    elif not all(hasattr(images, name) for name in ("__len__", "read", "identities")):
        raise DataError(f"{where} has {type(images).__name__} for images, no tensor and no ImageReader")
    if len(images) != num_labels:
        raise DataError(f"{where} has {len(images)} images for {num_labels} labels")
    if not isinstance(images, Tensor | InspectedReader):
        _check_pixels(images.read(0), where, shape="(3, H, W)")


def _check_pixels(given: Any, where: str, *, shape: str) -> None:
    """Of a tensor of images, or of the first one that a reader gives."""
    if not isinstance(given, Tensor):
        raise DataError(f"{where} reads its first image as {type(given).__name__}, not as a tensor")
    if given.dtype != torch.uint8:
        raise DataError(f"{where} has images of dtype {dtype_name(given.dtype)}, not uint8")
    if given.ndim != shape.count(",") + 1 or given.shape[-3] != 3 or 0 in given.shape[-2:]:
        raise DataError(f"{where} has images of shape {tuple(given.shape)}, not {shape}")


def _whole_numbers(given: Any, member: str, where: str, *, length: int | None = None) -> Tensor:
    """A member of int64 (N,)."""
    if not isinstance(given, Tensor):
        raise DataError(f"{where} has {type(given).__name__} for {member}, not a tensor")
    if given.ndim != 1:
        raise DataError(f"{where} has {member} of shape {tuple(given.shape)}, not (N,)")
    if length is not None and len(given) != length:
        raise DataError(f"{where} has {len(given)} {member} for {length} labels")
    if given.dtype != torch.int64 and len(given):
        raise DataError(f"{where} has {member} of dtype {dtype_name(given.dtype)}, not int64")
    return given


def _check_range(labels: Tensor, noun: str, where: str, *, num_classes: int) -> None:
    low, high = (int(bound) for bound in labels.aminmax())
    if low < 0 or high >= num_classes:
        strange = low if low < 0 else high
        raise DataError(f"{where} has {noun} {strange}, but there are {num_classes} classes")


def _check_groups(examples: Examples, where: str, *, lowest: int, names: tuple[str, ...]) -> None:
    if examples.groups is None:
        return
    low, high = (int(bound) for bound in examples.groups.aminmax())
    if low < lowest:
        raise DataError(f"{where} has group {low}; groups start at {lowest} there")
    if names and high >= len(names):
        raise DataError(f"{where} has group {high}, but there are {len(names)} group_names")


def dtype_name(dtype: torch.dtype) -> str:
    """`int64` of `torch.int64`."""
    return str(dtype).removeprefix("torch.")
