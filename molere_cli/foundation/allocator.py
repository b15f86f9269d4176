"""What the C library does with memory that is freed."""

from __future__ import annotations

import ctypes
import os
import sys

# Of glibc's malloc.h.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
LARGEST = 2**31 - 1
OWN_SETTINGS = {"MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES", "LD_PRELOAD"}


def keep_freed_memory() -> None:
    """Have glibc keep what this process frees for what it asks for next, up to 2 GiB, instead of handing it
    back to the system.

    The steps of training free and ask for the same few tensors again and again: on a CPU, to have them mapped
    and cleared anew takes up to 37 % of a step (docs/dev/performance.md, "Memory that is kept"). Nothing
    happens where the user has settled such things, or where there is no glibc.
    """
    if sys.platform != "linux" or OWN_SETTINGS & os.environ.keys():
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, 2**30)
        mallopt(M_TRIM_THRESHOLD, LARGEST)
