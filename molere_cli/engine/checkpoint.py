"""Everything a resume needs, both ways: nested state to safetensors plus JSON, and back. No pickle.

Tensors go to `state.safetensors`, named by number and path; the rest to `state.json`, where
`{"$tensor": name}` stands for a tensor, `{"$items": [[key, value]...]}` for a mapping whose keys are not all
strings, and `{"$float": "nan"}` (inf, -inf) for what JSON has no number for. `state.json` comes last, and has
under `$digests` what the files must be (blake2b); what older versions wrote has none, and is believed.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from molere_cli.errors import RunError
from molere_cli.files import json_text, parse_json, replacing, write_text
from molere_cli.run_dir import CHECKPOINT_COMPLETE, DamagedCheckpoint

TENSORS = "state.safetensors"
CLASSIFIER = "classifier.safetensors"
DIGESTS = "$digests"


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
    contents = {CLASSIFIER: classifier_tensors(module), TENSORS: tensors}
    for name, content in contents.items():
        with replacing(folder / name) as temporary:
            save_file(content, temporary)
    digests = {name: _digest_of_file(folder / name) for name in contents}
    digests[CHECKPOINT_COMPLETE] = _digest_of_state(packed)
    write_text(folder / CHECKPOINT_COMPLETE, json_text({**packed, DIGESTS: digests}))


def load_state(folder: Path) -> Any:
    """The state that `save_state` was given.

    Raises:
        DamagedCheckpoint: a file is missing, or is not what was written.
    """
    state, digests = _manifest(folder)
    tensors = _tensors(folder / TENSORS, digests)
    try:
        return unpack(state, tensors)
    except KeyError as error:
        raise DamagedCheckpoint(folder / TENSORS, f"it has no tensor {error}") from error


def load_classifier(module: nn.Module, folder: Path) -> None:
    """Put a checkpoint's parameters and buffers into the classifier's module.

    Raises:
        DamagedCheckpoint: the file is missing, or is not what was written.
        RunError: it belongs to another network.
    """
    tensors = _tensors(folder / CLASSIFIER, _manifest(folder)[1])
    try:
        module.load_state_dict(tensors)
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[0]
        raise RunError(f"{folder / CLASSIFIER} does not fit this backbone: {reason}") from error


def _manifest(folder: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """The packed state, and the digest that each file must have."""
    path = folder / CHECKPOINT_COMPLETE
    try:
        state = parse_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DamagedCheckpoint(path, _reason(error)) from error
    if not isinstance(state, dict):
        raise DamagedCheckpoint(path, "it holds no JSON object")
    digests = state.pop(DIGESTS, {})
    if digests and digests.get(CHECKPOINT_COMPLETE) != _digest_of_state(state):
        raise DamagedCheckpoint(path, NOT_AS_WRITTEN)
    return state, digests


def _tensors(path: Path, digests: Mapping[str, str]) -> dict[str, Tensor]:
    try:
        if path.name in digests and digests[path.name] != _digest_of_file(path):
            raise DamagedCheckpoint(path, NOT_AS_WRITTEN)
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise DamagedCheckpoint(path, _reason(error)) from error


NOT_AS_WRITTEN = "it is not what was written"


def _reason(error: Exception) -> str:
    text = error.strerror if isinstance(error, OSError) else None
    return text or str(error).strip().splitlines()[0]


def _digest_of_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, _blake2b).hexdigest()


def _digest_of_state(packed: Any) -> str:
    return hashlib.blake2b(json_text(packed).encode(), digest_size=16).hexdigest()


def _blake2b() -> Any:
    return hashlib.blake2b(digest_size=16)


def classifier_tensors(module: nn.Module) -> dict[str, Tensor]:
    """A module's `state_dict` as safetensors takes it: contiguous, nothing shared."""
    return {name: value.detach().cpu().contiguous().clone() for name, value in module.state_dict().items()}
