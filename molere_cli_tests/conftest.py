"""Fixtures that most tests share."""

from __future__ import annotations

import copy
import functools
import os
import shlex
import sys
import warnings
from pathlib import Path
from typing import NamedTuple

import hypothesis
import pytest
import torch
import typer
from molere_report import demo_study
from torch import nn
from typer.testing import CliRunner

from molere_cli import BackboneSpec, Dataset, DatasetSpec, Examples, hookimpl
from molere_cli.commands import app as entry
from molere_cli.foundation import files
from molere_cli.registry import registry as registry_module
from molere_cli.registry.registry import Registry, load_plugins

TINY_SIZE, TINY_CLASSES = 64, 4

# How long an example takes says more of the machine than of the code.
hypothesis.settings.register_profile("molere", deadline=None)
hypothesis.settings.load_profile("molere")


@pytest.fixture
def runner() -> CliRunner:
    return CliRunner()


class Done(NamedTuple):
    code: int | str | None
    out: str
    err: str

    @property
    def last_line(self) -> str:
        return self.out.splitlines()[-1]


@pytest.fixture
def molere(monkeypatch, capsys):
    """Runs `molere LINE` in this process, through `main`."""
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)

    def call(line: str) -> Done:
        monkeypatch.setattr(sys, "argv", ["molere", *shlex.split(line)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as left:
            entry.main()
        return Done(left.value.code, *capsys.readouterr())

    return call


@pytest.fixture(autouse=True)
def one_thread():
    """Tiny tensors run faster on one thread, and the machine may be shared."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory):
    """What tests keep between commands goes where it is of no use to the user."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MOLERE_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session", autouse=True)
def read_once():
    """What is installed, and what Typer makes of the commands, stays the same: both are read once, where each
    command reads them anew, for a third of what a small command takes."""
    build = typer.main.get_command
    built = build(entry.app)

    def get_command(app):
        if app is not entry.app:
            return build(app)
        command = copy.copy(built)
        command.commands = dict(built.commands)  # plugins add theirs to it
        return command

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry_module, "entry_points", functools.cache(registry_module.entry_points))
        patch.setattr(typer.main, "get_command", get_command)
        patch.setattr(typer.testing, "_get_command", get_command)
        yield


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(request, monkeypatch):
    """Whether what is written survives a power cut is seen in reliability/ alone."""
    if "reliability" not in request.path.parts:
        monkeypatch.setattr(files, "_sync", lambda *_: None)


@pytest.fixture(autouse=True)
def handed_back_memory(monkeypatch):
    """This process goes on handing freed memory back, whatever `main` does: tests measure its growth."""
    for caller in (entry, demo_study):
        monkeypatch.setattr(caller, "keep_freed_memory", lambda: None)


@pytest.fixture(autouse=True)
def as_in_a_pipe(monkeypatch):
    """readline, which pytest loads, sets COLUMNS to the width of a terminal that is not there."""
    monkeypatch.delenv("COLUMNS", raising=False)


@pytest.fixture
def in_tmp(tmp_path, monkeypatch) -> Path:
    """A fresh working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def registry() -> Registry:
    """All installed plugins, plus the `tiny` dataset and the `tiny_net` backbone."""
    registry = load_plugins()
    registry.add(TinyPlugin(), "tiny_plugin")
    assert registry.problems == []
    return registry


class TinyPlugin:
    """A dataset of 64 learnable 8 x 8 images in 4 classes, and a small network with norm and dropout."""

    @hookimpl
    def register_datasets(self, register):
        register(DatasetSpec(name="tiny", description="64 synthetic images.", load=tiny_dataset))

    @hookimpl
    def register_backbones(self, register):
        register(BackboneSpec(name="tiny_net", description="A small network.", build=tiny_net))


def tiny_dataset(request=None) -> Dataset:
    return Dataset(
        pool=tiny_examples(TINY_SIZE, seed=0),
        tests={"test": tiny_examples(32, seed=1)},
        class_names=tuple("abcd"),
        augment="crop-flip",
    )


def tiny_examples(size: int, *, seed: int) -> Examples:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(size) % TINY_CLASSES
    brightness = (labels * 50 + 25)[:, None, None, None]
    noise = torch.randint(-40, 40, (size, 3, 8, 8), generator=generator)
    return Examples(images=(brightness + noise).clamp(0, 255).to(torch.uint8), labels=labels)


def tiny_net(request) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Dropout(0.2),
        nn.Linear(32, request.num_classes),
    )


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real images, from MOLERE_DATA or beside the project; skipped without it, not in CI."""
    folder = Path(os.environ.get("MOLERE_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if folder.is_dir():
        return folder
    message = f"no real images at {folder}; set MOLERE_DATA"
    if os.environ.get("CI"):
        pytest.fail(message)
    pytest.skip(message)
