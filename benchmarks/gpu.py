"""Training and hypergradients on a GPU: images a second, ratios and memory, ours and the peers'.

Under autocast to bf16 throughout, the peers too. Needs a CUDA device.
"""

from __future__ import annotations

import argparse
import gc
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import harness
import one_step
import peers
import torch
from one_step import NETWORKS, Problem
from training import DELTA, synthetic_data

from molere_cli.config.device import set_arithmetic
from molere_cli.config.plan import make_plan
from molere_cli.config.run_config import RunConfig
from molere_cli.data.source import LoadedDataset
from molere_cli.registry.registry import load_plugins
from molere_cli.splits.quota import random_split
from molere_cli.training.build_engine import build_engine
from molere_cli.training.run_environment import describe_gpu

CUDA = torch.device("cuda")
NUM_STEPS = 20
INTERVALS = (1, 5, 20)
TABLES = ("epochs", "hypergradient")


@dataclass(frozen=True)
class Network:
    backbone: str
    size: int
    batch_size: int


ALL = {
    "wrn28_10": Network("wrn28_10", 32, 128),
    "resnet50": Network("timm:resnet50", 224, 64),
    "vit_base": Network("timm:vit_base_patch16_224", 224, 64),
}
PEERS = {
    "second order by hand": peers.second_order,
    "higher": peers.higher,
    "torchopt": peers.torchopt,
}


def main() -> None:
    parser = harness.option_parser(__doc__, repetitions=5)
    parser.add_argument("--networks", nargs="+", choices=list(ALL), default=list(ALL))
    parser.add_argument("--tables", nargs="+", choices=TABLES, default=TABLES, help="which (default: both)")
    parser.add_argument("--compile", action="store_true", help="compile the plain step's network, too")
    options = harness.parse(parser, quick={"repetitions": 2, "networks": ["wrn28_10"]})
    if not torch.cuda.is_available():
        raise SystemExit("there is no CUDA device")
    set_arithmetic(CUDA, "bf16", deterministic=False)
    harness.print_header(
        "On a GPU",
        f"GPU: {describe_gpu(CUDA)}",
        f"Autocast to bf16, channels last; medians of {options.repetitions} interleaved rounds after an "
        "untimed one; memory: the most that torch had allocated at once, all that a row needs included; "
        "busy: the share of a round in which a kernel ran, from torch's profiler over one more round",
        f"Epochs: the real engine, {NUM_STEPS} steps on images in memory, crop and flip, momentum 0.9, "
        "reweighter `instance`, splitter `features` once an epoch",
        packages=("higher", "torchopt"),
    )
    for name in options.networks:
        network = ALL[name]
        NETWORKS[name] = (network.backbone, network.size)
        size = f"{network.size} px, batch {network.batch_size}"
        if "epochs" in options.tables:
            print(f"### {name}, {size}: epochs\n")
            _table(_epochs(network), options, per_round=NUM_STEPS * network.batch_size)
        if "hypergradient" in options.tables:
            print(f"### {name}, {size}: one hypergradient\n")
            _table(_hypergradients(name, network), options, per_round=network.batch_size)
        if options.compile:
            print(f"### {name}, {size}: torch.compile\n")
            _table(_compiled(name, network), options, per_round=network.batch_size)


Row = Callable[[harness.Clock], object]


def _table(rows: dict[str, Callable[[], Row]], options: argparse.Namespace, *, per_round: int) -> None:
    """One row after another in memory of its own, then all by turns."""
    actions, peaks = {}, {}
    for name, make in rows.items():
        harness.progress(name)
        gc.collect()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        try:
            action = make()
            for _ in range(2):
                action(harness.Clock())
        except (ImportError, RuntimeError) as error:  # a table with a gap is still a table
            harness.progress(f"{name} failed: {str(error).splitlines()[0]}")
            continue
        actions[name], peaks[name] = action, torch.cuda.max_memory_allocated() - before
    found = harness.interleave(actions, repetitions=options.repetitions)
    busy = {name: _busy(action) for name, action in actions.items()}
    base = next(iter(found))
    table = [
        [
            name,
            *timing.cells(".1f", per_second=1e3),
            f"{per_round / timing.median:,.0f}",
            timing.over(found[base]),
            harness.mebibytes(peaks[name]),
            harness.times(peaks[name] / peaks[base]),
            f"{busy[name]:.0%}",
        ]
        for name, timing in found.items()
    ]
    harness.print_table(["row", "ms", "+-", "images/s", f"/ {base}", "memory", f"/ {base}", "busy"], table)


