"""Several processes under torchrun: the first leads, the others follow it through every run that it trains.

Only the leader chooses paths, writes, prints and evaluates, so that there is one of everything. For each run
that it begins or goes on with it says which (its settings, its split, the state that it starts from), and for
each epoch that there is one; between runs, and while the leader evaluates, the others wait to be told.
"""

from __future__ import annotations

import functools
import os
import signal
import tempfile
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load, save
from torch import Tensor
from torch import distributed as dist
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

from molere_cli.config.files import saved_config
from molere_cli.config.plan import make_plan
from molere_cli.data.source import load_dataset
from molere_cli.engine.checkpoint import classifier_tensors, pack, unpack
from molere_cli.engine.loop import OnStep
from molere_cli.errors import ConfigError, DataError, PluginError, TrainingError
from molere_cli.files import json_text, parse_json
from molere_cli.fingerprints import same_fingerprint
from molere_cli.ranks import ALONE, Ranks, in_touch
from molere_cli.registry.registry import Registry, load_plugins
from molere_cli.splits.artefact import Split, write_split
from molere_cli.tasks.build import Engine
from molere_cli.tasks.provenance import checked_split

MEETING = timedelta(minutes=10)
WAIT = timedelta(days=7)
"""For others, which evaluate or have died: of those torchrun lets all know."""
EPOCH, END = "epoch", "end"


@functools.cache
def joined_ranks() -> Ranks:
    """Those that torchrun has started, joined at the first call; `ALONE` without it."""
    if not under_torchrun():
        return ALONE
    if torch.cuda.is_available():
        local = int(os.environ["LOCAL_RANK"])
        # Where there are fewer GPUs it must be --device cpu; of another, `resolve_device` says what is wrong.
        if local < torch.cuda.device_count():
            torch.cuda.set_device(local)
    # What is said goes over the CPU; NCCL takes what lies on GPUs.
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() and dist.is_nccl_available() else "gloo"
    store, rank, size = next(rendezvous("env://", timeout=MEETING))
    # Processes that are started again must not call on those before them, whose addresses the store keeps.
    store = PrefixStore(f"start {os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)
    dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=WAIT)
    return Ranks(rank, size)


def under_torchrun() -> bool:
    """Whether this is one of several processes that torchrun has started."""
    return "TORCHELASTIC_RUN_ID" in os.environ and int(os.environ.get("WORLD_SIZE", "1")) > 1


def is_started_again() -> bool:
    """Whether torchrun has started the processes anew, since one had died."""
    return under_torchrun() and os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") != "0"


class _Lead:
    """Whether the others can still hear the leader: not in the middle of an epoch that it has left alone."""

    is_lost = False


@contextmanager
def leading() -> Iterator[None]:
    """While the first process works: at the end the others are told that there is no more."""
    joined_ranks()
    try:
        yield
    finally:
        # Out of step they wait in the middle of a batch; torchrun ends them once this process is gone.
        if not _Lead.is_lost:
            _say({"run": None}, {})
            _leave()


def led_epochs(engine: Engine, split: Split | None, on_step: OnStep) -> Generator[dict[str, float]]:
    """The epochs of a loop (`TrainingLoop.epochs`), all ranks together."""
    loop = engine.loop
    if not loop.ranks.are_several:
        yield from loop.epochs(on_step)
        return
    tensors: dict[str, Tensor] = {}
    run = {
        "settings": engine.plan.settings,
        "precision": engine.plan.precision,
        "fingerprint": engine.data.fingerprint,
        "has_split": split is not None,
        "state": pack(loop.state_dict(), tensors),
    }
    if split is not None:
        tensors["split"] = _file_of(split)
    # Apart from a state's own, whose names begin with a number.
    tensors |= {f"of {name}": value for name, value in classifier_tensors(engine.classifier.module).items()}
    _say({"run": run}, tensors)
    epochs = loop.epochs(functools.partial(_alone, on_step))
    try:
        while loop.next_epoch < loop.settings.epochs:
            _say(EPOCH, {})
            try:
                record = next(epochs)
            except (TrainingError, PluginError):
                raise  # the others have come upon it too
            except BaseException:
                _Lead.is_lost = True
                raise
            yield record
    finally:
        if not _Lead.is_lost:
            _say(END, {})


