"""Whether the dual pass goes through parameters that FSDP2 has sharded (docs/guide/several-devices.md).

torchrun --standalone --nproc-per-node 2 benchmarks/fsdp.py
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.autograd import forward_ad
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import distribute_tensor
from torch.func import functional_call


def main() -> None:
    dist.init_process_group("gloo")
    torch.manual_seed(0)
    whole = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 4)).double()
    sharded = copy.deepcopy(whole)
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    for part in (sharded[0], sharded[2], sharded):
        fully_shard(part, mesh=mesh)
    images = torch.randn(5, 8, dtype=torch.double)
    sharded(images)  # as a step goes before
    values = {name: value.detach() for name, value in whole.named_parameters()}
    tangents = {name: torch.randn_like(value) for name, value in values.items()}

    def derivative(
        module: nn.Module, values: dict[str, Tensor], tangents: dict[str, Tensor]
    ) -> Tensor | None:
        duals = {name: forward_ad.make_dual(value, tangents[name]) for name, value in values.items()}
        return forward_ad.unpack_dual(functional_call(module, duals, (images,))).tangent

    def sharded_duals() -> Tensor | None:
        own = {name: value.detach() for name, value in sharded.named_parameters()}
        split = {
            name: distribute_tensor(tangents[name], value.device_mesh, value.placements)
            for name, value in own.items()
        }
        return derivative(sharded, own, split)

    def gathered() -> Tensor | None:
        own = {name: value.full_tensor() for name, value in sharded.named_parameters()}
        return derivative(whole, own, tangents)

    expected = in_forward_mode(lambda: derivative(whole, values, tangents))
    ways = {
        "plain duals in place of sharded parameters": lambda: derivative(sharded, values, tangents),
        "duals of sharded parameters": sharded_duals,
        "parameters gathered into an unsharded copy": gathered,
    }
    for name, way in ways.items():
        try:
            found = in_forward_mode(way)
        except Exception as error:
            said = f"{type(error).__name__}: {str(error).splitlines()[0]}"
        else:
            said = "no derivative" if found is None else f"off by {float((found - expected).abs().max()):.1e}"
        if dist.get_rank() == 0:
            print(f"{name}: {said}", flush=True)
    dist.barrier()
    dist.destroy_process_group()


def in_forward_mode(way: Callable[[], Tensor | None]) -> Tensor | None:
    """What `way` gives within a level of duals."""
    with torch.no_grad(), forward_ad.dual_level():
        return way()


if __name__ == "__main__":
    main()
