"""Pictures on the page: thumbnails that runs have kept, as part of the file, within a budget."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from PIL import Image, UnidentifiedImageError

from molere_cli import RunError
from molere_cli.report import RunDir, RunTable

MAX_BYTES = 11_000_000
"""Of all pictures of a page together, as they stand in it."""
TINY = 48
"""Pixels of the longer side up to which a picture is enlarged without smoothing."""


@dataclass(frozen=True)
class Picture:
    """source: a data URI; None where no run has kept the image, or the budget is spent. alternative: what is
    heard by who cannot see it. facts: lines below it, path last. is_tiny: to be enlarged pixel by pixel."""

    source: str | None
    alternative: str
    facts: tuple[str, ...]
    is_tiny: bool = False


class ImageBudget:
    """The thumbnails of several runs; an image is taken from the first that has it."""

    def __init__(self) -> None:
        self._kept: dict[str, Mapping[tuple[str, int], bytes]] = {}
        self.num_bytes = 0
        self.num_left_out = 0
        self.problems: list[str] = []

    def picture(
        self, runs: Iterable[RunDir], place: tuple[str, int], *, alternative: str, facts: Sequence[str]
    ) -> Picture:
        """The image at `place`, (set, index) as in `thumbnails.parquet`."""
        webp = next((found for run in runs if (found := self._of(run).get(place)) is not None), None)
        if webp is None:
            return Picture(None, alternative, tuple(facts))
        source = "data:image/webp;base64," + base64.b64encode(webp).decode("ascii")
        if self.num_bytes + len(source) > MAX_BYTES:
            self.num_left_out += 1
            return Picture(None, alternative, tuple(facts))
        self.num_bytes += len(source)
        return Picture(source, alternative, tuple(facts), is_tiny=max(_size(webp)) <= TINY)

    def _of(self, run: RunDir) -> Mapping[tuple[str, int], bytes]:
        key = str(run.path)
        if key not in self._kept:
            try:
                self._kept[key] = _thumbnails(run)
            except RunError as error:
                self.problems.append(str(error))
                self._kept[key] = {}
        return self._kept[key]


def _thumbnails(run: RunDir) -> dict[tuple[str, int], bytes]:
    table = RunTable.thumbnails(run)
    if table is None:
        return {}
    columns = (column.to_pylist() for column in table.read(["set", "index", "webp"]).columns)
    found = {(name, index): webp for name, index, webp in zip(*columns, strict=True)}
    for webp in found.values():
        try:
            _size(webp)
        except (UnidentifiedImageError, OSError, ValueError) as error:
            raise RunError(f"{run.thumbnails_path} is damaged: it holds what is no WebP picture") from error
    return found


def _size(webp: bytes) -> tuple[int, int]:
    with Image.open(io.BytesIO(webp), formats=["WEBP"]) as picture:
        return picture.size
