"""Several processes under torchrun: the first leads, the others follow it through every run that it trains.

Only the leader chooses paths, writes and prints, so that there is one of everything. For each run that it
begins or goes on with, and each classifier beside one, it says which (settings, split, the state to start
from); for each epoch that there is one; and for a look at test sets or the pool, by which parameters. Between
these the others wait to be told.
"""

from __future__ import annotations

import functools
import os
import signal
import tempfile
from collections.abc import Collection, Generator, Iterator, Mapping
from contextlib import closing, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load, save
from torch import Tensor
from torch import distributed as dist
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

from molere_cli.config.config_file import saved_config
from molere_cli.config.plan import Plan, make_plan
from molere_cli.config.run_config import RunConfig
from molere_cli.data.source import LoadedDataset, load_dataset
from molere_cli.engine.checkpoint import classifier_tensors, pack, unpack
from molere_cli.engine.classifier import Classifier
from molere_cli.engine.loop import OnStep, TrainingLoop
from molere_cli.engine.method import Fit, TrainingContext
from molere_cli.engine.prediction import predict_feed, predict_sets
from molere_cli.engine.prediction_metrics import Predictions
from molere_cli.foundation.errors import ConfigError, DataError, PluginError, TrainingError
from molere_cli.foundation.files import json_text, parse_json, same_fingerprint
from molere_cli.foundation.ranks import ALONE, Ranks, in_touch
from molere_cli.foundation.stopping import stop_if_asked
from molere_cli.methods.auxiliary import fit_loop
from molere_cli.registry.registry import load_plugins
from molere_cli.splits.split_file import Split, write_split
from molere_cli.training.build_engine import Engine, training_context
from molere_cli.training.run_identity import checked_split

MEETING = timedelta(minutes=10)
WAIT = timedelta(days=7)
"""For others, which evaluate or have died: of those torchrun lets all know."""
EPOCH, END = "epoch", "end"
POOL = "pool"


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
    """Where the others are, as the leader knows."""

    is_lost = False
    """Whether they are in the middle of something that it has left alone, and hear it no more."""
    engine: Engine | None = None
    """At the epochs of which run, between two."""


def is_out_of_step() -> bool:
    """Whether other ranks wait in the middle of something, so that they can begin nothing else."""
    return _Lead.is_lost


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
    if not engine.loop.ranks.are_several:
        yield from engine.loop.epochs(on_step)
        return
    run = {**_settings_of(engine.plan, engine.data), "has_split": split is not None}
    tensors = {} if split is None else {"split": _file_of(split)}
    with closing(_led(engine.loop, run, tensors, on_step)) as epochs:
        try:
            for metrics in epochs:
                _Lead.engine = engine
                yield metrics
                _Lead.engine = None
        finally:
            _Lead.engine = None


def led_fit(
    plan: Plan, data: LoadedDataset, context: TrainingContext, fit: Fit
) -> Generator[tuple[Classifier, dict[str, float]]]:
    """A classifier beside a run's own (`fit_epochs`), all ranks together.

    Args:
        context: of the plan.
    """
    loop = fit_loop(context, fit, ranks=joined_ranks())
    tensors = {"positions": fit.positions}
    if fit.weights is not None:
        tensors["weights"] = fit.weights
    run = {**_settings_of(plan, data), "fit": {"num_epochs": fit.num_epochs}}
    with closing(_led(loop, run, tensors, lambda *_step: stop_if_asked())) as epochs:
        for metrics in epochs:
            yield loop.classifier, metrics


def _settings_of(plan: Plan, data: LoadedDataset) -> dict[str, Any]:
    return {"settings": plan.settings, "precision": plan.precision, "fingerprint": data.fingerprint}


def _led(
    loop: TrainingLoop, run: Mapping[str, Any], tensors: Mapping[str, Tensor], on_step: OnStep
) -> Generator[dict[str, float]]:
    told = dict(tensors)
    state = pack(loop.state_dict(), told)
    # Apart from a state's own, whose names begin with a number.
    told |= {f"of {name}": value for name, value in classifier_tensors(loop.classifier.module).items()}
    _say({"run": {**run, "state": state}}, told)
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


def predict_tests(engine: Engine, names: Collection[str]) -> dict[str, Predictions]:
    """On these of its test sets, the tuning set among them, by the engine's classifier as it is now.

    The other ranks take their parts if they are at this run.
    """
    return _predicted_together(engine, list(names))


def predict_pool(engine: Engine) -> Predictions:
    """As `predict_tests`, on the pool."""
    return _predicted_together(engine, None)[POOL]


def _predicted_together(engine: Engine, tests: list[str] | None) -> dict[str, Predictions]:
    if _Lead.engine is not engine:
        return _predicted(engine, tests, ranks=ALONE)
    with _asking(engine, {"tests": tests}):
        return _predicted(engine, tests, ranks=engine.loop.ranks)


