"""Published ways to weight or choose training examples, beside those of the core.

Registers `mwn`, `l2r`, `fsr`, `gdw`, `rho`, `jtt`, `mbr`, `group-dro`, `focal`, `class-balanced` and
`oracle`; docs/guide/methods.md describes each.
"""

from __future__ import annotations

from collections.abc import Callable

from molere_cli import MethodSpec, hookimpl


@hookimpl
def register_methods(register: Callable[[MethodSpec], None]) -> None:
    register(
        MethodSpec(
            name="mwn",
            description="Meta-Weight-Net: a network on the loss, learned on the split (arXiv 1902.07379)",
            build="molere_baselines.mwn:MetaWeightNet",
            label="MWN-{split}",
            split="required",
            takes_other_validation=True,
            options="molere_baselines.mwn:MwnOptions",
        )
    )
    register(
        MethodSpec(
            name="l2r",
            description="Learning to reweight: agreement with the split's gradient (arXiv 1803.09050)",
            build="molere_baselines.l2r:LearningToReweight",
            label="L2R-{split}",
            split="required",
            takes_other_validation=True,
            options="molere_baselines.meta_batch:MetaBatchOptions",
        )
    )
    register(
        MethodSpec(
            name="fsr",
            description="Fast sample reweighting: L2R against its own best examples (arXiv 2109.03216)",
            build="molere_baselines.fsr:FastSampleReweighting",
            label="FSR",
            split="optional",
            options="molere_baselines.fsr:FsrOptions",
        )
    )
    register(
        MethodSpec(
            name="gdw",
            description="Generalized data weighting: class-level weights of an example (arXiv 2111.00056)",
            build="molere_baselines.gdw:GeneralizedDataWeighting",
            label="GDW-{split}",
            split="required",
            takes_other_validation=True,
            options="molere_baselines.gdw:GdwOptions",
        )
    )
    register(
        MethodSpec(
            name="rho",
            description="RHO-Loss: train on the top of a larger batch by reducible loss (arXiv 2206.07137)",
            build="molere_baselines.rho:RhoLoss",
            label="RHO-{split}",
            split="required",
            options="molere_baselines.rho:RhoOptions",
        )
    )
    register(
        MethodSpec(
            name="jtt",
            description="Just Train Twice: upsample the errors of a first, short run (arXiv 2107.09044)",
            build="molere_baselines.jtt:JustTrainTwice",
            label="JTT",
            split="optional",
            options="molere_baselines.jtt:JttOptions",
        )
    )
    register(
        MethodSpec(
            name="mbr",
            description="Weights by probabilistic margin, MAIL without adversaries (arXiv 2106.07904)",
            build="molere_baselines.mbr:MarginReweighting",
            label="MBR",
            split="optional",
            options="molere_baselines.mbr:MbrOptions",
        )
    )
    register(
        MethodSpec(
            name="group-dro",
            description="Group DRO: the worst group counts most (arXiv 1911.08731)",
            build="molere_baselines.group_dro:GroupDro",
            label="Group DRO",
            split="optional",
            options="molere_baselines.group_dro:GroupDroOptions",
        )
    )
    register(
        MethodSpec(
            name="focal",
            description="Focal loss (arXiv 1708.02002)",
            build="molere_baselines.focal:Focal",
            label="Focal",
            split="optional",
            options="molere_baselines.focal:FocalOptions",
        )
    )
    register(
        MethodSpec(
            name="class-balanced",
            description="Class-balanced loss by effective numbers (arXiv 1901.05555)",
            build="molere_baselines.class_balanced:ClassBalanced",
            label="Class-balanced",
            split="optional",
            options="molere_baselines.class_balanced:ClassBalancedOptions",
        )
    )
    register(
        MethodSpec(
            name="oracle",
            description="Weights by true group, clean label or class: a bound, not a method",
            build="molere_baselines.oracle:Oracle",
            label="Oracle",
            split="optional",
            options="molere_baselines.oracle:OracleOptions",
        )
    )
