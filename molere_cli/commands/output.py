"""What commands print, and where it goes: a terminal, a pipe, a file; each may be narrow, full or closed."""

from __future__ import annotations

import errno
import io
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from molere_cli.foundation.plain_text import NARROW, harmless

PIPE_WIDTH = 120
REPLACED_HANDLERS = {"strict", "surrogateescape", "backslashreplace"}


def say(sentence: str, *, err: bool = False) -> None:
    """Print one line; what steers a terminal is escaped, line breaks included."""
    # Not by typer.echo, which writes UTF-8 where the encoding is ASCII.
    print(harmless(sentence), file=sys.stderr if err else sys.stdout, flush=True)


def show(text: str) -> None:
    """Print the lines of a table or a document, whose parts are harmless already."""
    print(text, flush=True)


def show_table(
    title: str, headings: Sequence[str], rows: Sequence[Sequence[str]], *, num_texts: int = 1
) -> None:
    """Print a table (`table_text`) that fits stdout."""
    from molere_cli.foundation.text_table import table_text

    width = stdout_width() or PIPE_WIDTH
    show(table_text(title, headings, rows, width=width, encoding=stdout_encoding(), num_texts=num_texts))


def stdout_width() -> int | None:
    """The columns of the terminal, or those that COLUMNS asks for; None for a pipe or a file."""
    if sys.stdout.isatty() or "COLUMNS" in os.environ:
        return shutil.get_terminal_size().columns
    return None


def stdout_encoding() -> str:
    """The encoding of what reads stdout."""
    return sys.stdout.encoding or "utf-8"


class _Standard(io.RawIOBase):
    """A standard stream whose errors say which one it is, as the file name of the OSError."""

    def __init__(self, raw: io.RawIOBase, name: str) -> None:
        self._raw, self._name = raw, name

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._raw.fileno()

    def isatty(self) -> bool:
        return self._raw.isatty()

    def write(self, data: Any) -> int | None:
        try:
            return self._raw.write(data)
        except OSError as error:
            raise OSError(error.errno, error.strerror, self._name) from error


STREAMS = ("stdout", "stderr")


def ready_streams() -> None:
    """Make stdout and stderr fit for what commands print.

    A process that was started without them gets them; they write every character, what the encoding lacks as
    what is nearest to it; and `written_out` knows their errors.
    """
    for name in STREAMS:
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 - for as long as the process
        elif type(stream) is io.TextIOWrapper and isinstance(stream.buffer, io.BufferedWriter | io.FileIO):
            setattr(sys, name, _ready(stream, name))


def silence() -> None:
    """Have nothing printed from now on, since another process prints the same."""
    sys.stdout = sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - for as long as the process


def _ready(stream: io.TextIOWrapper, name: str) -> io.TextIOWrapper:
    raw: Any = getattr(stream.buffer, "raw", stream.buffer)
    if isinstance(raw, _Standard):
        return stream
    stream.flush()
    unbuffered = stream.write_through
    return io.TextIOWrapper(
        io.BufferedWriter(_Standard(raw, name)),
        encoding=stream.encoding,
        errors=NARROW if stream.errors in REPLACED_HANDLERS else stream.errors,
        line_buffering=stream.line_buffering or unbuffered,
    )


@contextmanager
def written_out() -> Iterator[None]:
    """Have what the block prints written when it ends.

    A reader who has gone (`| head -1`) ends the process in silence, what cannot be written for another reason
    (a full disk) with a sentence; both with exit code 1.
    """
    ended: SystemExit | None = None
    try:
        try:
            yield
        except SystemExit as of_the_block:
            ended = of_the_block
            raise
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
    except OSError as error:
        if error.filename not in STREAMS:
            raise
        _give_up(error.filename)
        if error.filename == "stderr" and ended is not None:
            # Nobody is left to be told, as when a signal ends a command because its terminal was closed.
            raise ended from None
        if error.errno != errno.EPIPE and error.filename != "stderr":
            say(f"molere: cannot write to {error.filename}: {error.strerror}", err=True)
        sys.exit(1)


def _give_up(name: str) -> None:
    # What a stream still holds goes nowhere, or the interpreter would try again at its end.
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, getattr(sys, name).fileno())
    os.close(nowhere)
