"""What commands print, and where it goes: a terminal, a pipe, a file; each may be narrow, full or closed."""

from __future__ import annotations

import errno
import io
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import typer

from molere_cli.shown import NARROW, harmless

PIPE_WIDTH = 120
REPLACED_HANDLERS = {"strict", "surrogateescape", "backslashreplace"}
ENDED_BY_SIGPIPE = 141


def say(sentence: str, *, err: bool = False) -> None:
    """Print one line; what steers a terminal is escaped, line breaks included."""
    typer.echo(harmless(sentence), err=err)


def show(text: str) -> None:
    """Print the lines of a table or a document, whose parts are harmless already."""
    typer.echo(text)


def show_table(
    title: str, headings: Sequence[str], rows: Sequence[Sequence[str]], *, num_texts: int = 1
) -> None:
    """Print a table (`table_text`) that fits stdout."""
    from molere_cli.tables import table_text

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


def ready_streams() -> None:
    """Give stdout and stderr to a process that was started without, and have them write every character: what
    the encoding lacks as what is nearest to it."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 - for as long as the process
        elif isinstance(stream, io.TextIOWrapper) and stream.errors in REPLACED_HANDLERS:
            stream.reconfigure(errors=NARROW)


@contextmanager
def written_out() -> Iterator[None]:
    """Have what the block prints written when it ends.

    A reader who has gone ends the process as SIGPIPE would; what cannot be written for another reason, a full
    disk say, ends it with a sentence and exit code 1.
    """
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
    except OSError as error:
        stuck = [name for name in ("stdout", "stderr") if _is_stuck(name)]
        if not stuck:
            raise
        if error.errno == errno.EPIPE:
            sys.exit(ENDED_BY_SIGPIPE)
        say(f"molere: cannot write to {stuck[0]}: {error.strerror}", err=True)
        sys.exit(1)


def _is_stuck(name: str) -> bool:
    """Whether a stream cannot write what it holds; it then holds it no more."""
    stream = getattr(sys, name)
    try:
        stream.flush()
    except OSError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
        return True
    return False
