"""Published ways to weight or choose training examples, beside those of the core.

Registers `mwn`, `l2r`, `fsr`, `gdw`, `rho`, `jtt`, `mbr`, `group-dro`, `focal`, `class-balanced` and
`oracle`; docs/methods.md describes each.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from molere_baselines.options import (
    ClassBalancedOptions,
    FocalOptions,
    FsrOptions,
    GdwOptions,
    GroupDroOptions,
    JttOptions,
    L2rOptions,
    MbrOptions,
    MwnOptions,
    OracleOptions,
    RhoOptions,
)
from molere_cli import MethodSpec, hookimpl

if TYPE_CHECKING:
    from molere_cli import Method, TrainingContext


@hookimpl
def register_methods(register: Callable[[MethodSpec], None]) -> None:
    register(
        MethodSpec(
            name="mwn",
            description="Meta-Weight-Net: a network on the loss, learned on the split (arXiv 1902.07379)",
            build=_build_mwn,
            label="MWN-{split}",
            split="required",
            takes_other_validation=True,
            options=MwnOptions,
        )
    )
    register(
        MethodSpec(
            name="l2r",
            description="Learning to reweight: agreement with the split's gradient (arXiv 1803.09050)",
            build=_build_l2r,
            label="L2R-{split}",
            split="required",
            takes_other_validation=True,
            options=L2rOptions,
        )
    )
    register(
        MethodSpec(
            name="fsr",
            description="Fast sample reweighting: L2R against its own best examples (arXiv 2109.03216)",
            build=_build_fsr,
            label="FSR",
            split="optional",
            options=FsrOptions,
        )
    )
    register(
        MethodSpec(
            name="gdw",
            description="Generalized data weighting: class-level weights of an example (arXiv 2111.00056)",
            build=_build_gdw,
            label="GDW-{split}",
            split="required",
            takes_other_validation=True,
            options=GdwOptions,
        )
    )
    register(
        MethodSpec(
            name="rho",
            description="RHO-Loss: train on the top of a larger batch by reducible loss (arXiv 2206.07137)",
            build=_build_rho,
            label="RHO-{split}",
            split="required",
            options=RhoOptions,
        )
    )
    register(
        MethodSpec(
            name="jtt",
            description="Just Train Twice: upsample the errors of a first, short run (arXiv 2107.09044)",
            build=_build_jtt,
            label="JTT",
            split="optional",
            options=JttOptions,
        )
    )
    register(
        MethodSpec(
            name="mbr",
            description="Weights by probabilistic margin, MAIL without adversaries (arXiv 2106.07904)",
            build=_build_mbr,
            label="MBR",
            split="optional",
            options=MbrOptions,
        )
    )
    register(
        MethodSpec(
            name="group-dro",
            description="Group DRO: the worst group counts most (arXiv 1911.08731)",
            build=_build_group_dro,
            label="Group DRO",
            split="optional",
            options=GroupDroOptions,
        )
    )
    register(
        MethodSpec(
            name="focal",
            description="Focal loss (arXiv 1708.02002)",
            build=_build_focal,
            label="Focal",
            split="optional",
            options=FocalOptions,
        )
    )
    register(
        MethodSpec(
            name="class-balanced",
            description="Class-balanced loss by effective numbers (arXiv 1901.05555)",
            build=_build_class_balanced,
            label="Class-balanced",
            split="optional",
            options=ClassBalancedOptions,
        )
    )
    register(
        MethodSpec(
            name="oracle",
            description="Weights by true group, clean label or class: a bound, not a method",
            build=_build_oracle,
            label="Oracle",
            split="optional",
            options=OracleOptions,
        )
    )


def _build_mwn(context: TrainingContext) -> Method:
    from molere_baselines.mwn import MetaWeightNet

    return MetaWeightNet(context)


def _build_l2r(context: TrainingContext) -> Method:
    from molere_baselines.l2r import LearningToReweight

    return LearningToReweight(context)


def _build_fsr(context: TrainingContext) -> Method:
    from molere_baselines.fsr import FastSampleReweighting

    return FastSampleReweighting(context)


def _build_gdw(context: TrainingContext) -> Method:
    from molere_baselines.gdw import GeneralizedDataWeighting

    return GeneralizedDataWeighting(context)


def _build_rho(context: TrainingContext) -> Method:
    from molere_baselines.rho import RhoLoss

    return RhoLoss(context)


def _build_jtt(context: TrainingContext) -> Method:
    from molere_baselines.jtt import JustTrainTwice

    return JustTrainTwice(context)


def _build_mbr(context: TrainingContext) -> Method:
    from molere_baselines.mbr import MarginReweighting

    return MarginReweighting(context)


def _build_group_dro(context: TrainingContext) -> Method:
    from molere_baselines.group_dro import GroupDro

    return GroupDro(context)


def _build_focal(context: TrainingContext) -> Method:
    from molere_baselines.focal import Focal

    return Focal(context)


def _build_class_balanced(context: TrainingContext) -> Method:
    from molere_baselines.class_balanced import ClassBalanced

    return ClassBalanced(context)


def _build_oracle(context: TrainingContext) -> Method:
    from molere_baselines.oracle import Oracle

    return Oracle(context)