def _busy(action: Row) -> float:
    """The share of a whole round, what its row does not time included, in which the GPU works."""
    whole = harness.Clock()
    with whole:
        action(harness.Clock())
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        action(harness.Clock())
        torch.cuda.synchronize()
    return sum(event.self_device_time_total for event in profile.key_averages()) / 1e6 / whole.seconds


def _epochs(network: Network) -> dict[str, Callable[[], Row]]:
    data = synthetic_data(NUM_STEPS * network.batch_size, network.size)
    rows: dict[str, Callable[[], Row]] = {"ERM": partial(_epoch, network, data, method="erm")}
    for method in ("lrw", "molere"):
        for interval in INTERVALS:
            settings = {"reweighter": "instance", "reweighter_interval": interval, "warmup_epochs": 0}
            if method == "molere":
                settings["split"] = "none"
            rows[f"{method.upper()}, Q={interval}"] = partial(
                _epoch, network, data, method=method, **settings
            )
    return rows


def _epoch(network: Network, data: LoadedDataset, *, method: str, **settings: Any) -> Row:
    config = RunConfig.of(
        dataset="digits",  # a name that is there; the images are the synthetic ones
        backbone=network.backbone,
        image_size=network.size,
        batch_size=network.batch_size,
        epochs=1_000_000,
        schedule="constant",
        lr=0.01,
        method=method,
        device="cuda",
        **settings,
    )
    split = random_split(data.dataset.pool.labels, delta=DELTA, seed=0) if method == "lrw" else None
    epochs = build_engine(make_plan(config, load_plugins(), precision="bf16"), data, split).loop.epochs()
    return partial(_next, epochs)


def _next(epochs: Iterator[dict[str, float]], clock: harness.Clock) -> None:
    with clock:
        next(epochs)


def _hypergradients(name: str, network: Network) -> dict[str, Callable[[], Row]]:
    def own(run: Callable[[Problem, harness.Clock], object]) -> Row:
        return partial(run, _problem(name, network))

    followed = _problem(name, network).classifier.has_no_cross_example_ops

    def peer(make: Callable[[Problem], Row]) -> Row:
        # It gives the network to a library, which may leave it as that likes it.
        run = make(_problem(name, network))

        def under_autocast(clock: harness.Clock) -> object:
            with torch.autocast("cuda", dtype=torch.bfloat16):
                return run(clock)

        return under_autocast

    return {
        "plain step": partial(own, one_step.plain_step),
        "MOLERE, alone": partial(own, one_step.molere_alone),
        "MOLERE, on top of a step": partial(own, one_step.molere_on_top),
        **({"by the dual pass, alone": partial(own, one_step.forward_mode_alone)} if followed else {}),
        **{label: partial(peer, make) for label, make in PEERS.items()},
    }


def _problem(name: str, network: Network) -> Problem:
    return Problem(name, batch_size=network.batch_size, precision=torch.bfloat16, device=CUDA)


def _compiled(name: str, network: Network) -> dict[str, Callable[[], Row]]:
    def compiled() -> Row:
        problem = _problem(name, network)
        problem.module.compile()
        return partial(one_step.plain_step, problem)

    return {
        "plain step": lambda: partial(one_step.plain_step, _problem(name, network)),
        "plain step, compiled": compiled,
    }


if __name__ == "__main__":
    main()
