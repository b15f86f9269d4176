"""The fused forward derivatives against torch's own, in float64."""

from __future__ import annotations

import pytest
import torch
from torch.autograd import forward_ad
from torch.func import functional_call

from molere_cli.engine.forward_mode import fast_forward_mode

LAYERS = {
    "conv2d": lambda: torch.nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2),
    "conv2d-no-bias": lambda: torch.nn.Conv2d(4, 6, 3, padding="same", dilation=2, bias=False),
    "conv1d": lambda: torch.nn.Conv1d(4, 6, 3),
    "conv3d": lambda: torch.nn.Conv3d(4, 6, 2),
    "batch-norm": lambda: torch.nn.BatchNorm2d(4, eps=1e-2),
    "batch-norm-1d": lambda: torch.nn.BatchNorm1d(4),
    "batch-norm-plain": lambda: torch.nn.BatchNorm2d(4, affine=False),
    "batch-norm-eval": lambda: torch.nn.BatchNorm2d(4).eval(),
}
SHAPES = {"conv1d": (5, 4, 7), "conv3d": (5, 4, 3, 3, 3), "batch-norm-1d": (5, 4)}


def forward_derivative(layer, x, dx, tangents, *, fast):
    with torch.no_grad(), forward_ad.dual_level():
        duals = {
            name: forward_ad.make_dual(p.detach(), tangents[name]) if name in tangents else p.detach()
            for name, p in layer.named_parameters()
        }
        buffers = {name: b.clone() for name, b in layer.named_buffers()}
        dual_x = x if dx is None else forward_ad.make_dual(x, dx)
        if fast:
            with fast_forward_mode():
                out = functional_call(layer, {**duals, **buffers}, (dual_x,))
        else:
            out = functional_call(layer, {**duals, **buffers}, (dual_x,))
        primal, tangent = forward_ad.unpack_dual(out)
    return primal, torch.zeros_like(primal) if tangent is None else tangent


@pytest.mark.parametrize("moving", ["input", "parameters", "weight", "bias", "both"])
@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("name", LAYERS)
def test_it_equals_torchs_own_forward_derivative(name, channels_last, moving):
    torch.manual_seed(0)
    layer = LAYERS[name]().double()
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter)
    x = torch.randn(SHAPES.get(name, (5, 4, 6, 6)), dtype=torch.float64)
    if channels_last and x.dim() == 4:
        x = x.contiguous(memory_format=torch.channels_last)
    dx = torch.randn_like(x) if moving in {"input", "both"} else None
    wanted = {"input": (), "parameters": ("weight", "bias"), "both": ("weight", "bias")}.get(
        moving, (moving,)
    )
    tangents = {n: torch.randn_like(p) for n, p in layer.named_parameters() if n in wanted}
    fast = forward_derivative(layer, x, dx, tangents, fast=True)
    own = forward_derivative(layer, x, dx, tangents, fast=False)
    for mine, theirs in zip(fast, own, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-10, atol=1e-12)


def test_plain_tensors_and_other_functions_pass_through():
    x = torch.randn(2, 3, 5, 5)
    layer = torch.nn.Conv2d(3, 4, 3)
    with fast_forward_mode():
        inside = torch.relu(layer(x))
    assert torch.equal(inside, torch.relu(layer(x)))
