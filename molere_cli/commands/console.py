"""What a person sees while a run goes on: a bar on a terminal, plain lines elsewhere; all on stderr."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn, track
from rich.table import Column
from rich.text import Text

from molere_cli.foundation.plain_text import harmless
from molere_cli.foundation.progress import NoProgress
from molere_cli.foundation.progress import Progress as ProgressProtocol

BAR_WIDTH = 24
SILENCE = 30.0
"""Seconds after which long work shows that it goes on."""

T = TypeVar("T")

stderr = Console(stderr=True)


@contextmanager
def progress_display(*, quiet: bool) -> Iterator[ProgressProtocol]:
    """The display that fits, for the length of the block: none, a bar, or lines."""
    display = Notes() if quiet else Bars() if stderr.is_terminal else Lines()
    try:
        yield display
    finally:
        # A run that an error or a signal has ended leaves its bar, which hides the cursor.
        with suppress(OSError):  # of a terminal that has been closed
            display.run_ended(None)


class Notes(NoProgress):
    """Shows notes alone."""

    def note(self, message: str) -> None:
        _line(f"note: {message}", style="yellow")

    def data_taken(self, line: str, remarks: Sequence[str]) -> None:
        for remark in remarks:
            self.note(remark)


class _Talkative(Notes):
    """Says what was taken of a dataset, once."""

    _last_taken = ""

    def data_taken(self, line: str, remarks: Sequence[str]) -> None:
        if line != self._last_taken:
            _line(line)
        self._last_taken = line


class Lines(_Talkative):
    """A line when a run starts, ten as it goes, one when it ends."""

    def run_started(self, label: str, *, seed: int, num_epochs: int, path: Path | None) -> None:
        self._epochs, self._label = num_epochs, f"{label} seed {seed}"
        _line(f"{self._label}: {num_epochs} epochs")

    def epoch_ended(self, metrics: Mapping[str, float]) -> None:
        number = int(metrics["epoch"]) + 1
        if number % max(1, self._epochs // 10) == 0 or number == self._epochs:
            _line(f"{self._label}: epoch {number}/{self._epochs} {summary(metrics)}")


class Bars(_Talkative):
    """A progress bar a run, with loss, accuracy, weight spread and time left."""

    def __init__(self) -> None:
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._epochs = 0

    def run_started(self, label: str, *, seed: int, num_epochs: int, path: Path | None) -> None:
        self._epochs = num_epochs
        self._bar = Progress(
            # Where they do not fit, label and status go on in the next line: no number is cut off.
            TextColumn("{task.description}", markup=False, table_column=Column(overflow="fold")),
            BarColumn(bar_width=min(BAR_WIDTH, stderr.width // 8)),
            TextColumn("{task.fields[status]}", markup=False, table_column=Column(overflow="fold")),
            TimeRemainingColumn(),
            console=stderr,
        )
        self._task = self._bar.add_task(harmless(f"{label} s{seed}"), total=num_epochs, status="")
        self._bar.start()

    def step_taken(self, *, epoch: int, step: int, num_steps: int, loss: float) -> None:
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=epoch + step / num_steps)

    def epoch_ended(self, metrics: Mapping[str, float]) -> None:
        if self._bar is not None and self._task is not None:
            number = int(metrics["epoch"]) + 1
            status = f"{number}/{self._epochs} {summary(metrics)}"
            self._bar.update(self._task, completed=number, status=status)

    def run_ended(self, path: Path | None) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def watched(items: Iterable[T], *, total: int, doing: str, quiet: bool) -> Iterator[T]:
    """The items as they come, with a bar on a terminal and a line every half minute elsewhere."""
    if quiet:
        yield from items
        return
    if stderr.is_terminal:
        yield from track(items, description=doing, total=total, console=stderr, transient=True)
        return
    said = time.monotonic()
    for number, item in enumerate(items, 1):
        if time.monotonic() - said >= SILENCE:
            said = time.monotonic()
            _line(f"{doing}: {number:,} of {total:,}")
        yield item


def _line(text: str, style: str = "") -> None:
    # As Text, in which rich looks for no markup.
    stderr.print(Text(harmless(text), style=style), soft_wrap=True)


def summary(metrics: Mapping[str, float]) -> str:
    """An epoch in a line: loss, accuracy, weight spread."""
    parts = [f"loss {metrics['train/loss']:.3f}", f"acc {100 * metrics['train/accuracy']:.1f}"]
    if "weights/std" in metrics:
        parts.append(f"weights ±{metrics['weights/std']:.2f}")
    if "test/accuracy" in metrics:
        parts.append(f"test acc {100 * metrics['test/accuracy']:.1f}")
    return " ".join(parts)
