"""How much memory training takes at its peak."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path

import torch

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
RESET_PEAK = "5"
MIB = 1 << 20


class PeakMemory:
    """The most memory in use since `start`: on a GPU what torch has given out there; else what is resident of
    this process, worker processes apart."""

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def start(self) -> None:
        """Forget the peak so far; where the system does not let a process do so, it is since it began."""
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)
            return
        with suppress(OSError):
            CLEAR.write_text(RESET_PEAK, encoding="ascii")

    def mebibytes(self) -> float | None:
        """In units of 2**20 bytes; None where the system does not tell."""
        if self._device.type == "cuda":
            return torch.cuda.max_memory_allocated(self._device) / MIB
        try:
            status = STATUS.read_text(encoding="ascii", errors="replace")
        except OSError:
            return None
        found = re.search(r"^VmHWM:\s*(\d+) kB$", status, re.MULTILINE)
        return None if found is None else int(found[1]) / 1024
