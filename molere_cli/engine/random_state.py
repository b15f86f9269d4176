"""The global random state: dropout draws from it, and what is replayed draws the same again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class RandomState:
    """The global random state of the CPU and, on a GPU, of the device."""

    cpu: Tensor
    device: Tensor | None

    @classmethod
    def capture(cls, device: torch.device) -> RandomState:
        cuda = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
        return cls(torch.get_rng_state(), cuda)

    @contextmanager
    def replayed(self, device: torch.device) -> Iterator[None]:
        """Run a block under this state; the state from before comes back after it."""
        with isolated_randomness(device):
            self.restore(device)
            yield

    def restore(self, device: torch.device) -> None:
        """Make it the global random state; a run that has moved off a GPU has no use for that of the GPU."""
        torch.set_rng_state(self.cpu)
        if self.device is not None and device.type == "cuda":
            torch.cuda.set_rng_state(self.device, device)


@contextmanager
def isolated_randomness(device: torch.device) -> Iterator[None]:
    """Leave the global random state as it was before the block."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        yield
