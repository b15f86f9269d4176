"""Files written so that a reader never sees half of one."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`, renamed onto it when the block ends without an error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write an indented JSON file whole or not at all."""
    write_text(path, json.dumps(value, indent=2) + "\n")


def unique_path(path: Path) -> Path:
    """`path`, or `path-2`, `path-3`... if it is taken (the suffix goes before a file's ending)."""
    candidate, number = path, 2
    while candidate.exists():
        candidate = path.with_name(
            f"{path.stem}-{number}{path.suffix}" if path.suffix else f"{path.name}-{number}"
        )
        number += 1
    return candidate
