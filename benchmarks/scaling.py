"""How training grows with processes: N of them with a thread each, on N times the batch.

    python benchmarks/scaling.py --processes 2

Weak scaling: the images a second of N ranks (as under torchrun, each pinned to a core), over N times those of
one process, and over those of N processes side by side that know nothing of one another: what the first is
short of 1 and the second is not, the cores take from each other. What passes between ranks is counted, and
set beside what docs/guide/several-devices.md foretells.
"""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import harness
import torch
from torch import distributed as dist

import molere_cli as molere
from molere_cli.config.plan import make_plan
from molere_cli.config.run_config import RunConfig
from molere_cli.engine.loop import TrainingLoop
from molere_cli.foundation.allocator import keep_freed_memory
from molere_cli.foundation.progress import NoProgress
from molere_cli.foundation.ranks import Ranks
from molere_cli.hardness.make_split import make_split
from molere_cli.registry.registry import load_plugins
from molere_cli.splits.split_file import Split
from molere_cli.training.build_engine import engine_on_split

BACKBONES = {
    "resnet20": {"backbone": "resnet20"},
    "wrn16_2": {"backbone": "wrn16_2"},
    "vit_tiny": {"backbone": "timm:vit_tiny_patch16_224"},
}
METHODS = {
    "ERM": {"method": "erm"},
    "LRW, Q = 5": {"method": "lrw", "split": "random", "reweighter": "instance"},
    "LRW, Q = 1": {"method": "lrw", "split": "random", "reweighter": "instance", "reweighter_interval": 1},
}


def main() -> None:
    parser = harness.option_parser(__doc__, repetitions=3)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--batch", type=int, default=128, help="examples a step on each process")
    parser.add_argument("--steps", type=int, default=5, help="timed, a multiple of five")
    parser.add_argument("--backbones", default=",".join(BACKBONES), help="some, with commas between")
    parser.add_argument("--methods", default=";".join(METHODS), help="some, with semicolons between")
    parser.add_argument("--rank", help="internal: RANK,SIZE,FOLDER")
    options = harness.parse(parser, quick={"repetitions": 1})
    if options.rank is not None:
        work(options)
        return
    harness.print_header(
        "Scaling",
        f"{options.batch} images of 32 x 32 a step on each process, fp32, a thread each; medians of "
        f"{options.repetitions} rounds of {options.steps} steps after warm-up, by turns",
    )
    seconds: dict[tuple[str, str, str], list[float]] = {}
    traffic: dict[tuple[str, str], list[float]] = {}
    several = options.processes
    for number in range(options.repetitions):
        for kind, processes, size in (("one", 1, 1), ("apart", several, 1), ("ranks", several, several)):
            for (backbone, method), (taken, calls, sent, foretold) in measured(
                options, processes, size
            ).items():
                seconds.setdefault((backbone, method, kind), []).append(taken)
                if kind == "ranks":
                    traffic[backbone, method] = [calls, sent, foretold]
            harness.progress(f"round {number + 1}: {kind}")
    rows = []
    for backbone, method in rows_of(options):
        one, apart, ranks = (
            harness.Timing(seconds[backbone, method, kind]).median for kind in ("one", "apart", "ranks")
        )
        calls, sent, foretold = traffic[backbone, method]
        images = (options.batch / one, several * options.batch / apart, several * options.batch / ranks)
        rows.append(
            [
                backbone,
                method,
                *(f"{value:.0f}" for value in images),
                f"{one / ranks:.2f}",
                f"{apart / ranks:.2f}",
                f"{calls:.1f}",
                f"{sent / 1e6:.2f}",
                f"{foretold / 1e6:.2f}",
            ]
        )
    columns = ["backbone", "method", "images/s, one", f"{several} apart", f"{several} ranks", "ranks / one"]
    harness.print_table([*columns, "ranks / apart", "messages a step", "MB a step", "foretold"], rows)


def rows_of(options) -> list[tuple[str, str]]:
    return list(itertools.product(options.backbones.split(","), options.methods.split(";")))


