"""Datasets made harder in a controlled way: class skew, a shortcut, label noise, corrupted test images."""

from __future__ import annotations

from collections.abc import Callable

from molere_cli import TransformSpec, hookimpl


@hookimpl
def register_transforms(register: Callable[[TransformSpec], None]) -> None:
    for name, description, module in (
        ("class-skew", "An exponential long tail of the pool (--class-skew)", "skew"),
        (
            "colour-patch",
            "A patch whose colour tells the label in the pool (--colour-patch)",
            "colour_patch",
        ),
        ("label-noise", "Wrong labels in the pool (--label-noise)", "noise"),
        ("corrupted", "Corrupted test images (eval --on corrupted:KIND:SEVERITY)", "corruption"),
    ):
        register(TransformSpec(name=name, description=description, apply=f"molere_transforms.{module}:apply"))
