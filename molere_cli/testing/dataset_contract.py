"""The contract of a dataset: the same at each load, and batches of it are what networks take."""

from __future__ import annotations

from collections.abc import Mapping
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any

import torch

from molere_cli.config.sections import DataSettings
from molere_cli.data.feed import FeedSettings, make_feed
from molere_cli.data.source import LoadedDataset, Purpose, load_dataset
from molere_cli.registry.registry import empty_registry, load_plugins
from molere_cli.registry.specs import DatasetSpec, Examples
from molere_cli.testing.contract import expect, offer, seeded, under_test


def check_dataset(
    dataset: DatasetSpec | str,
    *,
    argument: str | None = None,
    options: Mapping[str, Any] | None = None,
    data_dir: Path = Path("data"),
) -> None:
    """Check that a dataset can be trained and tested on, and that its random choices follow `data_seed`.

    Args:
        dataset: its record, or the name of an installed one.
        argument: what follows the colon in `--dataset NAME:ARGUMENT`.
        data_dir: where it looks for its files; nothing is fetched.

    Raises:
        BrokenContract, PluginError, DataError: it breaks the contract, in one sentence that says how.
    """
    spec = load_plugins().datasets.get(dataset) if isinstance(dataset, str) else dataset
    name = spec.name if argument is None else f"{spec.name}:{argument}"
    settings = {"dataset": name, "dataset_option": dict(options or {}), "data_dir": data_dir}
    one, again = _loaded(spec, settings, seed=1), _loaded(spec, settings, seed=2)
    expect(
        one.fingerprint == again.fingerprint
        and one.test_fingerprints() == again.test_fingerprints()
        and torch.equal(one.dataset.pool.labels, again.dataset.pool.labels),
        spec,
        "two loads with one data_seed must give the same examples, whatever the global random state",
    )
    other = _loaded(spec, {**settings, "data_seed": 7}, seed=1)
    expect(
        one.dataset.class_names == other.dataset.class_names,
        spec,
        "classes and their order must not depend on data_seed",
    )
    for where, part in {"the pool": one.dataset.pool, **one.test_sets()}.items():
        _check_part(spec, one, part, where)


def _loaded(spec: DatasetSpec, settings: Mapping[str, Any], *, seed: int) -> LoadedDataset:
    registry = empty_registry()
    offer(registry, "register_datasets", spec)
    purpose: Purpose = "test" if spec.test_only else "train"
    with seeded(seed):
        return load_dataset(DataSettings.model_validate(settings), registry, purpose=purpose)


def _check_part(spec: DatasetSpec, data: LoadedDataset, part: Examples, where: str) -> None:
    if not isinstance(part.images, torch.Tensor):
        with under_test(spec).watched("pickling its reader, which goes to worker processes"):
            ForkingPickler.dumps(part.images)  # as a loader sends it; nothing is read back
        expect(
            list(part.images.identities()) == list(part.images.identities()),
            spec,
            f"the identities of {where} must be the same each time",
        )
    settings = FeedSettings(
        mean=data.dataset.mean,
        std=data.dataset.std,
        augment=data.dataset.augment,
        image_size=(16, 16),
        device=torch.device("cpu"),
        workers=0,
    )
    positions = torch.arange(min(4, len(part)))
    for batch in make_feed(part, settings).training([positions], seed=0):
        expect(bool(batch.images.isfinite().all()), spec, f"images of {where} must be finite once normalised")
