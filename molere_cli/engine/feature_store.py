"""Features of images kept on disk, so that a frozen backbone sees each image once.

A folder for each way in which features are made (network, weights, input, arithmetic), named by a digest of
it; in the folder `about.json` says which, and each `*.safetensors` has the features of some images and
the digests of those images. Files are added and never changed, so that commands may share a folder.

Shapes: N images, D features.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from molere_cli.foundation.files import (
    JSON_LIMIT,
    digest,
    digest_of_values,
    parse_json,
    read_text,
    replacing,
    sweep,
    write_json,
)

DIGEST_BYTES = 16
ABOUT = "about.json"


def cache_folder() -> Path:
    """Where MOLERE keeps what it can compute again: `MOLERE_CACHE`, else `molere` in the user's cache."""
    if own := os.environ.get("MOLERE_CACHE"):
        return Path(own).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "molere"


@dataclass(frozen=True)
class StoredFeatures:
    """One folder of features. about: how they are made; num_bytes: what it takes on disk."""

    path: Path
    about: Mapping[str, Any]
    num_images: int
    num_bytes: int

    @property
    def backbone(self) -> str:
        """The name of the network, `?` where that cannot be read."""
        return str(self.about.get("backbone", "?"))

    @property
    def input(self) -> str:
        """The size of its images, `?` where that cannot be read."""
        input = self.about.get("input")
        size = input.get("image_size") if isinstance(input, dict) else None
        return " x ".join(map(str, size)) if isinstance(size, list) else "?"

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return {**vars(self), "path": str(self.path)}


class FeatureStore:
    """The features that are made in one way."""

    def __init__(self, about: Mapping[str, Any], note: Callable[[str], None]) -> None:
        """
        Args:
            about: everything that features depend on beside the image, as plain values.
            note: told of damaged files, which are deleted.
        """
        self.path = cache_folder() / "features" / digest_of_values(about)
        self._about = about
        self._note = note

    def find(self, digests: Sequence[bytes], feature_dim: int) -> dict[bytes, Tensor]:
        """The features (D,), float32, of those images that are there, by digest."""
        wanted, found = set(digests), dict[bytes, Tensor]()
        for file in _files(self.path):
            try:
                names_N, features_ND = _read(file)
                if features_ND.shape[1:] != (feature_dim,):
                    raise ValueError(f"has features of shape {tuple(features_ND.shape[1:])}")
            except FileNotFoundError:
                continue  # cleared by another command
            except (OSError, SafetensorError, KeyError, ValueError) as error:
                self._note(f"{file} is damaged ({error}); it is deleted, and its features are computed again")
                with suppress(OSError):
                    file.unlink()
                continue
            content = names_N.numpy().tobytes()
            for row in range(len(features_ND)):
                name = content[row * DIGEST_BYTES : (row + 1) * DIGEST_BYTES]
                if name in wanted:
                    found[name] = features_ND[row]
        return found

    def add(self, digests: Sequence[bytes], features_ND: Tensor) -> None:
        """Keep the features of some images.

        Raises:
            WriteError: the system refuses.
        """
        about = self.path / ABOUT
        if not about.exists():
            write_json(about, self._about)
        sweep(self.path)
        names = b"".join(digests)
        names_N = torch.frombuffer(bytearray(names), dtype=torch.uint8).view(-1, DIGEST_BYTES)
        features_ND = features_ND.cpu().contiguous()
        with replacing(self.path / f"{digest(names)}.safetensors") as temporary:
            save_file(
                {"digests": names_N, "features": features_ND},
                temporary,
                metadata={"checksum": _checksum(names_N, features_ND)},
            )


def stored_features() -> Iterator[StoredFeatures]:
    """What the cache has, the newest first."""
    folder = cache_folder() / "features"
    found = [path for path in folder.glob("*") if path.is_dir()] if folder.is_dir() else []
    for path in sorted(found, key=lambda each: -each.stat().st_mtime):
        try:
            about = parse_json(read_text(path / ABOUT, limit=JSON_LIMIT))
        except (OSError, ValueError):
            about = {}
        files = list(_files(path))
        num_images = 0
        for file in files:
            with suppress(OSError, SafetensorError), safe_open(file, "pt") as opened:
                num_images += opened.get_slice("features").get_shape()[0]
        yield StoredFeatures(
            path,
            about if isinstance(about, dict) else {},
            num_images,
            sum(file.stat().st_size for file in files),
        )


def delete(stored: StoredFeatures) -> None:
    """Delete a folder of features."""
    shutil.rmtree(stored.path, ignore_errors=True)


def _files(path: Path) -> list[Path]:
    return sorted(path.glob("[!.]*.safetensors"))


def _read(file: Path) -> tuple[Tensor, Tensor]:
    """Digests, uint8 (N, 16), and features, float32 (N, D), mapped into memory."""
    with safe_open(file, "pt") as opened:
        names_N, features_ND = opened.get_tensor("digests"), opened.get_tensor("features")
        checksum = (opened.metadata() or {}).get("checksum")
    if names_N.dtype != torch.uint8 or features_ND.dtype != torch.float32:
        raise ValueError("has other types")
    if names_N.shape != (len(features_ND), DIGEST_BYTES):
        raise ValueError("has not as many digests as features")
    if checksum != _checksum(names_N, features_ND):
        raise ValueError("is not what was written")
    return names_N, features_ND


def _checksum(names_N: Tensor, features_ND: Tensor) -> str:
    whole = hashlib.blake2b(names_N.numpy().data, digest_size=16)
    whole.update(features_ND.numpy().data)
    return whole.hexdigest()
