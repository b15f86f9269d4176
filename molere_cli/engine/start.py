"""Where a classifier starts: the tensors of a safetensors file in place of random ones."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from molere_cli.engine.checkpoint import check_weights
from molere_cli.engine.layers import classification_layer
from molere_cli.foundation.errors import ConfigError

# Batch norm counts its batches, for nothing that a run uses; converted files often leave the counts out.
COUNTER = ".num_batches_tracked"


def load_weights(module: nn.Module, path: Path, *, backbone: str) -> str | None:
    """Put a file's parameters and buffers into a module, all or nothing.

    Names and shapes must be the module's own but for the classification layer's, which stays as it was
    initialised where the file has it in another shape, or not at all.

    Args:
        path: a checkpoint's `classifier.safetensors`, or any `state_dict` as safetensors.
        backbone: the module, as sentences call it.

    Returns:
        A sentence if the classification layer stays as it was, else None.

    Raises:
        ConfigError: the file cannot be read, has values that are not finite, or belongs to another network.
        DamagedCheckpoint: it is a checkpoint's, and not what was written.
    """
    theirs, ours = _read(path), module.state_dict()
    _check_finite(theirs, path)
    # The one layer that may differ: a checkpoint of other classes still has the features.
    layer = classification_layer(module)
    name = next(name for name, member in module.named_modules() if member is layer)
    prefix = f"{name}." if name else ""
    _check_fit(
        {key: value for key, value in theirs.items() if not key.startswith(prefix)},
        {key: value for key, value in ours.items() if not key.startswith(prefix)},
        where=f"{path} does not fit backbone {backbone!r}",
    )
    shapes, wanted = (
        {key: tuple(value.shape) for key, value in tensors.items() if key.startswith(prefix)}
        for tensors in (theirs, ours)
    )
    if shapes == wanted:
        module.load_state_dict(theirs, strict=False)
        return None
    module.load_state_dict({k: v for k, v in theirs.items() if not k.startswith(prefix)}, strict=False)
    key = next(key for key in {**wanted, **shapes} if shapes.get(key) != wanted.get(key))
    there, here = (f"one of shape {found[key]}" if key in found else "none" for found in (shapes, wanted))
    return f"the classification layer starts at random: of {key}, {path} has {there}, the backbone {here}"


def _read(path: Path) -> dict[str, Tensor]:
    try:
        check_weights(path)
        return load_file(path)
    except OSError as error:
        raise ConfigError(f"cannot read the weights {path}: {error.strerror or error}") from error
    except SafetensorError as error:
        raise ConfigError(
            f"cannot read the weights {path}: it is no safetensors file ({error}); others are never read"
        ) from error


def _check_finite(tensors: Mapping[str, Tensor], path: Path) -> None:
    broken = [
        key
        for key, value in tensors.items()
        if value.is_floating_point() and not value.float().isfinite().all()
    ]
    if broken:
        raise ConfigError(
            f"the weights {path} cannot start a training: {broken[0]}{_and_more(broken)} has values that are "
            "not finite (NaN or infinity); give a file of a training that did not diverge"
        )


def _check_fit(theirs: Mapping[str, Tensor], ours: Mapping[str, Tensor], *, where: str) -> None:
    missing = [key for key in ours if key not in theirs and not key.endswith(COUNTER)]
    unexpected = [key for key in theirs if key not in ours]
    problems = []
    if missing:
        problems.append(f"it has no {missing[0]}{_and_more(missing)}")
    if unexpected:
        problems.append(f"it has {unexpected[0]}{_and_more(unexpected)}, which the backbone does not have")
    if problems:
        raise ConfigError(f"{where}: {'; '.join(problems)}")
    for key, value in theirs.items():
        if value.shape != ours[key].shape:
            raise ConfigError(
                f"{where}: {key} has shape {tuple(value.shape)} there and {tuple(ours[key].shape)} here"
            )


def _and_more(keys: list[str]) -> str:
    return f" (and {len(keys) - 1} more)" if len(keys) > 1 else ""
