"""Any classification network of torchvision, by its name there, with random weights."""

from __future__ import annotations

from functools import cache
from typing import Any

from torch import nn
from torchvision import models

from molere_cli import BackboneRequest, MolereError

# Their auxiliary classifiers would make the training output a tuple; the input transform undoes ImageNet's
# normalisation, which is not the dataset's; without `init_weights` they warn of a change to come.
INCEPTION = {"aux_logits": False, "transform_input": False, "init_weights": True}


@cache
def list_names() -> tuple[str, ...]:
    """The classification networks that torchvision knows, without the quantised ones."""
    return tuple(models.list_models(module=models))


def build(name: str, request: BackboneRequest) -> nn.Module:
    """`torchvision.models.get_model` for the request's classes and, where the network fixes one, image size.

    Raises:
        MolereError: the network cannot be built for these images.
    """
    height, width = request.image_size
    arguments: dict[str, Any] = {"num_classes": request.num_classes}
    if name in {"googlenet", "inception_v3"}:
        arguments |= INCEPTION
    elif name.startswith("vit_"):
        if height != width:
            raise MolereError(
                f"backbone 'torchvision:{name}' takes square images, not {height} x {width}; "
                "give --image-size"
            )
        arguments["image_size"] = height
    elif name.startswith("maxvit"):
        arguments["input_size"] = (height, width)
    try:
        network: nn.Module = models.get_model(name, weights=None, **arguments)
    except Exception as error:  # torchvision reports a size that does not fit by an error of any kind
        reason = " ".join(str(error).split()) or type(error).__name__
        raise MolereError(
            f"backbone 'torchvision:{name}' cannot be built for images of {height} x {width} pixels: {reason}"
        ) from error
    return network
