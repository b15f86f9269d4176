"""Run directories written as plain JSON, for tests of what reads them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

CONFIG = {
    "dataset": "digits",
    "dataset_option": {},
    "data_seed": 0,
    "data_dir": "data",
    "limit_train": None,
    "backbone": "small_cnn",
    "backbone_option": {},
    "epochs": 2,
    "lr": 0.05,
    "schedule": "cosine",
    "method": "erm",
    "method_option": {},
    "train_on": "all",
    "seed": 0,
    "device": "auto",
    "precision": "auto",
    "threads": None,
}
FINISHED = "2025-01-01T00:00:04+00:00\n"
REWEIGHTING = {"reweighter": "instance", "reweighter_option": {}, "reweighter_lr": 0.05}
ENVIRONMENT = {
    "format_version": 1,
    "device": "cpu",
    "precision": "fp32",
    "command": "molere train",
    "commit": None,
    "started": "2025-01-01T00:00:00+00:00",
    "fingerprint": "f0",
    "split": None,
}


def erm_run(path: Path, accuracy: float, *, config=None, environment=None, **results: Any) -> Path:
    """A finished ERM run; `results` are metrics of the set `test`."""
    return write_run(
        path, {**CONFIG, **(config or {})}, {"label": "ERM", **(environment or {})}, accuracy, results
    )


def lrw_run(
    path: Path, accuracy: float, *, strategy="hard", config=None, environment=None, **results: Any
) -> Path:
    """A finished LRW run on a split made by `strategy`."""
    split = {"strategy": strategy, "score": "aum", "delta": 0.1, "seed": 0, "erm_run": "runs/somewhere"}
    made = {"label": f"LRW-{strategy.capitalize()}", "split": split, **(environment or {})}
    settings = {"method": "lrw", "split": strategy, "score": "aum", "delta": 0.1, **REWEIGHTING}
    return write_run(path, {**CONFIG, **settings, **(config or {})}, made, accuracy, results)


def molere_run(path: Path, accuracy: float, *, config=None, **results: Any) -> Path:
    """A finished MOLERE run, whose split is learned."""
    settings = {"method": "molere", "delta": 0.1, **REWEIGHTING, "splitter": "features"}
    label = {"label": "MOLERE (LRW-Opt)"}
    return write_run(path, {**CONFIG, **settings, **(config or {})}, label, accuracy, results)


def drop_digests(path: Path) -> None:
    """Leave a finished run as a version would have that kept no digests."""
    environment = json.loads((path / "environment.json").read_text())
    environment.pop("digests", None)
    (path / "environment.json").write_text(json.dumps(environment))
    (path / "DONE").write_text(FINISHED)


def write_run(path: Path, config, environment, accuracy: float, results) -> Path:
    path.mkdir(parents=True)
    last = {"test/accuracy": accuracy, "test/margin": 2 * accuracy - 1}
    if "reweighter" in config:
        last |= {"reweighter/updates": 40, "weights/std": 0.5}
    last |= {key if "/" in key else f"test/{key}": value for key, value in results.items()}
    epochs = [
        {"epoch": 0, "train/loss": 2.0, "train/accuracy": 0.3, "time/seconds": 1.5},
        {"epoch": 1, "train/loss": 1.0, "train/accuracy": 0.6, "time/seconds": 2.5, **last},
    ]
    (path / "config.json").write_text(json.dumps(config))
    (path / "environment.json").write_text(json.dumps({**ENVIRONMENT, **environment}))
    (path / "metrics.jsonl").write_text("".join(json.dumps(epoch) + "\n" for epoch in epochs))
    (path / "DONE").write_text(FINISHED)
    return path
