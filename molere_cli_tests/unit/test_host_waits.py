"""No step asks a device for a number, which would make the host wait until the device gets there.

Read off the calls themselves, so that a CPU can show it; `test_gpu.py` asks CUDA.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from torch.overrides import TorchFunctionMode

from molere_cli.config.plan import make_plan
from molere_cli.data.source import load_dataset
from molere_cli.foundation.progress import NoProgress
from molere_cli.hardness.make_split import split_for
from molere_cli.training.build_engine import engine_on_split
from molere_cli_tests.training import tiny_config
from molere_cli_tests.unit.test_training import METHODS

ROOT = Path(__file__).parents[2]
READS = {"item", "tolist", "__bool__", "__float__", "__int__", "__index__", "cpu", "numpy"}
SIZED_BY_VALUES = {"nonzero", "masked_select", "unique", "bincount", "argwhere"}
# Draws and counts that are the host's own on every device.
OF_THE_HOST = {("augmentation.py", "nonzero")}


class HostReads(TorchFunctionMode):
    """Notes every call that needs a tensor's values on the host, and whose line of ours it came from."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.noting = False

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if self.noting and self._reads(func, args):
            frame, in_optimizer = sys._getframe(1), False
            while frame is not None and not self._is_ours(frame.f_code.co_filename):
                # Its counts of steps are on the CPU.
                in_optimizer |= "torch/optim" in frame.f_code.co_filename
                frame = frame.f_back
            name = func.__name__
            file = Path(frame.f_code.co_filename).name if frame else "?"
            if not in_optimizer and (file, name) not in OF_THE_HOST:
                self.found.append(f"{file}:{frame.f_lineno if frame else 0} {name}")
        return func(*args, **(kwargs or {}))

    @staticmethod
    def _is_ours(file: str) -> bool:
        path = Path(file)
        return path.is_relative_to(ROOT / "molere_cli") or path.is_relative_to(ROOT / "plugins")

    @staticmethod
    def _reads(func, args) -> bool:
        name = getattr(func, "__name__", "")
        if name in READS | SIZED_BY_VALUES:
            return True
        if name not in {"__getitem__", "__setitem__", "index_put_", "index_put"}:
            return False
        indices = args[1] if isinstance(args[1], tuple | list) else (args[1],)
        # A mask's size, and an index of no dimensions, are read by the host.
        return any(
            isinstance(index, torch.Tensor) and (index.dtype == torch.bool or not index.dim())
            for index in indices
        )


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"optimizer": "sgd", "clip_grad": 0.1},
        {"optimizer": "adamw", "clip_grad": 0.1},
        {"accumulate": 3},
    ],
    ids=["momentum", "clipped-nesterov", "clipped-adamw", "chunks"],
)
@pytest.mark.parametrize("settings", METHODS.values(), ids=METHODS)
def test_no_step_reads_a_number_of_the_device(settings, change, registry, tmp_path):
    start = {} if settings["method"] == "erm" else {"warmup_epochs": 0}
    config = tiny_config(**{"epochs": 2, **start, **settings, **change})
    plan, data = make_plan(config, registry), load_dataset(config.data, registry)
    split = split_for(plan, data, runs=tmp_path, progress=NoProgress()) if plan.needs_split else None
    engine = engine_on_split(plan, data, split)
    engine.loop.finite.steps_between_looks = 50
    reads, num_steps = HostReads(), 0

    def on_step(step: int, num_in_epoch: int, loss: float) -> None:
        nonlocal num_steps
        reads.noting = step < num_in_epoch
        num_steps += 1

    with reads:
        list(engine.loop.epochs(on_step))
    assert num_steps >= 6
    assert reads.found == []


@pytest.mark.parametrize(
    "read",
    [
        lambda x: x.sum().item(),
        lambda x: float(x.sum()),
        lambda x: bool(x.sum() > 0),
        lambda x: x[x > 0],
        lambda x: x[x.argmax()],
        lambda x: x.nonzero(),
    ],
)
def test_the_watch_sees_what_reads(read):
    reads = HostReads()
    reads.noting = True
    with reads:
        read(torch.ones(3))
    assert len(reads.found) == 1
