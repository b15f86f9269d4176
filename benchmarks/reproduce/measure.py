"""What a cell's file keeps of a finished run: a few kilobytes, no checkpoint.

Shapes: N examples of the pool.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import spearmanr

from molere_cli.data.source import LoadedDataset
from molere_cli.hardness.hardness_scores import read_score
from molere_cli.runs.run_directory import RunDir
from molere_cli.runs.run_tables import RunTable
from molere_cli.splits.quota import select_by_quota

ENVIRONMENT = ("molere", "python", "torch", "torchvision", "timm", "numpy", "cpu", "threads", "precision")
QUANTILES = tuple(number / 20 for number in range(21))
DIGITS = 6

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]


def measure_run(run: RunDir, erm: RunDir, data: LoadedDataset, *, sets: Sequence[str]) -> dict[str, Any]:
    """Settings, environment, metrics of the chosen test sets, split and weights of a finished run.

    Args:
        erm: the whole-pool ERM run of the same settings and seed, whose AUM says which examples are hard.
    """
    records, environment = run.metrics(), run.environment()
    return {
        "label": environment["label"],
        "settings": run.config(),
        "environment": {key: environment[key] for key in ENVIRONMENT} | {"commit": environment["commit"]},
        **({} if environment["split"] is None else {"split_from": environment["split"]}),
        "fingerprint": environment["fingerprint"],
        "seconds": round(sum(record["time/seconds"] for record in records), 2),
        "metrics": {name: metrics_of(records[-1], name) for name in sets},
        "predictions": {name: predictions_of(run, data, name) for name in sets},
        "train_accuracy": rounded(records[-1]["train/accuracy"]),
        **pool_of(run, erm, data),
        "ess_by_epoch": [rounded(record.get("weights/ess", 1.0)) for record in records],
    }


def metrics_of(record: dict[str, float], name: str) -> dict[str, float]:
    """The metrics of one test set, unrounded: a rerun must meet them to the bit."""
    prefix = f"{name}/"
    return {key.removeprefix(prefix): value for key, value in record.items() if key.startswith(prefix)}


def predictions_of(run: RunDir, data: LoadedDataset, name: str) -> dict[str, Any]:
    """Quantiles of the margin, and the accuracy of each group and class."""
    table = RunTable.predictions(run).read(["label", "prediction", "margin", "group"], test_set=name)
    correct = table["label"].to_numpy() == table["prediction"].to_numpy()
    labels = table["label"].to_numpy()
    found: dict[str, Any] = {
        "margin_quantiles": [rounded(value) for value in np.quantile(table["margin"].to_numpy(), QUANTILES)],
        "accuracy_by_class": [rounded(correct[labels == label].mean()) for label in range(data.num_classes)],
    }
    if table["group"].null_count < len(table):
        groups = table["group"].to_numpy()
        found["accuracy_by_group"] = {
            group_name: rounded(correct[groups == group].mean())
            for group, group_name in enumerate(data.dataset.group_names)
            if (groups == group).any()
        }
    return found


def pool_of(run: RunDir, erm: RunDir, data: LoadedDataset) -> dict[str, Any]:
    """Who is in the validation set, and who got how much weight at the end."""
    table = RunTable.pool(run).read(["in_validation", "weight"])
    labels = data.dataset.pool.labels
    aum_N = read_score(erm, "aum")
    delta = run.config().get("delta", 0.1)
    hard_N: Mask = select_by_quota(labels, -aum_N, delta=delta).numpy()
    easy_N: Mask = select_by_quota(labels, aum_N, delta=delta).numpy()
    kinds = {"hard": hard_N, "easy": easy_N, "other": ~hard_N & ~easy_N, **kinds_of(data)}
    found: dict[str, Any] = {"pool": {kind: int(mask.sum()) for kind, mask in kinds.items()}}
    if table["in_validation"].null_count == 0:
        val_N: Mask = table["in_validation"].to_numpy(zero_copy_only=False)
        found["split"] = {
            "num_val": int(val_N.sum()),
            "share_of_val": {kind: rounded(mask[val_N].mean()) for kind, mask in kinds.items()},
        }
    weight_N: Floats = table["weight"].to_numpy().astype(np.float64)
    trained_N = ~np.isnan(weight_N)
    if np.ptp(weight_N[trained_N]) > 0:
        found["weights"] = {
            "mean_by_kind": {
                kind: rounded(weight_N[mask & trained_N].mean())
                for kind, mask in kinds.items()
                if (mask & trained_N).any()
            },
            "quantiles": [rounded(value) for value in np.quantile(weight_N[trained_N], QUANTILES)],
            "spearman_with_aum": rounded(spearmanr(weight_N[trained_N], aum_N.numpy()[trained_N]).statistic),
        }
    return found


def kinds_of(data: LoadedDataset) -> dict[str, Mask]:
    """The pool by group and by whether the label is right, where that is known."""
    pool, kinds = data.dataset.pool, {}
    if pool.groups is not None:
        for group, name in enumerate(data.dataset.group_names):
            kinds[name] = (pool.groups == group).numpy()
    if pool.clean_labels is not None:
        kinds["mislabelled"] = (pool.labels != pool.clean_labels).numpy()
        kinds["rightly labelled"] = ~kinds["mislabelled"]
    return kinds


def rounded(value: float | None) -> float | None:
    """Six digits after the point; None for what is no number."""
    return None if value is None or math.isnan(value) else round(float(value), DIGITS)
