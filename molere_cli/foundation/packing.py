"""Nested state as JSON and tensors, and back; for files and for other processes. No pickle.

Tensors are named by number and path. In the JSON `{"$tensor": name}` represents a tensor, `{"$tuple": [...]}`
for a tuple, `{"$items": [[key, value]...]}` for a mapping whose keys are not all strings, and
`{"$float": "nan"}` (inf, -inf) for what JSON has no number for.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor


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