def _alone(on_step: OnStep, step: int, num_steps: int, loss: float) -> None:
    # What goes wrong here, goes wrong in the first process only, while the others are at the next batch.
    try:
        on_step(step, num_steps, loss)
    except BaseException:
        _Lead.is_lost = True
        raise


def check_shares(engine: Engine) -> None:
    """Raise ConfigError if several ranks cannot train by the engine's method."""
    if engine.loop.ranks.are_several and not engine.loop.method.shares_batches:
        method = engine.plan.config.method.method
        raise ConfigError(f"--method {method} trains in one process; start it without torchrun")


def follow() -> None:
    """What all processes but the first do, until that one has no more to train."""
    joined_ranks()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of a terminal, which the leader heeds
    registry = load_plugins()
    while True:
        said, tensors = _hear()
        if said["run"] is None:
            _leave()
            return
        engine = _engine_of(said["run"], tensors, registry)
        epochs = engine.loop.epochs()
        try:
            while _hear()[0] == EPOCH:
                next(epochs)
        except (TrainingError, PluginError):
            # The leader has come upon it too, tells its user, and may go on with another run.
            while _hear()[0] != END:
                pass


def _engine_of(run: Mapping[str, Any], tensors: dict[str, Tensor], registry: Registry) -> Engine:
    from molere_cli.tasks.train import engine_on_split

    config = saved_config(run["settings"], source="what the first process says")
    plan = make_plan(config, registry, precision=run["precision"])
    data = load_dataset(config.data, registry)
    if not same_fingerprint(data.fingerprint, run["fingerprint"]):
        raise DataError(
            f"dataset {data.name!r} is not the one that the first process has: its fingerprint is "
            f"{data.fingerprint}, {run['fingerprint']} there"
        )
    split = None
    if run["has_split"]:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "split.parquet"
            path.write_bytes(tensors.pop("split").numpy().tobytes())
            split = checked_split(path, data, note=lambda _message: None)
    engine = engine_on_split(plan, data, split, ranks=joined_ranks())
    engine.classifier.module.load_state_dict(
        {name.removeprefix("of "): value for name, value in tensors.items() if name.startswith("of ")}
    )
    engine.loop.load_state_dict(unpack(run["state"], tensors))
    return engine


def _leave() -> None:
    # One that ends while another still listens would end it with an abort.
    dist.barrier()
    dist.destroy_process_group()


def _file_of(split: Split) -> Tensor:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "split.parquet"
        write_split(split, path)
        return torch.frombuffer(bytearray(path.read_bytes()), dtype=torch.uint8)


def _say(what: Any, tensors: Mapping[str, Tensor]) -> None:
    """To all other processes: JSON, and tensors as safetensors."""
    text = json_text(what).encode()
    content = save(dict(tensors)) if tensors else b""
    sizes = torch.tensor([len(text), len(content)])
    with in_touch():
        dist.broadcast(sizes, src=0)
        dist.broadcast(torch.frombuffer(bytearray(text + content), dtype=torch.uint8), src=0)


def _hear() -> tuple[Any, dict[str, Tensor]]:
    sizes = torch.zeros(2, dtype=torch.int64)
    with in_touch():
        dist.broadcast(sizes, src=0)
        message = torch.empty(int(sizes.sum()), dtype=torch.uint8)
        dist.broadcast(message, src=0)
    content = message.numpy().tobytes()
    end = int(sizes[0])
    return parse_json(content[:end].decode()), load(content[end:]) if len(content) > end else {}
