"""A dataset of torchvision's found where it belongs, or downloaded to there, or one sentence."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from molere_cli import DataError, DatasetRequest

SourceT = TypeVar("SourceT")


def found_or_fetched(
    title: str,
    make: Callable[[bool], SourceT],
    *,
    place: Path,
    request: DatasetRequest,
    by_hand: str | None = None,
) -> SourceT:
    """`make(False)`; where that finds nothing and `--download` was given, `make(True)`.

    Args:
        title: the dataset, as sentences call it.
        make: torchvision's constructor, given whether to download.
        place: where the dataset belongs, for the sentences.
        by_hand: the files to put there where nothing can be downloaded.

    Raises:
        DataError: it is not there, cannot be downloaded, or is damaged.
    """
    try:
        return make(False)
    except Exception as error:  # torchvision reports a damaged file by whatever it stumbles over
        text = str(error)
        if not (isinstance(error, RuntimeError) and text.startswith("Dataset not found")):
            raise DataError(f"{title} in {place} cannot be read: {one_line(error)}") from error
        if by_hand is not None:
            raise DataError(
                f"{title} is not in {place} and cannot be downloaded; put {by_hand} there, "
                "or look elsewhere with --data-dir"
            ) from error
        if not request.download:
            damaged = ", or is damaged there" if "corrupted" in text else ""
            raise DataError(
                f"{title} is not in {place}{damaged}; --download fetches it, --data-dir looks elsewhere"
            ) from error
    try:
        return make(True)
    except Exception as error:  # network, archive and file system each have errors of their own
        raise DataError(f"{title} could not be downloaded to {place}: {one_line(error)}") from error


def one_line(error: Exception) -> str:
    """What went wrong, on one line."""
    text = (str(error).strip().splitlines() or [""])[0]
    return (
        text
        if isinstance(error, OSError | RuntimeError) and text
        else f"{type(error).__name__} {text}".strip()
    )
