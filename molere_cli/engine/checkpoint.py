"""Everything a resume needs, both ways: nested state to safetensors plus JSON, and back. No pickle.

Tensors go to `state.safetensors`, named by number and path; the rest to `state.json`, where
`{"$tensor": name}` stands for a tensor, `{"$items": [[key, value]...]}` for a mapping whose keys are not all
strings, and `{"$float": "nan"}` (inf, -inf) for what JSON has no number for.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from molere_cli.errors import RunError, on_one_line
from molere_cli.files import json_text, read_json, sync_file, write_text, writing
from molere_cli.run_dir import CHECKPOINT_COMPLETE

TENSORS = "state.safetensors"
CLASSIFIER = "classifier.safetensors"
STATE_LIMIT = 1 << 28
"""Bytes of `state.json` that are read at most."""
OS_ERROR = re.compile(r"\(os error (\d+)\)")


def pack(value: Any, tensors: dict[str, Tensor], path: str = "") -> Any:
    """The JSON form of a nested state; tensors are put into `tensors`."""
    if isinstance(value, Tensor):
        # The number tells apart paths that read alike, as of the keys 1 and "1".
        name = f"{len(tensors)}{path}"
        tensors[name] = value.detach().cpu().contiguous().clone()
        return {"$tensor": name}
    if isinstance(value, Mapping):
        packed = [[key, pack(item, tensors, f"{path}/{key}")] for key, item in value.items()]
        if all(isinstance(key, str) and not key.startswith("$") for key in value):
            return dict(packed)
        return {"$items": packed}
    if isinstance(value, list | tuple):
        items = [pack(item, tensors, f"{path}/{number}") for number, item in enumerate(value)]
        return {"$tuple": items} if isinstance(value, tuple) else items
    if isinstance(value, float) and not math.isfinite(value):
        return {"$float": str(value)}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"state at {path!r} is a {type(value).__name__}, which a checkpoint cannot hold")


def unpack(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    """The nested state that `pack` was given."""
    if isinstance(value, list):
        return [unpack(item, tensors) for item in value]
    if not isinstance(value, dict):
        return value
    if "$tensor" in value:
        return tensors[value["$tensor"]]
    if "$float" in value:
        return float(value["$float"])
    if "$tuple" in value:
        return tuple(unpack(item, tensors) for item in value["$tuple"])
    if "$items" in value:
        return {key: unpack(item, tensors) for key, item in value["$items"]}
    return {key: unpack(item, tensors) for key, item in value.items()}


def save_state(state: Mapping[str, Any], module: nn.Module, folder: Path) -> None:
    """Write a checkpoint into an empty folder: the classifier as it loads elsewhere, and the rest."""
    tensors: dict[str, Tensor] = {}
    packed = pack(state, tensors)
    _save(classifier_tensors(module), folder / CLASSIFIER)
    _save(tensors, folder / TENSORS)
    write_text(folder / CHECKPOINT_COMPLETE, json_text(packed))


def _save(tensors: dict[str, Tensor], path: Path) -> None:
    with writing(path):
        try:
            save_file(tensors, path)
        except SafetensorError as error:
            # What the system says comes as text alone: "I/O error: No space left on device (os error 28)".
            if (number := OS_ERROR.search(str(error))) is None:
                raise
            raise OSError(int(number[1]), str(error)) from error
        sync_file(path)


def load_state(folder: Path) -> Any:
    """The state that `save_state` was given.

    Raises:
        RunError: a file is missing or damaged.
    """
    try:
        tensors = load_file(folder / TENSORS)
        return unpack(read_json(folder / CHECKPOINT_COMPLETE, limit=STATE_LIMIT), tensors)
    except (OSError, ValueError, KeyError, TypeError, RecursionError, SafetensorError) as error:
        raise RunError(f"the checkpoint {folder} cannot be read: {on_one_line(str(error))}") from error


def load_classifier(module: nn.Module, folder: Path) -> None:
    """Put a checkpoint's parameters and buffers into the classifier's module.

    Raises:
        RunError: the file is missing or damaged, or belongs to another network.
    """
    try:
        module.load_state_dict(load_file(folder / CLASSIFIER))
    except (OSError, SafetensorError, RuntimeError) as error:
        reason = on_one_line(str(error).strip().splitlines()[0], limit=200)
        raise RunError(f"{folder / CLASSIFIER} does not fit this backbone: {reason}") from error


def classifier_tensors(module: nn.Module) -> dict[str, Tensor]:
    """A module's `state_dict` as safetensors takes it: contiguous, nothing shared."""
    return {name: value.detach().cpu().contiguous().clone() for name, value in module.state_dict().items()}
