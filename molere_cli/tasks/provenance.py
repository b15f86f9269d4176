"""What a number was made with: versions, machine, command, commit."""

from __future__ import annotations

import platform
import shlex
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from molere_cli.data.source import LoadedDataset
from molere_cli.errors import RunError
from molere_cli.run_dir import RunDir

PACKAGES = ("torch", "torchvision", "timm", "safetensors", "pyarrow", "numpy")


def versions() -> dict[str, str]:
    """Versions of MOLERE, Python and the packages that numbers depend on."""
    from molere_cli import __version__

    found = {"molere": __version__, "python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def describe_environment() -> dict[str, Any]:
    """Versions, machine, command line, commit and time."""
    return {
        "format_version": 1,
        **versions(),
        "platform": platform.platform(),
        "cpu": cpu_name(),
        "threads": torch.get_num_threads(),
        "command": shlex.join(["molere", *sys.argv[1:]]),
        "commit": source_commit(),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def cpu_name() -> str:
    """The processor's model name, as far as the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")


def source_commit() -> str | None:
    """The commit of the checkout that MOLERE runs from, None for an installed package."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    git = ["git", "-C", str(root), "rev-parse", "HEAD"]
    try:
        return subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def check_fingerprint(run: RunDir, data: LoadedDataset) -> None:
    """Raise RunError if the data is not what the run was trained on."""
    recorded = run.environment()["fingerprint"]
    if recorded != data.fingerprint:
        raise RunError(
            f"dataset {data.name!r} has changed since {run.path} was trained: "
            f"fingerprint {data.fingerprint}, recorded {recorded}"
        )
