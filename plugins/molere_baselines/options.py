"""The options of the methods, as they come from `--method-option KEY=VALUE`.

Defaults are the published ones where there are any; docs/methods.md says where each comes from.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from molere_cli import Options


class L2rOptions(Options):
    """Options of `l2r`."""

    meta_batch_size: int | None = Field(
        None, ge=2, description="Validation examples a step (default: the batch size)."
    )


class WeightNetOptions(L2rOptions):
    """What the methods with a weight network on the loss share."""

    hidden: int = Field(100, ge=1, description="Width of the weight network's hidden layer.")
    lr: float = Field(1e-3, gt=0, description="Adam learning rate of the weight network.")
    weight_decay: float = Field(1e-4, ge=0, description="Weight decay of the weight network.")


class MwnOptions(WeightNetOptions):
    """Options of `mwn`."""

    normalization: Literal["none", "mean"] = Field(
        "none", description="Take the sigmoid as it is, or divide it by its batch mean."
    )


class GdwOptions(WeightNetOptions):
    """Options of `gdw`."""

    outer_lr: float = Field(100.0, gt=0, description="Step on the class-level weights, before clipping.")
    clip: float = Field(0.2, gt=0, description="The largest step of one class-level weight.")


class FsrOptions(Options):
    """Options of `fsr`."""

    capacity: int | None = Field(
        None,
        ge=1,
        description="Examples in the dictionary (default: a tenth of those that train, 2000 at most).",
    )
    probe_batch_size: int = Field(200, ge=1, description="Examples of the dictionary that a step looks at.")
    score_momentum: float = Field(0.9, ge=0, lt=1, description="Momentum of the scores' moving average.")
    lookahead_lr: float = Field(0.1, gt=0, description="Learning rate of the virtual step.")
    warmup_epochs: int | None = Field(
        None, ge=0, description="Epochs with equal weights (default: a sixth of all)."
    )
    weights: Literal["clip", "shift"] = Field(
        "clip", description="Cut negative weights off (label noise), or shift them all up (class skew)."
    )


class RhoOptions(Options):
    """Options of `rho`."""

    fraction: float = Field(0.1, gt=0, le=1, description="Share of a candidate batch that is trained on.")
    irreducible_epochs: int | None = Field(
        None, ge=1, description="Epochs of the irreducible-loss model (default: as many as the run's)."
    )


class JttOptions(Options):
    """Options of `jtt`."""

    first_epochs: int | None = Field(
        None, ge=1, description="Epochs of ERM before errors are counted (default: an eighth of all)."
    )
    up_weight: int = Field(20, ge=1, description="How many extra times an epoch has each error.")


class MbrOptions(Options):
    """Options of `mbr`."""

    slope: float = Field(1.0, gt=0, description="Slope of the sigmoid.")
    bias: float = Field(-1.5, description="The margin at which an unnormalised weight is a half.")
    warmup_epochs: int | None = Field(
        None, ge=0, description="Epochs with equal weights (default: five eighths of all)."
    )


class GroupDroOptions(Options):
    """Options of `group-dro`."""

    step_size: float = Field(0.01, gt=0, description="Step size of the group weights.")
    adjustment: float = Field(0.0, ge=0, description="Add this over sqrt(group size) to a group's loss.")
    sampling: Literal["balanced", "pool"] = Field(
        "balanced", description="Draw groups equally often, or train on every example once an epoch."
    )


class FocalOptions(Options):
    """Options of `focal`."""

    gamma: float = Field(2.0, ge=0, description="Focusing parameter; 0 is ERM.")


class ClassBalancedOptions(Options):
    """Options of `class-balanced`."""

    beta: float = Field(0.9999, ge=0, lt=1, description="0 is ERM; near 1, inverse class frequency.")


class OracleOptions(Options):
    """Options of `oracle`."""

    by: Literal["groups", "clean", "classes"] = Field(
        "groups", description="Balance the groups, leave out wrong labels, or balance the classes."
    )
