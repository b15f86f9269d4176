"""Epochs of ERM, LRW, MOLERE and Meta-Weight-Net on the same data, by the real engine: time and memory."""

from __future__ import annotations

import argparse
import fnmatch
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import harness
import torch
from meta_weight_net import MetaWeightNetLoop
from torch import Tensor

from molere_cli import Dataset, DatasetSpec, Examples, hookimpl
from molere_cli.config.plan import make_plan
from molere_cli.config.run_config import RunConfig
from molere_cli.data.source import LoadedDataset
from molere_cli.registry.registry import Registry, load_plugins
from molere_cli.splits.quota import random_split
from molere_cli.training.build_engine import Engine, build_engine

NUM_CLASSES, SIZE, DELTA = 10, 32, 0.1
REWEIGHTERS = ("instance", "features", "loss", "image")
INTERVALS = (1, 5, 20)
SPLITTER_INTERVALS = (1, 5)
Precision = Literal["fp32", "bf16"]
PRECISIONS: tuple[Precision, ...] = ("fp32", "bf16")


@dataclass(frozen=True)
class Row:
    """interval: Q; splitter_interval: K. A round lasts K epochs, so that it holds one splitter update."""

    label: str
    work: str
    precision: Precision
    method: str
    settings: dict[str, Any]
    interval: int | None = None
    splitter_interval: int = 1


def all_rows() -> dict[str, Row]:
    """Every row by its key; ERM first."""
    rows: dict[str, Row] = {}
    for precision in PRECISIONS:
        rows[f"erm/{precision}"] = Row("ERM", "F B", precision, "erm", {})
        for reweighter in REWEIGHTERS:
            for q in INTERVALS:
                settings = {"reweighter": reweighter, "split": "random", "delta": DELTA}
                key = f"lrw-{reweighter}-q{q}/{precision}"
                work = f"F B; each {q}: F B val, dual F, reweighter"
                rows[key] = Row(f"LRW {reweighter}, Q={q}", work, precision, "lrw", settings, q)
        for k in SPLITTER_INTERVALS:
            for q in INTERVALS:
                settings = {
                    "reweighter": "instance",
                    "split": "none",
                    "splitter": "features",
                    "splitter_interval": k,
                    "delta": DELTA,
                }
                work = f"as LRW instance; each {k} epochs: F of the pool, splitter epoch"
                key = f"molere-k{k}-q{q}/{precision}"
                rows[key] = Row(f"MOLERE K={k}, Q={q}", work, precision, "molere", settings, q, k)
        for q in INTERVALS:
            work = f"F B; each {q}: F B in graph, F val, double B"
            rows[f"mwn-q{q}/{precision}"] = Row(f"Meta-Weight-Net, Q={q}", work, precision, "mwn", {}, q)
    return rows


def main() -> None:
    parser = harness.option_parser(__doc__, repetitions=5, memory=True)
    parser.add_argument(
        "--rows", nargs="+", default=["*"], metavar="PATTERN", help="of: " + ", ".join(all_rows())
    )
    parser.add_argument("--epochs", type=int, dest="repetitions", help="the same as --repetitions")
    parser.add_argument("--examples", type=int, default=2560, help="pool size (default: %(default)s)")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--backbone", default="wrn16_2")
    options = harness.parse(parser, quick={"examples": 256, "batch_size": 32, "repetitions": 2})
    rows, data = all_rows(), synthetic_data(options.examples)
    if options.memory_row:
        harness.report_peak(make_epoch(rows[options.memory_row], data, options))
        return
    chosen = _chosen(rows, options.rows)
    num_steps = math.ceil(options.examples / options.batch_size)
    harness.print_header(
        "Epochs of training",
        f"{options.backbone}, {SIZE} px, {options.examples} examples in memory, crop and flip, batch "
        f"{options.batch_size} ({num_steps} steps an epoch, the same for every row), validation "
        f"batches of the same size, momentum 0.9, train_on all, delta {DELTA}",
        f"Medians of {options.repetitions} interleaved rounds after an untimed epoch; MOLERE with K = 5 "
        "runs 5 epochs a round and reports their mean; the memory is that of the first epoch",
        "Meta-Weight-Net: lookahead in a second-order graph, then a forward and backward of its own for the "
        "real step, as published; every Q steps",
    )
    _measure({key: rows[key] for key in chosen}, data, options, num_steps)


def _chosen(rows: dict[str, Row], patterns: list[str]) -> list[str]:
    """The rows that match, and the ERM rows that they are compared with."""
    matching = {key for key in rows if any(fnmatch.fnmatch(key, pattern) for pattern in patterns)}
    if not matching:
        raise SystemExit(f"no row matches {' '.join(patterns)}; there are: {', '.join(rows)}")
    compared = {f"erm/{rows[key].precision}" for key in matching} | {"erm/fp32"}
    return [key for key in rows if key in matching | compared]


