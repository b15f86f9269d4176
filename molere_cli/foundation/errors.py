"""Every error that a user can cause, as one tree.

    MolereError
    ├── ConfigError        a setting is unknown, out of range, or has no effect here
    ├── UnknownNameError   no backbone, dataset, split, reweighter or method of that name
    ├── DataError          a dataset is missing, unreadable or unusable
    │   └── ImageError     an image cannot be read
    ├── SplitError         a split file or split request is invalid
    ├── RunError           a run directory is missing, unfinished or inconsistent
    │   └── DamagedCheckpoint  a checkpoint is not what was written
    ├── WriteError         the system refuses a write: a full disk, no permission, a name too long
    ├── TrainingError      training cannot go on (non-finite loss, unsupported optimizer)
    └── PluginError        what a third party's plugin does, or gives, cannot be used

`commands/app.py` turns these, and only these, into one sentence and exit code 1.
"""

from __future__ import annotations


def shown(value: object) -> str:
    """A value as a sentence quotes it; what is long is cut in its middle."""
    return on_one_line(repr(value))


def on_one_line(text: str, *, limit: int = 120) -> str:
    """A text for a sentence: its line breaks as spaces; what is longer than `limit` is cut in its middle."""
    line = "".join(character if character.isprintable() else " " for character in text)
    return line if len(line) <= limit else f"{line[: limit // 2]}...{line[-limit // 2 :]}"


class MolereError(Exception):
    """Base of all errors that a user can act on; its text is one full sentence."""


class ConfigError(MolereError):
    """A setting is unknown, out of range, or has no effect under the chosen method."""


class UnknownNameError(MolereError):
    """A name that no plugin registered, or that more than one did."""


class DataError(MolereError):
    """A dataset is missing, unreadable or unusable."""


class ImageError(DataError):
    """An image cannot be read; where: its file, or file and row; reason: why."""

    def __init__(self, where: str, reason: str) -> None:
        super().__init__(f"cannot read the image {where}: {reason}")
        self.where, self.reason = where, reason

    def __reduce__(self) -> tuple[type[ImageError], tuple[str, str]]:
        return ImageError, (self.where, self.reason)  # from a decoding process


class SplitError(MolereError):
    """A split file or a request for a split is invalid."""


class RunError(MolereError):
    """A run directory is missing, unfinished or inconsistent."""


class DamagedCheckpoint(RunError):
    """A file of a checkpoint is missing, or is not what was written."""

    def __init__(self, path: object, reason: str) -> None:
        super().__init__(f"{path} is damaged: {reason}")
        self.path, self.reason = path, reason

    def __reduce__(self) -> tuple[type[DamagedCheckpoint], tuple[object, str]]:
        return DamagedCheckpoint, (self.path, self.reason)  # from a process of its own


class WriteError(MolereError):
    """The system refuses a write; the text names the file and the reason."""


class TrainingError(MolereError):
    """Training cannot go on."""


class PluginError(MolereError):
    """What a third party's plugin does, or gives, cannot be used; the text names plugin, hook and object."""


def error_of(kind: str, sentence: str) -> MolereError:
    """An error that another process has come upon, by the name of its class; of a class that is not in the
    tree above it is a plain MolereError."""
    found = globals().get(kind)
    known = found if isinstance(found, type) and issubclass(found, MolereError) else MolereError
    # Not by its `__init__`, which may make the sentence of something else.
    return known.__new__(known, sentence)
