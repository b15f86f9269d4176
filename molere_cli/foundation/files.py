"""Files written so that a reader never sees half of one, and names that two processes cannot both take."""

from __future__ import annotations

import codecs
import errno
import hashlib
import json
import math
import os
import re
import secrets
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import chain, count
from pathlib import Path
from typing import Any

from molere_cli.foundation.errors import WriteError, shown

# What a rename onto a name says that something else has.
TAKEN = {errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR}
ADVICE = {
    errno.ENOSPC: "make room, and try again",
    errno.EDQUOT: "make room, and try again",
    errno.EFBIG: "raise the limit on the size of files (ulimit -f)",
    errno.EACCES: "choose a place that you may write to",
    errno.EPERM: "choose a place that you may write to",
    errno.EROFS: "choose a place that you may write to",
    errno.ENAMETOOLONG: "choose a shorter name",
}
HIDDEN = re.compile(r"\..+\.[0-9a-f]{8}\.tmp")
LITTER_AGE = 3600.0
"""Seconds without a change after which a temporary file counts as left behind."""
JSON_LIMIT = 1 << 24
"""Bytes of JSON that are read at most, unless a reader says otherwise."""


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`, renamed onto it when the block ends without an error; what is then
    there outlasts a power cut.

    Raises:
        WriteError: the system refuses.
    """
    with temporary_for(path) as temporary:
        yield temporary
        sync_file(temporary)
        temporary.replace(path)
        sync_folder(path.parent)


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A hidden folder beside `path` that gets that name when the block ends without an error, and is deleted
    with all that is in it else.

    Raises:
        FileExistsError: the name is taken.
        WriteError: the system refuses.
    """
    hidden = hidden_beside(path)
    make_folder(hidden)
    try:
        with writing(path):
            yield hidden
            claim_folder(hidden, path)
    finally:
        with suppress(OSError):
            shutil.rmtree(hidden)


@contextmanager
def temporary_for(path: Path) -> Iterator[Path]:
    """A hidden path beside `path` that nobody else uses; the file there is deleted in the end.

    Raises:
        WriteError: the system refuses what the block does.
    """
    make_folder(path.parent)
    temporary = hidden_beside(path)
    try:
        with writing(path):
            yield temporary
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """What the system has against a write in the block becomes a sentence that names `path`.

    A FileExistsError goes through, since it says that a name is taken.

    Raises:
        WriteError: the system refuses.
    """
    try:
        yield
    except FileExistsError:
        raise
    except OSError as error:
        raise refused(path, error) from error


def refused(path: Path, error: OSError) -> WriteError:
    """What to say of a file or folder that the system does not let us write."""
    reason = os.strerror(error.errno) if error.errno else str(error)
    advice = f"; {ADVICE[error.errno]}" if error.errno in ADVICE else ""
    return WriteError(f"cannot write {path}: {reason}{advice}")


def make_folder(path: Path) -> None:
    """Make a folder, with those that it is in, unless it is there.

    Raises:
        WriteError: the system refuses, or there is something else of that name.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise WriteError(f"cannot make the folder {path}: there is a file of that name") from error
    except OSError as error:
        raise refused(path, error) from error


def sync_file(path: Path) -> None:
    """Wait until what a file holds is on the disk."""
    _sync(path, os.O_RDWR)


def sync_folder(path: Path) -> None:
    """Wait until the names in a folder are on the disk, where the system can do that."""
    if hasattr(os, "O_DIRECTORY"):
        with skipping(errno.EINVAL, errno.ENOTSUP):
            _sync(path, os.O_RDONLY | os.O_DIRECTORY)


def _sync(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def skipping(*numbers: int) -> Iterator[None]:
    """OSErrors of these numbers are skipped."""
    try:
        yield
    except OSError as error:
        if error.errno not in numbers:
            raise


def hidden_beside(path: Path) -> Path:
    """A path beside `path` that nothing has, and that `*` leaves out in a shell."""
    # Cut, so that a name which is just short enough has a temporary name too.
    return path.with_name(f".{path.name[:40]}.{secrets.token_hex(4)}.tmp")


def leftovers(folder: Path, *, age: float) -> Iterator[Path]:
    """What `hidden_beside` has named in a folder, and nobody has touched for `age` seconds."""
    with suppress(OSError):
        for entry in list(os.scandir(folder)):
            if HIDDEN.fullmatch(entry.name) and time.time() - entry.stat().st_mtime >= age:
                yield Path(entry.path)


def sweep(folder: Path, *, age: float = LITTER_AGE) -> None:
    """Delete the temporary files that killed processes have left in a folder."""
    for path in leftovers(folder, age=age):
        with suppress(OSError):  # a folder, or gone
            path.unlink()


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


def read_text(path: Path, *, limit: int, by_mark: bool = False) -> str:
    """A UTF-8 text file of at most `limit` bytes.

    Args:
        by_mark: leave out a byte order mark and, where it says so, read UTF-16; for what people write.

    Raises:
        OSError: it cannot be read.
        ValueError: it is larger, or in another encoding.
    """
    with path.open("rb") as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        raise ValueError(f"it has more than {limit >> 20} MiB")
    if not by_mark:
        return content.decode("utf-8")
    is_utf_16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    return content.decode("utf-16" if is_utf_16 else "utf-8-sig")


def parse_json(text: str) -> Any:
    """Plain values from JSON.

    Raises:
        ValueError: it is no JSON, is nested too deeply, has a key twice in one object, or a number that
            float64 does not have: NaN, Infinity, 1e999.
    """
    try:
        return json.loads(
            text,
            parse_constant=_refuse,
            parse_float=_finite,
            object_pairs_hook=_without_repeats,
        )
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no number in JSON")


def _finite(text: str) -> float:
    if not math.isfinite(value := float(text)):
        raise ValueError(f"{shown(text)} is larger than any float64")
    return value


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {shown(twice)} is there twice")
    return values


def digest(content: bytes) -> str:
    """BLAKE2b of 128 bits, as 32 hex digits."""
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def digest_of_file(path: Path) -> str:
    """`digest` of what a file holds, read piece by piece."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def digest_of_values(value: Any) -> str:
    """`digest` of plain values, whatever the order of their keys."""
    return digest(json.dumps(value, sort_keys=True).encode())


def claim_file(temporary: Path, path: Path) -> None:
    """Give a file the name `path`, unless that is taken.

    Raises:
        FileExistsError: it is, by whatever process.
    """
    sync_file(temporary)
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links
        path.open("x").close()
        temporary.replace(path)
    else:
        temporary.unlink()
    sync_folder(path.parent)


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
    sync_folder(path.parent)


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


def same_fingerprint(one: str, other: str) -> bool:
    """Whether two fingerprints agree in all that both cover."""
    return all(mine == theirs for mine, theirs in zip(one.split("+"), other.split("+"), strict=False))
