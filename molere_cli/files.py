"""Files written so that a reader never sees half of one, and names that two processes cannot both take."""

from __future__ import annotations

import errno
import json
import math
import os
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import chain, count
from pathlib import Path
from typing import Any

# What a rename onto a name says that something else has.
TAKEN = {errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR}


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`, renamed onto it when the block ends without an error."""
    with temporary_for(path) as temporary:
        yield temporary
        temporary.replace(path)


@contextmanager
def temporary_for(path: Path) -> Iterator[Path]:
    """A hidden path beside `path` that nobody else uses; the file there is deleted in the end."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = hidden_beside(path)
    try:
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


def hidden_beside(path: Path) -> Path:
    """A path beside `path` that nothing has, and that `*` leaves out in a shell."""
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write an indented JSON file whole or not at all."""
    write_text(path, json_text(value, indent=2) + "\n")


def json_text(value: Any, *, indent: int | None = None) -> str:
    """Plain values as JSON.

    Raises:
        ValueError: a number is nan or infinite, which JSON does not have; see `with_nulls`.
    """
    return json.dumps(value, indent=indent, allow_nan=False)


def with_nulls(value: Any) -> Any:
    """The same plain values, with None for every number that is nan or infinite."""
    if isinstance(value, Mapping):
        return {key: with_nulls(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [with_nulls(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def parse_json(text: str) -> Any:
    """Plain values from JSON.

    Raises:
        ValueError: it is no JSON, or has a NaN or an Infinity.
    """
    return json.loads(text, parse_constant=_refuse)


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no number in JSON")


def claim_file(temporary: Path, path: Path) -> None:
    """Give a file the name `path`, unless that is taken.

    Raises:
        FileExistsError: it is, by whatever process.
    """
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links
        path.open("x").close()
        temporary.replace(path)
    else:
        temporary.unlink()


def claim_folder(temporary: Path, path: Path) -> None:
    """Give a folder that is not empty the name `path`, unless that is taken.

    Raises:
        FileExistsError: it is, by whatever process.
    """
    # A rename would put the folder in the place of an empty one, but of nothing else.
    if path.exists():
        raise FileExistsError(path)
    try:
        temporary.rename(path)
    except OSError as error:
        if error.errno in TAKEN:
            raise FileExistsError(path) from error
        raise


def claim_name(path: Path, claim: Callable[[Path], None], *, numbered: bool, suffix: str = "") -> Path:
    """Claim `path`; or, if it is taken and may be `numbered`, `path-2`, `path-3`...

    Args:
        claim: raises FileExistsError for a name that is taken.
        suffix: what stays behind the number.

    Raises:
        FileExistsError: it is taken, and may not be numbered.
    """
    stem = path.name.removesuffix(suffix)
    others = (path.with_name(f"{stem}-{number}{suffix}") for number in count(2)) if numbered else ()
    for name in chain([path], others):
        with suppress(FileExistsError):
            claim(name)
            return name
    raise FileExistsError(path)
