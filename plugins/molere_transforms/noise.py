"""Label noise on a training pool: who gets a wrong label, and which.

Test and tuning sets stay clean. Shapes: N examples, C classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from molere_cli import (
    ConfigError,
    CsvRow,
    DataError,
    Dataset,
    TransformRequest,
    csv_rows,
    derived_generator,
    derived_seed,
    plain_name,
)

INSTANCE_DEVIATION = 0.1


def apply(dataset: Dataset, request: TransformRequest) -> Dataset:
    """The transform `label-noise` of the pool: its argument is a kind, its value the rate; or a CSV file."""
    pool, kind = dataset.pool, request.argument or ""
    if kind.endswith(".csv"):
        indices = torch.arange(len(pool)) if pool.indices is None else pool.indices
        noisy_N = labels_from_file(
            Path(kind), pool.labels, indices, dataset.class_names, num_full=request.num_full
        )
    else:
        noisy_N = noisy_labels(
            pool.labels,
            kind=kind,
            rate=request.value,
            num_classes=len(dataset.class_names),
            seed=request.seed,
            images=pool.images if isinstance(pool.images, Tensor) else None,
        )
    return replace(dataset, pool=replace(pool, labels=noisy_N, clean_labels=pool.labels))


def noisy_labels(
    labels_N: Tensor, *, kind: str, rate: float, num_classes: int, seed: int, images: Tensor | None = None
) -> Tensor:
    """Labels int64 (N,) after noise; the same for the same seed.

    - `uniform`: a share `rate` of every class is drawn anew from all C classes, so that rate (C - 1) / C of
      all are wrong (Meta-Weight-Net's definition, arXiv 1902.07379).
    - `flip`: a share `rate` of every class goes to one other class, drawn once for each class.
    - `pair`: a share `rate` of every class goes to the next class; the last one's to the first.
    - `instance`: `instance_noise`.

    Shares are exact, up to rounding within a class.

    Raises:
        ConfigError: there is one class alone.
        DataError: `instance` without images in memory.
    """
    if num_classes < 2:
        raise ConfigError(f"label noise needs two classes or more; there is {num_classes}")
    generator = derived_generator(seed, "noise", kind)
    if kind == "instance":
        if images is None:
            raise DataError(
                "--label-noise instance needs the images in memory, but these are read from files; "
                "use uniform, flip or pair"
            )
        return instance_noise(images, labels_N, rate=rate, num_classes=num_classes, seed=seed)
    noisy_N = labels_N.clone()
    for label in range(num_classes):
        members = (labels_N == label).nonzero().squeeze(1)
        chosen = members[torch.randperm(len(members), generator=generator)[: round(rate * len(members))]]
        shift = torch.randint(1, num_classes, (), generator=generator)
        if kind == "uniform":
            noisy_N[chosen] = torch.randint(num_classes, (len(chosen),), generator=generator)
        else:
            noisy_N[chosen] = (label + (1 if kind == "pair" else shift)) % num_classes
    return noisy_N


def instance_noise(
    images: Tensor, labels_N: Tensor, *, rate: float, num_classes: int, seed: int, chunk: int = 4096
) -> Tensor:
    """Part-dependent label noise (Xia et al. 2020, arXiv 2006.07836, algorithm 2), int64 (N,).

    Each example has a flip rate q from a normal of mean `rate` and standard deviation 0.1, truncated to
    [0, 1]. Its pixels times a random matrix of its class, softmax over the other classes, say where it goes.

    Args:
        images: uint8 (N, 3, H, W).
    """
    from scipy.stats import truncnorm  # half a second to import, and seldom needed

    generator = derived_generator(seed, "noise", "instance")
    low, high = -rate / INSTANCE_DEVIATION, (1 - rate) / INSTANCE_DEVIATION
    uniform_N = torch.rand(len(labels_N), generator=generator, dtype=torch.float64)
    quantiles = truncnorm.ppf(uniform_N.numpy(), low, high, loc=rate, scale=INSTANCE_DEVIATION)
    flip_rate_N = torch.from_numpy(quantiles).clamp(0, 1)
    num_pixels = images[0].numel()
    noisy_N = labels_N.clone()
    for label in range(num_classes):
        class_generator = derived_generator(derived_seed(seed, "noise", "instance"), label)
        projection = torch.randn(num_pixels, num_classes, generator=class_generator)
        for members in (labels_N == label).nonzero().squeeze(1).split(chunk):
            # The paper does not say how pixels are scaled; [-1, 1] keeps brightness from deciding.
            pixels = images[members].flatten(1).float() / 127.5 - 1
            scores = (pixels @ projection).double()
            scores[:, label] = -torch.inf
            rates = flip_rate_N[members, None] * scores.softmax(dim=1)
            rates[:, label] = 1 - flip_rate_N[members]
            noisy_N[members] = torch.multinomial(rates, 1, generator=generator).squeeze(1)
    return noisy_N


def labels_from_file(
    path: Path, labels_N: Tensor, indices_N: Tensor, class_names: Sequence[str], *, num_full: int
) -> Tensor:
    """Labels int64 (N,) with those of a CSV file in place of the pool's.

    The file has the columns `index` and `label`: the index in the full pool, and the name or, in every row,
    the number of a class. Rows of examples that a sub-sample left out are skipped.

    Args:
        num_full: examples in the full pool.

    Raises:
        DataError: the file, or a row of it, cannot be used; the sentence names it.
    """
    position_of = {index: position for position, index in enumerate(indices_N.tolist())}
    rows = list(csv_rows(path, ("index", "label")))
    number_of = _reading(rows, class_names)
    noisy_N, seen = labels_N.clone(), set()
    for row in rows:
        index, text = row.number("index", below=num_full), plain_name(row["label"])
        if index in seen:
            raise row.error(f"index {index} stands there twice")
        seen.add(index)
        if text not in number_of:
            raise row.error(f"{text!r} is neither a class name nor a class number")
        if index in position_of:
            noisy_N[position_of[index]] = number_of[text]
    if not seen & position_of.keys():
        raise DataError(f"{path} names no example of the pool; its indices run up to {int(indices_N.max())}")
    return noisy_N


def _reading(rows: Sequence[CsvRow], class_names: Sequence[str]) -> Mapping[str, int]:
    """What a label means, decided for the whole file: a class's name, or its number where one is no name."""
    by_name = {name: number for number, name in enumerate(class_names)}
    by_number = {str(number): number for number in range(len(class_names))}
    labels = {plain_name(row["label"]) for row in rows}
    if labels <= by_name.keys() or not labels <= by_number.keys():
        return by_name
    return by_number
