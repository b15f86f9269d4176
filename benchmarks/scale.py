"""How cost grows: with the pool for a split and a splitter epoch, with the runs for `compare`."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Mapping
from functools import partial
from itertools import pairwise
from pathlib import Path

import harness
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import nn

from molere_cli import Dataset, Examples
from molere_cli.config.run_config import RunConfig
from molere_cli.config.sections import SplitterSettings
from molere_cli.data.feed import FeedSettings, InMemoryFeed
from molere_cli.data.source import LoadedDataset
from molere_cli.engine.classifier import Classifier
from molere_cli.foundation.progress import NoProgress
from molere_cli.hardness.make_split import make_split
from molere_cli.methods.splitter import FeaturesSplitter, SplitterTraining
from molere_cli.registry.registry import load_plugins
from molere_cli.report import compare_runs, find_runs, render
from molere_cli.runs.run_directory import RunDir
from molere_cli.splits.quota import random_split
from molere_cli.splits.split_file import load_split, write_split

sys.path.insert(0, str(harness.ROOT))
from molere_cli_tests import fake_runs

NUM_CLASSES, DELTA, FEATURE_DIM, BATCH_SIZE = 100, 0.1, 128, 128
POOLS, RUNS = (10_000, 100_000, 1_000_000), (10, 100, 1000)
SEEDS = 5
SLACK = 1.5  # cost per row may grow by this from the smallest size to the largest


def main() -> None:
    parser = harness.option_parser(__doc__, repetitions=5)
    parser.add_argument("--pools", type=int, nargs="+", default=list(POOLS))
    parser.add_argument("--splitter-pools", type=int, nargs="+", default=list(POOLS))
    parser.add_argument("--splitter-repetitions", type=int, default=3)
    parser.add_argument("--runs", type=int, nargs="+", default=list(RUNS), help="multiples of 10")
    options = harness.parse(parser, quick={"repetitions": 2, "splitter_repetitions": 2})
    if options.quick:
        options.splitter_pools = [size for size in options.splitter_pools if size <= 100_000]
    harness.print_header(
        "Scale",
        f"{NUM_CLASSES} classes, delta {DELTA}; medians of interleaved rounds after an untimed one; growth "
        "is the cost per row over that of the size before, 1.00x where cost is linear",
    )
    with tempfile.TemporaryDirectory() as folder:
        _report_splits(Path(folder), options)
        _report_splitter(options)
        _report_compare(Path(folder), options)


def _report(title: str, unit: str, runs: Mapping[int, harness.Run], repetitions: int) -> None:
    """A table of sizes with their cost per row, and whether it stays the same."""
    sizes = sorted(runs)
    named = {f"{title} {size:,}": runs[size] for size in sizes}
    found = list(harness.time_runs(named, repetitions=repetitions).values())
    each = [timing.median / size for timing, size in zip(found, sizes, strict=True)]
    growth = [harness.NOTHING] + [harness.times(after / before) for before, after in pairwise(each)]
    rows = [
        [f"{size:,}", *timing.cells(".4f"), f"{1e6 * cost:.3f}", grown]
        for size, timing, cost, grown in zip(sizes, found, each, growth, strict=True)
    ]
    print(f"### {title}\n")
    harness.print_table([unit, "s", "+-", "us each", "growth"], rows)
    if len(sizes) > 1:
        whole = each[-1] / each[0]
        verdict = "no more than linear" if whole <= SLACK else "MORE THAN LINEAR"
        print(f"From {sizes[0]:,} to {sizes[-1]:,}, cost per row changes to {whole:.2f}x: {verdict}.\n")


# --- splits


def _report_splits(folder: Path, options: argparse.Namespace) -> None:
    scored = {size: ScoredPool(folder, size) for size in options.pools}
    write = {size: pool.rank_and_write for size, pool in scored.items()}
    title = "Reading the scores of a pool, ranking it, writing the split"
    _report(title, "examples", write, options.repetitions)
    read = {size: pool.read for size, pool in scored.items()}
    _report("Reading a split and checking it against the pool", "examples", read, options.repetitions)


class ScoredPool:
    """A pool without pixels, and a finished ERM run that has a score for every example."""

    def __init__(self, folder: Path, size: int) -> None:
        generator = torch.Generator().manual_seed(size)
        labels = torch.randint(0, NUM_CLASSES, (size,), generator=generator)
        pool = Examples(images=torch.zeros(1, dtype=torch.uint8).expand(size), labels=labels)
        names = tuple(str(number) for number in range(NUM_CLASSES))
        dataset = Dataset(pool=pool, tests={}, class_names=names)
        self.data = LoadedDataset("synthetic", dataset, fingerprint=f"pool-{size}")
        self.erm = RunDir(
            fake_runs.erm_run(folder / f"erm-{size}", 0.5, environment={"fingerprint": self.data.fingerprint})
        )
        score = torch.randn(size, generator=generator, dtype=torch.float64)
        pq.write_table(pa.table({"aum": score.numpy()}), self.erm.pool_path)
        self.path = folder / f"split-{size}.parquet"
        self.registry = load_plugins()
        self.progress = NoProgress()
        self.config = RunConfig.of(dataset="synthetic", split="hard", score="aum", delta=DELTA)

    def rank_and_write(self) -> None:
        split = make_split(
            self.config,
            self.registry,
            self.data,
            erm=self.erm,
            runs=self.erm.path.parent,
            progress=self.progress,
        )
        write_split(split, self.path)

    def read(self) -> None:
        load_split(
            self.path,
            labels_N=self.data.dataset.pool.labels,
            indices_N=self.data.pool_indices,
            fingerprint=self.data.fingerprint,
            num_classes=NUM_CLASSES,
        )


# --- splitter


def _report_splitter(options: argparse.Namespace) -> None:
    title = (
        f"A splitter epoch: view of the pool by a one-hidden-layer classifier on 8 px images, training on "
        f"{FEATURE_DIM} features in batches of {BATCH_SIZE}, the new validation set"
    )
    if missing := sorted(set(POOLS) - set(options.splitter_pools)):
        print(f"Left out of the splitter's table: {', '.join(f'{size:,}' for size in missing)} examples.\n")
    actions = {size: splitter_epoch(size) for size in options.splitter_pools}
    _report(title, "examples", actions, options.splitter_repetitions)


def splitter_epoch(size: int) -> harness.Run:
    """One `SplitterTraining.update` on a pool of small images.

    The classifier is as cheap as one can be, since it is the splitter's cost that is asked for.
    """
    generator = torch.Generator().manual_seed(size)
    images = torch.randint(0, 256, (size, 3, 8, 8), generator=generator, dtype=torch.uint8)
    labels = torch.randint(0, NUM_CLASSES, (size,), generator=generator)
    device = torch.device("cpu")
    settings = FeedSettings(
        mean=(0.5,) * 3, std=(0.25,) * 3, augment="none", image_size=(8, 8), device=device, workers=0
    )
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Flatten(), nn.Linear(192, FEATURE_DIM), nn.ReLU(), nn.Linear(FEATURE_DIM, NUM_CLASSES)
    )
    training = SplitterTraining(
        SplitterSettings(),
        delta=DELTA,
        batch_size=BATCH_SIZE,
        seed=0,
        classifier=Classifier(module, device=device, precision=torch.float32),
        feed=InMemoryFeed(images, labels, settings),
        splitter=FeaturesSplitter(FEATURE_DIM, NUM_CLASSES),
        num_classes=NUM_CLASSES,
    )
    return partial(training.update, random_split(labels, delta=DELTA, seed=0), epoch=0)


# --- compare


def _report_compare(folder: Path, options: argparse.Namespace) -> None:
    actions = {size: partial(_compare, write_runs(folder / f"runs-{size}", size)) for size in options.runs}
    title = f"Comparing runs: reading, pairing by seed ({SEEDS} a row), a Markdown table"
    _report(title, "runs", actions, options.repetitions)


def write_runs(root: Path, num_runs: int) -> Path:
    """`num_runs` finished runs: ERM and LRW on a hard split at as many learning rates as it takes."""
    if num_runs % (2 * SEEDS):
        raise SystemExit(f"--runs {num_runs}: give multiples of {2 * SEEDS}")
    harness.progress(f"writing {num_runs} runs")
    for number in range(num_runs // 2):
        experiment, seed = divmod(number, SEEDS)
        config = {"seed": seed, "lr": 0.001 * (experiment + 1)}
        noise = 0.01 * ((7 * number) % 10)
        fake_runs.erm_run(root / f"erm-{number}", 0.7 + noise, config=config)
        fake_runs.lrw_run(root / f"lrw-{number}", 0.72 + noise, config=config)
    return root


def _compare(root: Path) -> None:
    text = render(compare_runs(find_runs(root), gain="points", test_set="test"), "markdown", width=None)
    assert "LRW-Hard" in text


if __name__ == "__main__":
    main()
