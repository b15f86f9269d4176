"""What a number was made with: versions, machine, command, commit, time; how images become the input."""

from __future__ import annotations

import functools
import platform
import shlex
import subprocess
import sys
from contextlib import suppress
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from molere_cli.data.feed import FeedSettings

PACKAGES = ("torch", "torchvision", "timm", "safetensors", "pyarrow", "numpy")


def versions() -> dict[str, str]:
    """Versions of MOLERE, Python and the packages that numbers depend on."""
    from molere_cli import __version__

    return {"molere": __version__, "python": platform.python_version(), **_package_versions()}


@functools.cache
def _package_versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        with suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


def describe_environment() -> dict[str, Any]:
    """Versions, machine, command line, commit and time."""
    return {
        "format_version": 1,
        **versions(),
        "platform": platform.platform(),
        "cpu": cpu_name(),
        "threads": torch.get_num_threads(),
        "command": command_line(),
        "commit": source_commit(),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def command_line() -> str:
    """What was typed: `molere train ...`, or, where a program calls the library, the Python that runs it."""
    program = Path(sys.argv[0])
    if program.name == "molere" or program.parts[-2:] == ("molere_cli", "__main__.py"):
        return shlex.join(["molere", *sys.argv[1:]])
    return shlex.join(["python", *sys.orig_argv[1:]])


def describe_input(settings: FeedSettings) -> dict[str, Any]:
    """What `environment.json` says of how images become the network's input."""
    found: dict[str, Any] = {"crop_mode": settings.crop_mode}
    if (pretrained := settings.pretrained) is not None:
        found = {
            "crop_mode": pretrained.crop_mode,
            "crop_share": pretrained.crop_share,
            "interpolation": pretrained.interpolation,
        }
    return {
        "image_size": list(settings.image_size),
        **found,
        "mean": list(settings.mean),
        "std": list(settings.std),
    }


def describe_gpu(device: torch.device) -> dict[str, Any] | None:
    """The GPU, what drives it and how it computes float32; None for a CPU."""
    if device.type != "cuda":
        return None
    properties = torch.cuda.get_device_properties(device)
    return {
        "name": properties.name,
        "memory": properties.total_memory,
        "capability": f"{properties.major}.{properties.minor}",
        "driver": _driver_version(),
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        "tf32": torch.backends.cudnn.allow_tf32,
        "deterministic": torch.are_deterministic_algorithms_enabled(),
    }


def _driver_version() -> str | None:
    """As nvidia-smi has it, None where that is missing."""
    ask = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(ask, capture_output=True, text=True, check=True, timeout=10)  # noqa: S603 - ours
    except (OSError, subprocess.SubprocessError):
        return None
    found = done.stdout.split()
    return found[0] if found else None


def cpu_name() -> str:
    """The processor's model name, as far as the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")


def source_commit() -> str | None:
    """The commit of the checkout that MOLERE runs from, with `-dirty` behind it where a file of it has been
    edited since; None for an installed package."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    # Without tags, whose names would stand in place of the commit's.
    git = ["git", "-C", str(root), "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"]
    try:
        done = subprocess.run(git, capture_output=True, text=True, check=True)  # noqa: S603 - ours
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()