def _predicted(engine: Engine, tests: list[str] | None, *, ranks: Ranks) -> dict[str, Predictions]:
    """On test sets, or on the pool alone where none are named."""
    if tests is None:
        return {POOL: predict_feed(engine.classifier, engine.feed, ranks=ranks)}
    sets = engine.data.test_sets()
    chosen = {name: sets[name] for name in tests}
    return predict_sets(engine.classifier, chosen, engine.feed_settings, ranks=ranks)


@contextmanager
def _asking(engine: Engine, what: Mapping[str, Any]) -> Iterator[None]:
    # Not what they have, which may not be the classifier that counts, or its average.
    _say(what, classifier_tensors(engine.classifier.module))
    try:
        yield
    except TrainingError:
        raise  # the others have come upon it too
    except BaseException:
        _Lead.is_lost = True
        raise


def _alone(on_step: OnStep, step: int, num_steps: int, loss: float) -> None:
    # What goes wrong here, goes wrong in the first process only, while the others are at the next batch.
    try:
        on_step(step, num_steps, loss)
    except BaseException:
        _Lead.is_lost = True
        raise


def check_shares(engine: Engine) -> None:
    """Raise ConfigError if several ranks cannot train by the engine's method."""
    if engine.loop.ranks.are_several and engine.loop.method.batch_parts != "ranks":
        method = engine.plan.config.method.method
        raise ConfigError(f"--method {method} trains in one process; start it without torchrun")


def follow() -> None:
    """What all processes but the first do, until that one has no more to train."""
    joined_ranks()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of a terminal, which the leader heeds
    follower = _Follower()
    while True:
        said, tensors = _hear()
        if said["run"] is None:
            _leave()
            return
        follower.begin(said["run"], tensors)
        try:
            while (said_next := _hear())[0] != END:
                follower.go_on(*said_next)
        except (TrainingError, PluginError):
            # The leader has come upon it too, tells its user, and may go on with another run.
            while _hear()[0] != END:
                pass


class _Follower:
    """A process that does as the leader says."""

    def __init__(self) -> None:
        self._registry = load_plugins()
        self._data: tuple[str, LoadedDataset] | None = None
        self._engine: Engine | None = None
        self._epochs: Iterator[dict[str, float]] = iter(())

    def begin(self, run: Mapping[str, Any], tensors: dict[str, Tensor]) -> None:
        """Build what is to be trained, as far as it is."""
        config = saved_config(run["settings"], source="what the first process says")
        plan = make_plan(config, self._registry, precision=run["precision"])
        data = self._dataset(config, run["fingerprint"])
        if "fit" in run:
            self._engine = None
            fit = Fit(tensors.pop("positions"), tensors.pop("weights", None), **run["fit"])
            loop = fit_loop(training_context(plan, data, None), fit, ranks=joined_ranks())
        else:
            self._engine = _engine_of(plan, data, tensors.pop("split") if run["has_split"] else None)
            loop = self._engine.loop
        loop.classifier.module.load_state_dict(
            {name.removeprefix("of "): value for name, value in tensors.items() if name.startswith("of ")}
        )
        loop.load_state_dict(unpack(run["state"], tensors))
        self._epochs = loop.epochs()

    def _dataset(self, config: RunConfig, fingerprint: Any) -> LoadedDataset:
        settings = config.data.model_dump_json()
        if self._data is None or self._data[0] != settings:
            self._data = settings, load_dataset(config.data, self._registry)
        data = self._data[1]
        if not same_fingerprint(data.fingerprint, fingerprint):
            raise DataError(
                f"dataset {data.name!r} is not the one that the first process has: its fingerprint is "
                f"{data.fingerprint}, {fingerprint} there"
            )
        return data

    def go_on(self, what: Any, tensors: dict[str, Tensor]) -> None:
        """An epoch, or a look at examples by a classifier of these tensors."""
        if what == EPOCH:
            next(self._epochs)
            return
        engine = self._engine
        assert engine is not None
        module = engine.classifier.module
        own = classifier_tensors(module)
        module.load_state_dict(tensors)
        try:
            _predicted(engine, what["tests"], ranks=engine.loop.ranks)
        finally:
            module.load_state_dict(own)


def _engine_of(plan: Plan, data: LoadedDataset, split_file: Tensor | None) -> Engine:
    from molere_cli.training.build_engine import engine_on_split

    split = None
    if split_file is not None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "split.parquet"
            path.write_bytes(split_file.numpy().tobytes())
            split = checked_split(path, data, note=lambda _message: None)
    return engine_on_split(plan, data, split, ranks=joined_ranks())


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
