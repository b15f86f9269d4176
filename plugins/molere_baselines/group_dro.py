"""Group distributionally robust optimisation (Sagawa et al., ICLR 2020, arXiv 1911.08731, algorithm 1).

Shapes: N examples of the pool, B of a batch, G groups.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from molere_cli import ConfigError, Method, Options, Step, TrainingContext, derived_generator


class GroupDroOptions(Options):
    """Options of `group-dro`."""

    step_size: float = Field(0.01, gt=0, description="Step size of the group weights.")
    adjustment: float = Field(0.0, ge=0, description="Add this over sqrt(group size) to a group's loss.")
    sampling: Literal["balanced", "pool"] = Field(
        "balanced", description="Draw groups equally often, or train on every example once an epoch."
    )


def group_losses(losses_B: Tensor, groups_B: Tensor, *, num_groups: int) -> tuple[Tensor, Tensor]:
    """Mean loss and number of examples of each group of a batch, (G,); 0 for a group that is not in it."""
    counts_G = groups_B.bincount(minlength=num_groups).to(losses_B.dtype)
    sums_G = torch.zeros_like(counts_G).index_add_(0, groups_B, losses_B)
    return sums_G / counts_G.clamp_min(1), counts_G


def updated_group_weights(q_G: Tensor, losses_G: Tensor, *, step_size: float) -> Tensor:
    """q exp(step_size loss), over its sum."""
    q_G = q_G * (step_size * losses_G).exp()
    return q_G / q_G.sum()


class GroupDro(Method):
    """Minimises sum_g q_g loss_g, with q pushed towards the groups of high loss."""

    resumes_within_epoch = True
    batch_parts = "chunks"

    options: GroupDroOptions

    def __init__(self, context: TrainingContext) -> None:
        super().__init__(context)
        if context.groups is None:
            raise ConfigError("group-dro needs a dataset with groups; colour-digits has them")
        device = context.classifier.device
        self._groups_N = context.groups.to(device)
        self._num_groups = int(context.groups.max()) + 1
        groups = context.groups[self.positions]
        counts_G = groups.bincount(minlength=self._num_groups)
        self._sampling_weights = 1 / counts_G.double()[groups]
        self._adjustment_G = (self.options.adjustment / counts_G.clamp_min(1).sqrt()).float().to(device)
        # A group that trains nothing, which tests alone have, takes no part: its share would be missing
        # from the weights of all others.
        trains_G = counts_G > 0
        self._training_groups = trains_G.nonzero().squeeze(1).tolist()
        self._q_G = (trains_G.float() / trains_G.sum()).to(device)

    def before_epoch(self, epoch: int) -> Tensor:
        if self.options.sampling == "pool":
            return self.positions
        generator = derived_generator(self.context.config.machine.seed, "group-dro", epoch)
        drawn = torch.multinomial(
            self._sampling_weights, len(self.positions), replacement=True, generator=generator
        )
        return self.positions[drawn]

    def weights(self, step: Step) -> Tensor | None:
        groups_B = self._groups_N[step.batch.positions]
        losses_B = step.losses.detach()
        losses_G, counts_G = group_losses(losses_B, groups_B, num_groups=self._num_groups)
        self._q_G = updated_group_weights(
            self._q_G, losses_G + self._adjustment_G, step_size=self.options.step_size
        )
        return (self._q_G / counts_G.clamp_min(1))[groups_B] * len(losses_B)

    def metrics(self) -> dict[str, float]:
        """The weight of each group that trains."""
        return {f"group_dro/q_{group}": float(self._q_G[group]) for group in self._training_groups}

    def state_dict(self) -> dict[str, Any]:
        return {"q": self._q_G}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._q_G = state["q"].to(self._q_G.device)
