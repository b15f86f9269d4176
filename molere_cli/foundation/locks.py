"""Lock files: one process holds one at a time, and the kernel lets go of it when that process dies.

Between processes of one machine that is certain. Between machines it is where the file system shares its
locks, as NFS does unless it is mounted with `nolock`. Where it does not, what the file says stands in: it is
held if a process of another machine has taken it, and has touched it of late.
"""

from __future__ import annotations

import functools
import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from molere_cli.foundation.errors import RunError
from molere_cli.foundation.files import make_folder

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

BEAT = 10.0
"""Seconds between two touches of a lock that is held, at least."""
SILENCE = 600.0
"""Seconds without one after which a lock of another machine counts as left behind."""
POLL = 0.2
"""Seconds between two looks at a lock that is waited for."""
UNREADABLE_LOOKS = 10

Note = Callable[[str], None]


@dataclass(frozen=True)
class Owner:
    """Who holds a lock, since when (ISO 8601)."""

    pid: int
    host: str
    started: str

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host} (since {self.started})" if self.pid else "another process"

    @property
    def is_here(self) -> bool:
        """Whether it is of this machine."""
        return self.host == socket.gethostname()


UNKNOWN = Owner(0, "", "")


class Lock:
    """A lock file that this process holds, until `release`; `path` follows the file when it is moved."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self._descriptor = descriptor
        self._touched = time.monotonic()

    def sign(self) -> None:
        """Say in the file whose it is."""
        here = Owner(os.getpid(), socket.gethostname(), datetime.now(UTC).isoformat(timespec="seconds"))
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, json.dumps(asdict(here)).encode(), 0)
        _held.add(self)

    def release(self) -> None:
        """Let go of the lock, and leave no file."""
        if self in _held:
            with suppress(OSError):  # a file that stays keeps nobody out
                if _is_at(self._descriptor, self.path):
                    self.path.unlink()
            self.close()

    def close(self) -> None:
        """Let go of the file."""
        _held.discard(self)
        os.close(self._descriptor)

    def touch(self) -> None:
        """Show that the owner is alive."""
        if time.monotonic() - self._touched >= BEAT:
            with suppress(OSError):  # what is wrong with the disk shows with the next file
                os.utime(self._descriptor)
            self._touched = time.monotonic()


_held: set[Lock] = set()


def heartbeat() -> None:
    """Show that the owner of all locks that this process holds is alive; costs next to nothing."""
    for lock in list(_held):
        lock.touch()


def _close_all() -> None:
    for lock in list(_held):
        lock.close()


# A forked child, such as a decoding process, has the descriptors too, and would keep a dead owner's locks.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_all)


@contextmanager
def locked(path: Path, *, doing: str, note: Note, wait: bool = False) -> Iterator[Lock]:
    """Hold the lock file `path`; its folder is made if need be.

    Args:
        doing: what its owner does, as in "is training runs/digits-erm-s0".
        wait: until it is free, which `note` is told of; without, it must be free.

    Raises:
        RunError: somebody else has it, or the file cannot be made.
        WriteError: its folder cannot be made.
    """
    tell = functools.cache(note)
    while not isinstance(lock := take(path, tell), Lock):
        if not wait:
            gone = "" if lock.is_here else f"; if it is gone, delete {path}"
            raise RunError(f"{lock} {doing}; wait until it has finished, or stop it{gone}")
        tell(f"waiting for {lock}, which {doing}")
        time.sleep(POLL)
    try:
        yield lock
    finally:
        lock.release()


def take(path: Path, note: Note) -> Lock | Owner:
    """The lock, or who has it.

    Args:
        note: told where there are no locks to be had, so that this one keeps nobody out.

    Raises:
        RunError: the file cannot be made.
        WriteError: its folder cannot be made.
    """
    if fcntl is None:
        note("this system has no file locks: nothing keeps a second command from writing into the same run")
        return Lock(path, -1)
    while True:
        with ExitStack() as stack:
            descriptor = _open(path)
            stack.callback(os.close, descriptor)
            if not _flock(descriptor, path, note):
                return _owner_in(descriptor, looks=UNREADABLE_LOOKS) or UNKNOWN
            if not _is_at(descriptor, path):
                continue  # its owner has just finished with it, and taken it away
            left = _owner_in(descriptor)
            if left is not None and not left.is_here and _silence(descriptor) < SILENCE:
                return left
            lock = Lock(path, descriptor)
            try:
                lock.sign()
            except OSError as error:
                raise _unmade(path, error) from error
            stack.pop_all()
            return lock


def take_left_behind(path: Path) -> Lock | None:
    """The lock, if an owner who is gone has left its file there."""
    if fcntl is None:
        return None
    with suppress(OSError):
        status = path.stat()
        # One that is not signed yet may be about to be.
        if not status.st_size and time.time() - status.st_mtime < SILENCE:
            return None
    if not path.is_file():
        return None
    found = take(path, lambda _message: None)
    return found if isinstance(found, Lock) else None


def _open(path: Path) -> int:
    while True:
        make_folder(path.parent)
        try:
            return os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except FileNotFoundError as error:
            if path.parent.is_dir():
                raise _unmade(path, error) from error
            continue  # somebody has just deleted the folder
        except OSError as error:
            raise _unmade(path, error) from error


def _unmade(path: Path, error: OSError) -> RunError:
    return RunError(f"cannot make the lock file {path}: {error.strerror}")


def _flock(descriptor: int, path: Path, note: Note) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        note(f"files in {path.parent} cannot be locked: nothing keeps a second command from writing there")
    return True


def _is_at(descriptor: int, path: Path) -> bool:
    with suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(descriptor), path.stat())
    return False


def _owner_in(descriptor: int, *, looks: int = 1) -> Owner | None:
    """What the file says of its owner, who may be about to write it."""
    for look in range(looks):
        time.sleep(look and POLL / UNREADABLE_LOOKS)
        with suppress(ValueError, TypeError):
            return Owner(**json.loads(os.pread(descriptor, 4096, 0)))
    return None


def _silence(descriptor: int) -> float:
    return time.time() - os.fstat(descriptor).st_mtime
