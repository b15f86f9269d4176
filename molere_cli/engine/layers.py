"""A network's layers: the one that classifies, its input, modes, and where tensors are held."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from molere_cli.foundation.errors import TrainingError


def classification_layer(module: nn.Module) -> nn.Module:
    """The layer whose input is the penultimate features: timm's `get_classifier()`, else the last Linear.

    Raises:
        TrainingError: the backbone has neither.
    """
    get_classifier = getattr(module, "get_classifier", None)
    if callable(get_classifier):
        layer = get_classifier()
        # timm's Identity represents a head that was left out; a tuple, for several heads.
        if isinstance(layer, nn.Module) and not isinstance(layer, nn.Identity):
            return layer
    linears = [layer for layer in module.modules() if isinstance(layer, nn.Linear)]
    if not linears:
        raise TrainingError(f"{type(module).__name__} has no nn.Linear whose input could be its features")
    return linears[-1]


def check_single_head(module: nn.Module) -> None:
    """Raise TrainingError if the backbone has several classification layers, of which one would train."""
    get_classifier = getattr(module, "get_classifier", None)
    if callable(get_classifier) and isinstance(get_classifier(), tuple | list):
        raise TrainingError(
            f"{type(module).__name__} has several classification layers; leave out --freeze-backbone"
        )


@contextmanager
def captured_input(layer: nn.Module) -> Iterator[list[Tensor]]:
    """The first input of every call of `layer` within the block."""
    captured: list[Tensor] = []

    def keep(_layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        captured.append(inputs[0])

    handle = layer.register_forward_pre_hook(keep)
    try:
        yield captured
    finally:
        handle.remove()


@contextmanager
def deterministic_layers(module: nn.Module) -> Iterator[None]:
    """Everything in eval mode but batch norm, which keeps using batch statistics."""
    with kept_modes(module):
        batch_norms = [
            layer for layer in module.modules() if isinstance(layer, _BatchNorm) and layer.training
        ]
        module.eval()
        # Running statistics lag behind parameters that move; the training step itself used the batch's.
        for layer in batch_norms:
            layer.training = True
        yield


@contextmanager
def kept_modes(module: nn.Module) -> Iterator[None]:
    """Put the mode of every layer back after the block."""
    modes = [(layer, layer.training) for layer in module.modules()]
    try:
        yield
    finally:
        for layer, was_training in modes:
            layer.training = was_training


def tensor_places(module: nn.Module) -> dict[str, list[str]]:
    """Where each parameter and buffer is held: its name, as `named_parameters` and `named_buffers` have it,
    to one name for every module that holds it. A module that is used in several places counts once."""
    places: dict[int, list[str]] = {}
    for prefix, member in module.named_modules():
        for attribute, tensor in (*member._parameters.items(), *member._buffers.items()):
            if tensor is not None:
                places.setdefault(id(tensor), []).append(f"{prefix}.{attribute}" if prefix else attribute)
    named = (*module.named_parameters(), *module.named_buffers())
    return {name: places[id(tensor)] for name, tensor in named}
