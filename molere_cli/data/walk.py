"""What lies in a folder of images: class folders, the pictures in them, and what is skipped.

Files of the system and of tools are no examples, and a folder is read once, whatever links lead to it.
"""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from molere_cli.data.image_files import is_picture, picture_endings
from molere_cli.data.names import plain_name
from molere_cli.foundation.errors import DataError

TOOL_NAMES = frozenset(
    {
        "__macosx",
        "__pycache__",
        "@eadir",
        "$recycle.bin",
        "system volume information",
        "lost+found",
        "thumbs.db",
        "desktop.ini",
    }
)
HIDDEN = "hidden"
BESIDE = "beside the class folders"
READ_ALREADY = "links to folders read already"
NO_FILE = "neither files nor folders"
NO_ENDING = "without an ending"

Identity = tuple[int, int]


@dataclass
class Walk:
    """One reading of a dataset's folders, which remembers where it has been.

    notes: what a user should know.
    """

    notes: list[str] = field(default_factory=list)
    _reasons: dict[str, str] = field(default_factory=dict)
    _been_in: dict[Identity, tuple[str, Path]] = field(default_factory=dict)

    @property
    def skipped(self) -> dict[str, int]:
        """How many files and folders were skipped, by why, the most first."""
        return dict(Counter(self._reasons.values()).most_common())

    def pass_over(self, path: str | Path, why: str) -> None:
        """Note that a file or folder is left out."""
        self._reasons[str(path)] = why

    def start(self, root: Path) -> None:
        """Take every folder above `root`, and itself, for read: a link to one of them leads in a circle."""
        place = root.resolve()
        for folder in (place, *place.parents):
            self._been_in.setdefault(_identity(folder), ("", folder))

    def folders(self, root: Path) -> list[str]:
        """The names of the folders in `root`, in order, but for hidden ones and those of tools.

        Raises:
            DataError: it cannot be read.
        """
        names = []
        for entry in _entries(root):
            if not entry.is_dir():
                continue
            if _is_hidden(entry.name):
                self.pass_over(entry.path, HIDDEN)
            else:
                names.append(entry.name)
        return sorted(names)

    def class_folders(self, root: Path) -> dict[str, str]:
        """The folder of each class, by the class's plain name, in the order of these.

        Raises:
            DataError: there is none, or two have names that look alike.
        """
        folder_of: dict[str, str] = {}
        for folder in self.folders(root):
            name = plain_name(folder)
            if name in folder_of:
                raise DataError(
                    f"{root} has two folders that look alike, {folder_of[name]!a} and {folder!a}; "
                    "put their images into one"
                )
            folder_of[name] = folder
        if not folder_of:
            raise DataError(f"{root} has no class folders in it")
        for entry in _entries(root):
            if not entry.is_dir():
                self.pass_over(entry.path, HIDDEN if _is_hidden(entry.name) else BESIDE)
        return dict(sorted(folder_of.items()))

    def pictures(self, folder: Path, *, of: str) -> list[str]:
        """The paths of the pictures in `folder` and below, folder by folder in order; `of` says of what they
        are.

        Raises:
            DataError: a folder cannot be read, or a link leads into the folder of another class.
        """
        found: list[tuple[str, str]] = []
        waiting = [str(folder)]
        while waiting:
            place = waiting.pop()
            if not self._enter(Path(place), of):
                continue
            for entry in _entries(Path(place)):
                if _is_hidden(entry.name):
                    self.pass_over(entry.path, HIDDEN)
                elif entry.is_dir():
                    waiting.append(entry.path)
                elif self._is_taken(entry):
                    found.append((place, entry.name))
        return [os.path.join(place, name) for place, name in sorted(found)]

    def _enter(self, folder: Path, of: str) -> bool:
        """Whether a folder is to be read: it has not been for the same class, nor does it lie above."""
        identity = _identity(folder)
        if identity not in self._been_in:
            self._been_in[identity] = (of, folder)
            return True
        owner, before = self._been_in[identity]
        if owner not in {"", of}:
            raise DataError(
                f"{folder} is the same folder as {before}, so that its images would count as {of} and as "
                f"{owner}; take the link away"
            )
        self.pass_over(folder, READ_ALREADY)
        return False

    def _is_taken(self, entry: os.DirEntry[str]) -> bool:
        ending = os.path.splitext(entry.name)[1].lower()
        # A link that leads nowhere stays, so that the image it should be is missed by name.
        if not entry.is_file() and not (entry.is_symlink() and not os.path.exists(entry.path)):
            self.pass_over(entry.path, NO_FILE)
        elif ending in picture_endings() or (not ending and is_picture(Path(entry.path))):
            return True
        else:
            self.pass_over(entry.path, ending or NO_ENDING)
        return False


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError as error:
        raise DataError(f"cannot read the folder {folder}: {error.strerror}") from error


def _identity(folder: Path) -> Identity:
    try:
        found = folder.stat()
    except OSError as error:
        raise DataError(f"cannot read the folder {folder}: {error.strerror}") from error
    return found.st_dev, found.st_ino


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name.casefold() in TOOL_NAMES
