"""A third-party plugin: the backbone `example_mlp`, with an option."""

from math import prod

from pydantic import Field

from molere_cli import BackboneRequest, BackboneSpec, Options, hookimpl


class MLPOptions(Options):
    hidden: int = Field(64, ge=1, description="Width of the hidden layer.")


def build(request: BackboneRequest):
    from torch import nn  # here, so that `molere --help` stays quick

    first = nn.Linear(3 * prod(request.image_size), request.options.hidden)
    return nn.Sequential(nn.Flatten(), first, nn.ReLU(), nn.Linear(first.out_features, request.num_classes))


@hookimpl
def register_backbones(register):
    register(
        BackboneSpec(name="example_mlp", description="One hidden layer", build=build, options=MLPOptions)
    )
