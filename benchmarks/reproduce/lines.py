"""Files of results: JSON lines, one a cell.

A line is a compact JSON object whose `cell` is EXPERIMENT/VARIANT/ROW/sSEED, and there is one of each cell.
Lines stand in the order of experiment, variant, row and seed (a number), and .gitattributes asks git for the
union of both sides' lines, so that the work of two machines merges; the next line written restores order.
"""

from __future__ import annotations

import fcntl
import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

from molere_cli.foundation.errors import MolereError
from molere_cli.foundation.files import replacing

Line = dict[str, Any]
Place = tuple[str, str, str, int]


class ResultsError(MolereError):
    """A file of results has a line that is no result, or two of one cell."""


def place(name: str) -> Place:
    """Experiment, variant, row and seed of a cell's name; raises ValueError if it is none."""
    experiment, variant, row, seed = name.split("/")
    return experiment, variant, row, int(seed.removeprefix("s"))


def read_lines(path: Path) -> Mapping[str, Line]:
    """The lines of a file by cell, in order; none where there is no file.

    A file is parsed once as long as it stays the same, so callers must leave the lines as they are.
    Raises ResultsError; a last line that is cut off is left out, which stderr says.
    """
    try:
        found = path.stat()
    except FileNotFoundError:
        return {}
    return _parsed_once(path, found.st_ino, found.st_mtime_ns, found.st_size)


def write_line(path: Path, line: Line) -> None:
    """Put a cell's line into its file, in the place of an older one; other processes may do so meanwhile.

    The file is replaced whole: whoever reads it, or is killed, never sees or leaves half a line. Raises
    ResultsError if the file cannot be read; even then the line is added at its end, for it may have cost
    hours.
    """
    with _locked(path):
        try:
            lines = _parsed(path) if path.exists() else {}
        except ResultsError:
            with path.open("a", encoding="utf-8") as file:
                file.write("\n" + _as_text([line]))
            raise
        ordered = _in_order({**lines, line["cell"]: line}.values())
        with replacing(path) as temporary, temporary.open("w", encoding="utf-8") as file:
            file.write(_as_text(ordered.values()))
            file.flush()
            os.fsync(file.fileno())  # or a power cut after the renaming might leave an empty file


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """One process at a time; the lock ends with its process, however that ends.

    It is a file of its own, since the one that it guards is replaced.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_name(f".{path.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@lru_cache(maxsize=64)
def _parsed_once(path: Path, *_version: int) -> Mapping[str, Line]:
    return _parsed(path)


def _parsed(path: Path) -> Mapping[str, Line]:
    *whole, rest = path.read_bytes().split(b"\n")
    lines: dict[str, Line] = {}
    for number, text in enumerate([*whole, rest], start=1):
        if not text.strip():
            continue
        try:
            line = json.loads(text)
            place(line["cell"])
        except (ValueError, TypeError, KeyError, AttributeError):
            if number > len(whole):
                print(f"{path}: line {number} is cut off and left out", file=sys.stderr, flush=True)
                continue
            raise ResultsError(f"{path}, line {number}: this is no cell's result; remove it") from None
        if line["cell"] in lines:
            raise ResultsError(
                f"{path}, line {number}: a second line of {line['cell']}; remove one of the two"
            )
        lines[line["cell"]] = line
    return _in_order(lines.values())


def _in_order(lines: Iterable[Line]) -> dict[str, Line]:
    return {line["cell"]: line for line in sorted(lines, key=lambda line: place(line["cell"]))}


def _as_text(lines: Iterable[Line]) -> str:
    return "".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines)
