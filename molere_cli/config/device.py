"""Which device and which precision a run has on this machine."""

from __future__ import annotations

from typing import Literal

import torch

from molere_cli.errors import ConfigError

Precision = Literal["fp32", "bf16"]


def resolve_device(name: str) -> torch.device:
    """`auto` is the first accelerator there is, else the CPU."""
    if name == "auto":
        accelerator = torch.accelerator.current_accelerator(check_available=True)
        return accelerator if accelerator is not None else torch.device("cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(f"device {name!r} is not there: {str(error).splitlines()[0]}") from error
    return device


def resolve_precision(name: str, device: torch.device) -> Precision:
    """`auto` is bf16 where there are matrix units for it: recent CUDA devices, CPUs with AMX."""
    if name == "bf16":
        return "bf16"
    if name == "auto" and device.type == "cuda" and torch.cuda.is_bf16_supported():
        return "bf16"
    if name == "auto" and device.type == "cpu" and torch.cpu._is_amx_tile_supported():
        return "bf16"
    return "fp32"
