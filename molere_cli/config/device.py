"""Which device and which precision a run has on this machine."""

from __future__ import annotations

import os
from typing import Literal

import torch

from molere_cli.foundation.errors import ConfigError

Precision = Literal["fp32", "tf32", "bf16"]


def resolve_device(name: str) -> torch.device:
    """`auto` is a CUDA GPU where there is one, else the CPU; under torchrun, `cuda` is each process's own.

    Raises:
        ConfigError: there is no such device, or it is one of a kind that MOLERE would be wrong on.
    """
    local_rank = os.environ.get("LOCAL_RANK")
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and local_rank is not None:
        name = f"cuda:{local_rank}"  # under torchrun, a GPU for each process
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigError(f"there is no device {name!r}; use auto, cpu, cuda or cuda:N") from error
    if device.type not in {"cpu", "cuda"}:
        # Their random state is not replayed for dropout, and mps has no float64.
        raise ConfigError(f"device {name!r} is of a kind that MOLERE does not support; use cpu or cuda")
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(f"device {name!r} is not there: {str(error).splitlines()[0]}") from error
    return device


def resolve_precision(name: str, device: torch.device) -> Precision:
    """`auto` is bf16 where there are matrix units for it: recent CUDA devices, CPUs with AMX.

    Raises:
        ConfigError: tf32, which is a mode of CUDA's matrix units, on a CPU.
    """
    if name == "tf32" and device.type != "cuda":
        raise ConfigError("--precision tf32 is for CUDA devices; use fp32 or bf16")
    if name == "tf32":
        return "tf32"
    if name == "bf16" or (name == "auto" and _has_bf16_units(device)):
        return "bf16"
    return "fp32"


def _has_bf16_units(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return torch.cpu._is_amx_tile_supported()


def set_arithmetic(device: torch.device, precision: Precision, *, deterministic: bool) -> None:
    """On a GPU, have torch compute float32 as such in the whole process: not rounded to TF32, which cuDNN
    does by default, unless that is asked for.

    deterministic: the same bits in every run on the same machine, at some cost in time.
    """
    if device.type != "cuda":
        return
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    torch.backends.cudnn.allow_tf32 = precision == "tf32"
    # The batches of a run have one shape, so that trying out algorithms pays.
    torch.backends.cudnn.benchmark = not deterministic
    if deterministic:
        # Read by cuBLAS when it starts; with another workspace its sums depend on what runs beside them.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
