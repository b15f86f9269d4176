"""scikit-learn's 1,797 handwritten digits, and the Colored-MNIST protocol (arXiv 1907.02893) on them.

Shapes: N examples, 8 x 8 pixels.
"""

from __future__ import annotations

import colorsys

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field
from sklearn.datasets import load_digits

from molere_cli import Dataset, DatasetRequest, Examples, Options, split_off

NUM_TUNING, NUM_TEST, NUM_CLASSES = 297, 500, 10
INK_MAX = 16
TINT = 0.8

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]


class ColourOptions(Options):
    """rho: the fraction of the training pool whose colour agrees with the label."""

    rho: float = Field(0.95, ge=0, le=1)


def digits(request: DatasetRequest) -> Dataset:
    """The digits in grey: pool 1,000, tuning 297, test 500, stratified by class."""
    pool, tuning, test = _parts(request.data_seed)
    return _dataset(
        pool=_examples(pool, np.zeros(3)[None]),
        tuning=_examples(tuning, np.zeros(3)[None]),
        tests={"test": _examples(test, np.zeros(3)[None])},
    )


def colour_digits(request: DatasetRequest) -> Dataset:
    """The digits on a background tinted with one of ten hues.

    Each class owns a hue. In the pool `rho` of every class (rounded to whole examples) is tinted with its
    own, the rest with one of the other nine; in tuning and test hues are drawn independently of the label.
    Groups: 1 where colour and label agree, else 0.
    """
    rho, data_seed = request.options.rho, request.data_seed
    # A generator a part, so that tuning and test sets are the same for every rho.
    owner_rng, pool_rng, tuning_rng, test_rng = (
        np.random.default_rng(seed) for seed in np.random.SeedSequence(data_seed).spawn(4)
    )
    pool, tuning, test = _parts(data_seed)
    owner_of_class = owner_rng.permutation(NUM_CLASSES)
    hues = np.array([colorsys.hsv_to_rgb(number / NUM_CLASSES, 1, 1) for number in range(NUM_CLASSES)])

    def coloured(part: Examples, colour_N: Integers) -> Examples:
        agrees_N = colour_N == owner_of_class[part.labels.numpy()]
        return _examples(part, TINT * hues[colour_N], groups_N=agrees_N.astype(np.int64))

    return _dataset(
        pool=coloured(pool, _biased_colours(pool.labels.numpy(), owner_of_class, rho, pool_rng)),
        tuning=coloured(tuning, tuning_rng.integers(0, NUM_CLASSES, len(tuning))),
        tests={"test": coloured(test, test_rng.integers(0, NUM_CLASSES, len(test)))},
        group_names=("colour disagrees", "colour agrees"),
    )


def _biased_colours(
    labels_N: Integers, owner_of_class: Integers, rho: float, rng: np.random.Generator
) -> Integers:
    colour_N = owner_of_class[labels_N]
    for label in range(NUM_CLASSES):
        members = rng.permutation(np.flatnonzero(labels_N == label))
        odd_ones = members[round(rho * len(members)) :]
        shift = rng.integers(1, NUM_CLASSES, len(odd_ones))
        colour_N[odd_ones] = (colour_N[odd_ones] + shift) % NUM_CLASSES
    return colour_N


def _parts(data_seed: int) -> tuple[Examples, Examples, Examples]:
    """Pool, tuning and test; images are ink in [0, 16], uint8 (N, 1, 8, 8)."""
    source = load_digits()
    everything = Examples(
        images=torch.tensor(source.images, dtype=torch.uint8)[:, None],
        labels=torch.tensor(source.target, dtype=torch.int64),
    )
    rest, test = split_off(everything, NUM_TEST, seed=data_seed)
    pool, tuning = split_off(rest, NUM_TUNING, seed=data_seed)
    assert test is not None and tuning is not None
    return pool, tuning, test


def _examples(part: Examples, tint_N3: Floats, *, groups_N: Integers | None = None) -> Examples:
    """x + tint (1 - x) for ink x in [0, 1], as uint8 (N, 3, 8, 8)."""
    assert isinstance(part.images, torch.Tensor)
    ink = part.images.numpy() / INK_MAX
    coloured = ink + tint_N3[:, :, None, None] * (1 - ink)
    return Examples(
        images=torch.from_numpy((255 * coloured.clip(0, 1)).round().astype(np.uint8)),
        labels=part.labels,
        groups=None if groups_N is None else torch.from_numpy(groups_N),
        indices=torch.arange(len(part)),
    )


def _dataset(
    *, pool: Examples, tuning: Examples, tests: dict[str, Examples], group_names: tuple[str, ...] = ()
) -> Dataset:
    return Dataset(
        pool=pool,
        tuning=tuning,
        tests=tests,
        class_names=tuple(str(label) for label in range(NUM_CLASSES)),
        group_names=group_names,
        mean=(0.5, 0.5, 0.5),
        std=(0.3, 0.3, 0.3),
    )