def _measure(rows: dict[str, Row], data: LoadedDataset, options: argparse.Namespace, num_steps: int) -> None:
    epochs = {key: make_epoch(row, data, options) for key, row in rows.items()}
    for run in epochs.values():
        run()
    blocks = {key: _block(run, rows[key].splitter_interval) for key, run in epochs.items()}
    found = harness.time_runs(blocks, repetitions=options.repetitions, warmups=0)
    seconds = {key: found[key].median / row.splitter_interval for key, row in rows.items()}
    peaks = {key: harness.peak_memory(key, options) for key in rows}
    table = []
    for key, row in rows.items():
        erm = f"erm/{row.precision}"
        table.append(
            [
                row.label,
                row.precision,
                row.work,
                str(math.ceil(num_steps / row.interval)) if row.interval else "0",
                f"{seconds[key]:.3f}",
                found[key].spread,
                f"{1e3 * seconds[key] / num_steps:.1f}",
                harness.times(seconds[key] / seconds["erm/fp32"]),
                harness.times(seconds[key] / seconds[erm]),
                harness.mebibytes(peaks[key]),
                harness.times(peaks[key] / peaks[erm]),
            ]
        )
    harness.print_table(
        [
            "row",
            "precision",
            "computes, a step",
            "meta-updates an epoch",
            "s an epoch",
            "+-",
            "ms a step",
            "/ ERM fp32",
            "/ ERM of its precision",
            "peak memory",
            "/ ERM of its precision",
        ],
        table,
    )


def _block(run: Callable[[], None], num_epochs: int) -> Callable[[], None]:
    def block() -> None:
        for _ in range(num_epochs):
            run()

    return block


def make_epoch(row: Row, data: LoadedDataset, options: argparse.Namespace) -> Callable[[], None]:
    """What runs the next epoch of a row."""
    in_validation = random_split(data.dataset.pool.labels, delta=DELTA, seed=0)
    if row.method == "mwn":
        assert row.interval is not None
        engine = make_engine("erm", {}, row.precision, data, None, options)
        return MetaWeightNetLoop(engine, in_validation, interval=row.interval).run_epoch
    settings = dict(row.settings)
    if row.interval is not None:
        settings |= {"reweighter_interval": row.interval, "warmup_epochs": 0}
    split = in_validation if row.method == "lrw" else None
    epochs = make_engine(row.method, settings, row.precision, data, split, options).loop.epochs()

    def run() -> None:
        next(epochs)

    return run


def make_engine(
    method: str,
    settings: dict[str, Any],
    precision: Precision,
    data: LoadedDataset,
    in_validation: Tensor | None,
    options: argparse.Namespace,
) -> Engine:
    """The real engine on the synthetic data."""
    config = RunConfig.of(
        dataset="synthetic",
        backbone=options.backbone,
        batch_size=options.batch_size,
        epochs=1_000_000,
        schedule="constant",
        method=method,
        device="cpu",
        threads=options.threads,
        **settings,
    )
    return build_engine(make_plan(config, _registry(), precision=precision), data, in_validation)


class SyntheticPlugin:
    """The dataset `synthetic`, of 2,560 examples."""

    @hookimpl
    def register_datasets(self, register: Callable[[DatasetSpec], None]) -> None:
        register(
            DatasetSpec(
                name="synthetic",
                description="Noise with a hint of the label.",
                load=lambda request: synthetic_data(2560).dataset,
            )
        )


def _registry() -> Registry:
    registry = load_plugins()
    registry.add(SyntheticPlugin(), "synthetic")
    return registry


def synthetic_data(num_examples: int, size: int = SIZE) -> LoadedDataset:
    """Images of `size` pixels in ten classes: noise with a hint of the label."""
    generator = torch.Generator().manual_seed(0)
    labels_N = torch.arange(num_examples) % NUM_CLASSES
    shape = (num_examples, 3, size, size)
    images = torch.randint(0, 200, shape, generator=generator, dtype=torch.uint8)
    images += (5 * labels_N)[:, None, None, None].to(torch.uint8)
    pool = Examples(images=images, labels=labels_N)
    dataset = Dataset(
        pool=pool,
        tests={"test": pool},
        class_names=tuple(str(number) for number in range(NUM_CLASSES)),
        augment="crop-flip",
    )
    return LoadedDataset("synthetic", dataset, fingerprint="synthetic")


if __name__ == "__main__":
    main()
