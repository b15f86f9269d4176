"""< grad l_i, direction > from what a step's own passes have seen, for networks whose examples do not mix.

A layer that is linear in its parameters, y = L(x; theta), has < dy_i/dtheta . r, delta_i > =
< L(x_i; r), delta_i > with delta_i = dl_i/dy_i: with the inputs x of the step's forward pass and the output
gradients delta of its backward pass, one more evaluation of each layer gives the inner products of all
examples, summed over layers. No forward derivative is taken, and attention keeps its fused kernels. It costs
the inputs and the output gradients of every layer, kept until then.

The output gradients are those of the weighted mean of the losses, w_i / B times those of l_i.

Shapes: B examples of a batch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

import timm.layers
import torch
from timm.models import vision_transformer
from torch import Tensor, nn
from torch.func import functional_call

T = TypeVar("T")
LINEAR_IN_PARAMETERS = (
    *(nn.Linear, nn.Conv1d, nn.Conv2d, nn.LayerNorm, nn.GroupNorm),
    *(timm.layers.LayerNorm, vision_transformer.LayerScale),
)
WITHOUT_PARAMETERS = (
    *(nn.Identity, nn.Sequential, nn.ModuleList, nn.Flatten, nn.Dropout, nn.Dropout2d),
    *(nn.ReLU, nn.GELU, nn.SiLU, nn.Tanh, nn.Sigmoid),
    *(nn.AvgPool2d, nn.MaxPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d),
    *(timm.layers.DropPath, timm.layers.Mlp, timm.layers.PatchEmbed, timm.layers.Attention),
    vision_transformer.Block,
)
ADDED_TO_EVERY_EXAMPLE = {"cls_token", "reg_token", "pos_embed"}
"""Parameters (1, ...) of a VisionTransformer that each example gets a copy of."""


def has_no_cross_example_ops(module: nn.Module) -> bool:
    """Whether every part of a network is known to treat each example by itself, and its parameters by a rule.

    By exact types: a subclass may do anything.
    """
    return all(_is_known(member) for member in module.modules())


def _is_known(member: nn.Module) -> bool:
    kind = type(member)
    if kind is vision_transformer.VisionTransformer:
        # Else positions are resized first, or passes run more than once.
        plain = not member.dynamic_img_size and not member.grad_checkpointing
        own = {name for name, _ in member.named_parameters(recurse=False)}
        return plain and own <= ADDED_TO_EVERY_EXAMPLE
    if getattr(member, "inplace", False) and kind in LINEAR_IN_PARAMETERS:
        return False
    return kind in LINEAR_IN_PARAMETERS or (
        kind in WITHOUT_PARAMETERS and not list(member.parameters(recurse=False))
    )


@dataclass(eq=False)
class _Call:
    """One call of a layer; the output's gradient is None until the backward pass, and if it stays so."""

    layer: nn.Module
    input: Tensor
    gradient: Tensor | None = None

    def keep(self, gradient: Tensor) -> None:
        self.gradient = gradient


@dataclass(eq=False)
class StepTrace:
    """What the layers of a network that `has_no_cross_example_ops` see in one step."""

    calls: list[_Call] = field(default_factory=list)
    copies: dict[str, Tensor] = field(default_factory=dict)
    """The gradients of the parameters that every example has a copy of, (B, ...), by name."""

    def forward(
        self,
        run: Callable[[Mapping[str, Tensor]], T],
        module: nn.Module,
        num_examples: int,
    ) -> T:
        """A forward pass that is followed.

        Args:
            run: the pass, with these tensors in place of the module's parameters of the same names.
        """
        layers = {
            layer
            for layer in module.modules()
            if type(layer) in LINEAR_IN_PARAMETERS and any(p.requires_grad for p in layer.parameters())
        }
        handles = [layer.register_forward_hook(self._follow) for layer in layers]
        try:
            return run(self._copied(module, num_examples))
        finally:
            for handle in handles:
                handle.remove()

    def _copied(self, module: nn.Module, num_examples: int) -> dict[str, Tensor]:
        stand_ins = {}
        for prefix, member in module.named_modules():
            if type(member) in LINEAR_IN_PARAMETERS:
                continue
            for name, parameter in member.named_parameters(prefix, recurse=False):
                if parameter.requires_grad:
                    # A copy for each example, so that backward keeps their gradients apart in place of adding
                    # them up; `expand` takes no memory.
                    copies = parameter.expand(num_examples, *parameter.shape[1:])
                    copies.register_hook(partial(self.copies.__setitem__, name))
                    stand_ins[name] = copies
        return stand_ins

    def _follow(self, layer: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
        # A layer that is called more than once in a pass makes a call each time: the derivative of a shared
        # parameter is the sum over its uses.
        call = _Call(layer, inputs[0].detach())
        self.calls.append(call)
        output.register_hook(call.keep)

    @torch.no_grad()
    def alignment(
        self, names: Mapping[nn.Parameter, str], direction: Mapping[str, Tensor], like: Tensor
    ) -> Tensor:
        """(w_i / B) < grad l_i, direction > for every example, (B,), after the backward pass of
        (1/B) sum_i w_i l_i; in the dtype and on the device of `like`.

        Args:
            names: of the parameters.
            direction: tensors shaped like the parameters, by name; one that is missing counts as zero.
        """
        total_B = torch.zeros_like(like)
        for call in self.calls:
            if call.gradient is None:  # nothing of the loss goes through it
                continue
            own = {
                name: direction.get(names[parameter], torch.zeros_like(parameter))
                for name, parameter in call.layer.named_parameters()
            }
            # Where a layer has a bias its direction is the bias's: L(x; r) has no constant part.
            outputs = functional_call(call.layer, own, (call.input,))
            total_B += _inner_products(outputs, call.gradient, like.dtype)
        for name, gradients in self.copies.items():
            if name in direction:
                total_B += _inner_products(direction[name], gradients, like.dtype)
        return total_B


def _inner_products(values: Tensor, gradients: Tensor, dtype: torch.dtype) -> Tensor:
    """Of each example, (B,); `values` may be one for all."""
    return (values * gradients).flatten(1).sum(dim=1, dtype=dtype)
