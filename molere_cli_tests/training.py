"""Runs of a few seconds, and what is compared of them."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file

from molere_cli.api.run_schedule import Outcome, make_schedule, run_schedule, train_runs
from molere_cli.config.plan import make_plan
from molere_cli.config.run_config import RunConfig
from molere_cli.data.source import load_dataset
from molere_cli.foundation.progress import NoProgress
from molere_cli.training.build_engine import build_engine


def tiny_config(**changes) -> RunConfig:
    settings = {
        "dataset": "tiny",
        "backbone": "tiny_net",
        "method": "erm",
        "epochs": 4,
        "batch_size": 16,
        "precision": "fp32",
        "device": "cpu",
        "thumbnails": False,
    }
    return RunConfig.of(**{**settings, **changes})


def engine_for(config, registry, in_validation=None):
    return build_engine(make_plan(config, registry), load_dataset(config.data, registry), in_validation)


def train_one(config, registry, runs: Path, progress=None):
    (run,) = train_runs(config, [config.machine.seed], registry, runs=runs, progress=progress or NoProgress())
    return run


def train_methods(
    configs, seeds, registry, *, runs: Path, out=None, rates=(), resume_unfinished=False, progress
) -> Outcome:
    """A schedule, made and run."""
    schedule = make_schedule(configs, registry, seeds=seeds, rates=rates, runs=runs, out=out)
    return run_schedule(schedule, resume_unfinished=resume_unfinished, progress=progress)


def tensors_of(run) -> dict[str, torch.Tensor]:
    return load_file(run.classifier_path)


def without_times(records):
    return [{k: v for k, v in record.items() if not k.startswith(("time/", "memory/"))} for record in records]


def assert_same_tensors(one, other):
    assert one.keys() == other.keys()
    for name in one:
        assert torch.equal(one[name], other[name]), name


# Weights that move from any split, at every step.
INSTANCE = {"reweighter": "instance", "reweighter_interval": 1}


class KilledAfter(NoProgress):
    """Kills the run whose method is asked for after a step of the epoch after `epochs`, before a checkpoint
    of this step is written."""

    def __init__(self, epochs, *, label_part, step=2):
        self.epochs, self.step, self.running = epochs, step, False
        self.names = f"-{label_part}-", f"-{label_part.split('-')[0]}-"

    def run_started(self, label, *, seed, num_epochs, path):
        self.running = path is not None and any(name in path.name for name in self.names)

    def step_taken(self, *, epoch, step, num_steps, loss):
        if self.running and epoch == self.epochs and step == self.step:
            raise KeyboardInterrupt


class Notebook(NoProgress):
    def __init__(self):
        self.notes = []

    def note(self, message):
        self.notes.append(message)
