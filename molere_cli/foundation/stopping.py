"""Signals that ask a command to stop: at once, or where its work is at a good place to."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

# Windows has the first two alone.
NAMES = ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1")
SIGNALS = [getattr(signal, name) for name in NAMES if hasattr(signal, name)]


class Ended(SystemExit):
    """What ends the command, whatever it is at.

    sentence: for the user; None where there is nothing to say.
    """

    def __init__(self, code: int, sentence: str | None = None) -> None:
        super().__init__(code)
        self.sentence = sentence


class Stopped(Ended):
    """A signal has ended the command, whose exit code is 128 plus its number.

    sentence: what is left, and how to go on with it; None where nothing had begun.
    """

    def __init__(self, number: int, sentence: str | None = None) -> None:
        super().__init__(128 + number, sentence)
        self.number = number

    @property
    def name(self) -> str:
        """`SIGTERM`."""
        return signal.Signals(self.number).name


class _Wish:
    """What signals have asked for: the number of the first one, and whether it has to wait."""

    number: int | None = None
    waits = False


def ask_to_stop(number: int, _frame: object = None) -> None:
    """Stop by signal `number`: now, or within `at_good_places` at the next one. A SIGINT that comes while
    another wish waits is a person's second one, and stops at once.

    Raises:
        Stopped: now.
        KeyboardInterrupt: now, by SIGINT.
    """
    if _Wish.waits and _Wish.number is None:
        _Wish.number = number
    elif number == signal.SIGINT:
        raise KeyboardInterrupt
    elif not _Wish.waits:
        raise Stopped(number)


def is_asked_to_stop() -> bool:
    """Whether a wish to stop waits."""
    return _Wish.number is not None


def stop_if_asked() -> None:
    """A good place to stop, where nothing is half done.

    Raises:
        Stopped: a wish waits.
    """
    if _Wish.number is not None:
        raise Stopped(_Wish.number)


@contextmanager
def at_good_places() -> Iterator[None]:
    """Within the block a signal waits until `stop_if_asked` is called, or until the block ends.

    Raises:
        Stopped: one has waited until then.
    """
    _Wish.number, _Wish.waits = None, True
    try:
        yield
        stop_if_asked()
    finally:
        _Wish.number, _Wish.waits = None, False


@contextmanager
def signals_heeded() -> Iterator[None]:
    """Within the block SIGINT, SIGTERM, SIGHUP and SIGUSR1 ask to stop; one that is ignored, as under
    `nohup`, stays so."""
    caught = {number: signal.getsignal(number) for number in SIGNALS}
    caught = {
        number: before
        for number, before in caught.items()
        if before in (signal.SIG_DFL, signal.default_int_handler)
    }
    for number in caught:
        signal.signal(number, ask_to_stop)
    try:
        yield
    finally:
        for number, before in caught.items():
            signal.signal(number, before)


def ignore_signals() -> None:
    """From now on SIGINT, SIGTERM, SIGHUP and SIGUSR1 change nothing here: another process heeds them and
    says when all are to stop, or this one is about to end."""
    for number in SIGNALS:
        signal.signal(number, lambda *_: None)  # not SIG_IGN, which programs that are started would inherit
