"""From what people hold in Python to labelled images: uint8 (N, 3, H, W) and int64 (N,)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from molere_cli.foundation.errors import DataError

IMAGE_COLUMNS, LABEL_COLUMNS = ("image", "img"), ("label", "labels", "fine_label")


def as_images(values: Any, *, what: str) -> Tensor:
    """Images as uint8 (N, 3, H, W), grey ones in three equal channels.

    Args:
        values: a NumPy array or a tensor, uint8 from 0 to 255: (N, H, W), (N, 1 or 3, H, W) or
            (N, H, W, 1 or 3).

    Raises:
        DataError: of another type or shape, or a shape that can be read in two ways.
    """
    images = values.detach().cpu() if isinstance(values, Tensor) else torch.from_numpy(np.array(values))
    if images.dtype != torch.uint8:
        raise DataError(
            f"{what} must be uint8 from 0 to 255, but are {str(images.dtype).removeprefix('torch.')}; scale "
            "and convert them, as in (255 * images).round().astype('uint8')"
        )
    if images.ndim == 3:
        images = images[:, None]
    if images.ndim != 4 or 0 in images.shape:
        raise DataError(f"{what} must be (N, H, W), (N, C, H, W) or (N, H, W, C), but are {_shape(images)}")
    first, last = images.shape[1] in (1, 3), images.shape[3] in (1, 3)
    if first and last:
        raise DataError(
            f"{what} of shape {_shape(images)} can be read as (N, C, H, W) and as (N, H, W, C); images of "
            "3 pixels or less a side are not taken"
        )
    if not first and not last:
        raise DataError(f"{what} must have 1 or 3 channels, but are {_shape(images)}")
    if last:
        images = images.permute(0, 3, 1, 2)
    return images.expand(-1, 3, -1, -1).contiguous()


def as_labels(values: Any, *, num_examples: int, what: str) -> Tensor:
    """Labels as int64 (N,).

    Raises:
        DataError: they are no whole numbers from 0 on, or not as many.
    """
    labels = values.detach().cpu() if isinstance(values, Tensor) else torch.from_numpy(np.array(values))
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool or labels.ndim != 1:
        raise DataError(f"{what} must be whole numbers, one for each image, but are {_described(labels)}")
    if len(labels) != num_examples:
        raise DataError(f"there are {num_examples:,} images, but {len(labels):,} {what}")
    labels = labels.to(torch.int64)
    if len(labels) and int(labels.min()) < 0:
        raise DataError(f"{what} must be 0 or more, but one is {int(labels.min())}")
    return labels


def as_pairs(source: Any) -> tuple[Tensor, Tensor, tuple[str, ...]]:
    """Images, labels and class names of a torch Dataset of (image, label), or a `datasets.Dataset`.

    Class names are those of its `classes`, or of a `ClassLabel`; empty where it has neither.

    Raises:
        DataError: it gives something else, or images of several sizes.
    """
    if hasattr(source, "column_names") and hasattr(source, "features"):
        image, label = _column(source, IMAGE_COLUMNS), _column(source, LABEL_COLUMNS)
        names = getattr(source.features[label], "names", None) or ()
        pairs: Iterable[Any] = ((row[image], row[label]) for row in source)
    else:
        names = getattr(source, "classes", None) or ()
        pairs = (source[position] for position in range(len(source)))
    images, labels = [], []
    for number, pair in enumerate(pairs):
        if not isinstance(pair, Sequence) or len(pair) != 2:
            raise DataError(f"example {number} of the dataset is no pair of an image and a label")
        images.append(_single(pair[0], number))
        labels.append(int(pair[1]))
    if len(sizes := {tuple(each.shape[1:]) for each in images}) > 1:
        (one, other) = sorted(sizes)[:2]
        raise DataError(
            f"the dataset has images of several sizes ({one[0]} x {one[1]}, {other[0]} x {other[1]}...); "
            "resize them in its transform, or give a folder"
        )
    if not images:
        raise DataError("the dataset is empty")
    return torch.stack(images), torch.tensor(labels), tuple(str(name) for name in names)


def _single(image: Any, number: int) -> Tensor:
    if isinstance(image, Image.Image):
        image = np.asarray(image.convert("RGB"))
    elif isinstance(image, Tensor) and image.ndim == 2:
        image = image[None]
    found: Tensor = as_images(image[None], what=f"image {number} of the dataset")[0]
    return found


def _column(source: Any, names: Sequence[str]) -> str:
    found = [name for name in names if name in source.column_names]
    if not found:
        raise DataError(
            f"the dataset has no column {' or '.join(names)}; there are {', '.join(source.column_names)}"
        )
    return found[0]


def _shape(values: Tensor) -> str:
    return f"({', '.join(map(str, values.shape))})"


def _described(values: Tensor) -> str:
    return f"{str(values.dtype).removeprefix('torch.')} of shape {_shape(values)}"