def measured(options, processes: int, size: int) -> dict[tuple[str, str], list[float]]:
    """Seconds, messages and bytes a step, counted and foretold, of each row; by processes of which `size` are
    together."""
    with tempfile.TemporaryDirectory() as folder:
        flags = [f"--batch={options.batch}", f"--steps={options.steps}"]
        flags += [f"--backbones={options.backbones}", f"--methods={options.methods}"]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        workers = [
            subprocess.Popen(
                [sys.executable, __file__, *flags, "--rank", f"{rank},{size},{folder}"], env=environment
            )
            for rank in range(processes)
        ]
        codes = [worker.wait() for worker in workers]
        if any(codes):
            raise SystemExit("a process failed")
        rows = json.loads((Path(folder) / "found.json").read_text())
    return {(backbone, method): numbers for backbone, method, *numbers in rows}


def work(options) -> None:
    """What one rank does."""
    rank, size, folder = options.rank.split(",")
    rank, size = int(rank), int(size)
    torch.set_num_threads(1)
    keep_freed_memory()  # as the command line does
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[rank % len(cores)]})
    if size > 1:
        dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=size)
    rows = []
    for backbone, method in rows_of(options):
        settings = {**BACKBONES[backbone], **METHODS[method]}
        rows.append([backbone, method, *of_row(settings, Ranks(rank % size, size), options)])
    if rank == 0:
        (Path(folder) / "found.json").write_text(json.dumps(rows))
    if size > 1:
        dist.barrier()
        dist.destroy_process_group()


class Enough(Exception):
    """Enough steps have been taken."""


def of_row(settings: dict, ranks: Ranks, options) -> list[float]:
    # From one meta-update of every fifth step to the next, within an epoch, whatever the number of ranks.
    batch, first, last = options.batch * ranks.size, 5, 5 + options.steps
    data = pool(batch * (last + 1)).loaded
    config = RunConfig.of(
        dataset=data.name,
        batch_size=batch,
        epochs=1,
        device="cpu",
        precision="fp32",
        **({} if settings["method"] == "erm" else {"warmup_epochs": 0}),
        **settings,
    )
    registry = load_plugins()
    plan = make_plan(config, registry)
    split: Split | None = None
    if plan.needs_split:
        split = make_split(config, registry, data, erm=None, runs=Path(), progress=NoProgress())
    loop = engine_on_split(plan, data, split, ranks=ranks).loop
    taken, started, before = 0, 0.0, (0, 0)

    def on_step(_step: int, _num_steps: int, _loss: float) -> None:
        nonlocal taken, started, before
        taken += 1
        if taken == first:
            started, before = time.perf_counter(), (ranks.traffic.num_calls, ranks.traffic.num_bytes)
        if taken == last:
            raise Enough

    try:
        for _ in loop.epochs(on_step):
            pass
    except Enough:
        pass
    seconds = (time.perf_counter() - started) / options.steps
    calls, sent = (
        (now - then) / options.steps
        for now, then in zip((ranks.traffic.num_calls, ranks.traffic.num_bytes), before, strict=True)
    )
    return [seconds, calls, sent, foretold(loop, settings, ranks, options.batch)]


def pool(number: int) -> molere.Data:
    """As many images of noise, 32 x 32, in ten classes."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (number, 3, 32, 32), generator=generator, dtype=torch.uint8)
    labels = torch.arange(number) % 10
    return molere.dataset(images, labels, test=(images[:100], labels[:100]), name="noise")


def foretold(loop: TrainingLoop, settings: dict, ranks: Ranks, batch: int) -> float:
    """Bytes a step that each rank puts in, by docs/guide/several-devices.md."""
    if ranks.size == 1:
        return 0.0
    parameters = sum(value.numel() for value in loop.classifier.parameters.values())
    channels = sum(
        module.num_features for module in loop.classifier.module.modules() if hasattr(module, "running_mean")
    )
    # Gradients and loss, logits; of each batch norm three numbers a channel forth and two back.
    numbers = parameters + 1 + 10 * batch + 5 * channels
    if settings["method"] == "lrw":
        reweighter = sum(value.numel() for value in loop.method._reweighting.reweighter.parameters())
        # Weights twice (to be normalised, to be recorded); and every Q steps the validation gradient with its
        # loss, hypergradients, the reweighter's gradient, and batch norm three more ways.
        due = parameters + 1 + batch + reweighter + (3 + 2) * channels + (3 + 2) * channels
        numbers += 2 * batch + due / settings.get("reweighter_interval", 5)
    return 4.0 * numbers


if __name__ == "__main__":
    main()
