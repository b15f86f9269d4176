"""Ranks that train the same runs in step, for test_ranks.py: FOLDER SIZE...

FOLDER/cases.json has them by name: settings, and `float64`. For each SIZE so many processes train them all,
and rank 0 writes what each gives into FOLDER/SIZE.safetensors. They are forks of this process, since imports
take longer than training.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import distributed as dist

from molere_cli.config.plan import make_plan
from molere_cli.config.run_config import RunConfig
from molere_cli.data.feed import make_feed
from molere_cli.data.source import load_dataset
from molere_cli.engine.method import AuxiliaryFit
from molere_cli.engine.prediction import predict_feed
from molere_cli.foundation.ranks import ALONE, Ranks
from molere_cli.methods.auxiliary import fit_loop
from molere_cli.registry.registry import load_plugins
from molere_cli.registry.specs import Examples
from molere_cli.splits.split_file import read_split
from molere_cli.training.build_engine import Engine, engine_on_split

FLOAT = torch.Tensor.float


def engine_of(ranks: Ranks, settings: dict) -> Engine:
    registry = load_plugins()
    plan = make_plan(RunConfig.of(device="cpu", precision="fp32", **settings), registry)
    data = load_dataset(plan.config.data, registry)
    split = read_split(Path(settings["split"])) if "split" in settings else None
    return engine_on_split(plan, data, split, ranks=ranks)


def train(ranks: Ranks, settings: dict, *, float64: bool) -> dict[str, torch.Tensor]:
    """Everything that a run knows at its end, by name."""
    torch.set_default_dtype(torch.float64 if float64 else torch.float32)
    # What is widened to float32 elsewhere stays as wide as it is.
    torch.Tensor.float = torch.Tensor.double if float64 else FLOAT
    engine = engine_of(ranks, settings)
    for _ in engine.loop.epochs():
        pass
    found = {f"parameter {name}": value for name, value in engine.classifier.module.state_dict().items()}
    record = engine.loop.pool_record.state_dict()
    found |= {f"pool {name}": value for name, value in record.items()}
    in_validation = engine.loop.method.in_validation()
    if in_validation is not None:
        found["split"] = in_validation
    found["traffic"] = torch.tensor([ranks.traffic.num_calls, ranks.traffic.num_bytes])
    # An odd number of examples, shared or one too few.
    for number in (131, 1):
        pool = engine.data.dataset.pool
        feed = make_feed(
            Examples(images=pool.images[:number], labels=pool.labels[:number]), engine.feed_settings
        )
        predictions = predict_feed(engine.classifier, feed, ranks=ranks)
        for name, value in vars(predictions).items():
            if isinstance(value, torch.Tensor):
                found[f"prediction {number} {name}"] = value
    if settings["method"] == "erm":
        positions = torch.arange(100) % 90
        for name, weights in (("whole", None), ("drawn", torch.arange(1, 141))):
            context = replace(engine.loop.method.context, fit_ranks=ranks)
            loop = fit_loop(context, AuxiliaryFit(positions, weights, num_epochs=3))
            for _ in loop.epochs():
                pass
            state = loop.classifier.module.state_dict()
            found |= {f"fit {name} {key}": value for key, value in state.items()}
    return {name: value.detach().clone().contiguous() for name, value in found.items()}


def train_all(rank: int, *, size: int, folder: Path) -> None:
    """What one rank does."""
    if size > 1:
        dist.init_process_group(
            "gloo", init_method=f"file://{folder}/meeting-{size}", rank=rank, world_size=size
        )
    found = {}
    for name, case in json.loads((folder / "cases.json").read_text()).items():
        ranks = Ranks(rank, size)
        for key, value in train(ranks, case["settings"], float64=case["float64"]).items():
            found[f"{name}/{key}"] = value
    if rank == 0:
        save_file(found, folder / f"{size}.safetensors")
    if size > 1:
        dist.destroy_process_group()


def main() -> None:
    folder, sizes = Path(sys.argv[1]), [int(size) for size in sys.argv[2:]]
    torch.set_num_threads(1)
    for case in json.loads((folder / "cases.json").read_text()).values():
        engine_of(ALONE, case["settings"])
    for size in sizes:
        torch.multiprocessing.start_processes(
            partial(train_all, size=size, folder=folder), nprocs=size, start_method="fork"
        )


if __name__ == "__main__":
    main()
