"""From an encoded picture to pixels: one way for files and for rows, in training and in testing.

A picture is what a viewer shows: turned as its EXIF orientation says, what is transparent on white, the first
frame of several, 16 bits a channel scaled to 8. What has no one reading is refused.
"""

from __future__ import annotations

import functools
import io
import os
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor
from torchvision.transforms.v2 import functional as transforms

from molere_cli.foundation.errors import ImageError

Encoded = Path | bytes
"""A picture as it is stored: a file, or its bytes."""

MAX_PIXELS = 80_000_000
"""More than a picture that is trained on has; decoding takes some ten bytes for each."""

# Ghostscript would run what an EPS file says; the others are no pictures, or can be recognised alone.
REFUSED_FORMATS = frozenset({"EPS", "WMF", "MPEG", "BUFR", "GRIB", "HDF5", "FPX", "MIC"})
USUAL_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
SIXTEEN_BITS = frozenset({"I;16", "I;16B", "I;16L", "I;16N"})
# What decoders of damaged bytes raise, Pillow's own among them.
UNDECODABLE = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    OverflowError,
    EOFError,
    NotImplementedError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)
TAIL = 4096

# Pillow's warnings name no file; what is wrong with one is an error here, or nothing that changes its pixels.
warnings.filterwarnings("ignore", module=r"PIL\.")


@functools.cache
def picture_endings() -> frozenset[str]:
    """The endings of files that can be pictures, lower case, with the dot."""
    formats = Image.registered_extensions()
    return frozenset(ending for ending, name in formats.items() if name in _formats())


def read_picture(encoded: Encoded, *, where: str) -> tuple[Tensor, list[str]]:
    """The pixels, uint8 (3, H, W), and what is particular about the picture, in words: `animated`,
    `transparent`, `16 bits`.

    Raises:
        ImageError: it cannot be read, is larger than `MAX_PIXELS`, or its pixels have no one reading; `where`
            names it.
    """
    with _opened(encoded, where) as image:
        converted = _converted(image)
        return transforms.pil_to_tensor(_to_rgb(image)), converted


def picture_size(encoded: Encoded, *, where: str) -> tuple[int, int]:
    """(height, width) as decoded, from the header alone; raises ImageError as `read_picture` does."""
    with _opened(encoded, where) as image:
        # Pillow turns a TIFF itself.
        on_its_side = image.format != "TIFF" and image.getexif().get(0x0112, 1) >= 5
        return (image.width, image.height) if on_its_side else (image.height, image.width)


def inspect_picture(encoded: Encoded, *, where: str, whole: bool) -> list[str]:
    """What is particular about a picture (`read_picture`), by its header.

    Args:
        whole: decode it; otherwise that is done only where its end looks cut off.

    Raises:
        ImageError: as in `read_picture`.
    """
    with _opened(encoded, where) as image:
        _check_mode(image)
        converted, image_format = _converted(image), str(image.format)
    if whole or _looks_cut_off(encoded, image_format):
        read_picture(encoded, where=where)
    return converted


def _converted(image: Image.Image) -> list[str]:
    converted = []
    # A telephone's second picture (MPO) is a preview of the first.
    if image.format != "MPO" and getattr(image, "is_animated", False):
        converted.append("animated")
    if image.has_transparency_data:
        converted.append("transparent")
    if _is_sixteen_bits(image):
        converted.append("16 bits")
    return converted


def is_picture(path: Path) -> bool:
    """Whether a file is one, whatever its name, as far as its header tells."""
    try:
        with Image.open(path, formats=_formats()):
            return True
    except UNDECODABLE:
        return False


@contextmanager
def _opened(encoded: Encoded, where: str) -> Iterator[Image.Image]:
    try:
        with Image.open(_stream(encoded), formats=_formats()) as image:
            if image.width * image.height > MAX_PIXELS:
                millions = image.width * image.height / 1e6
                raise ImageError(
                    where,
                    f"it has {image.width} x {image.height} = {millions:,.0f} million pixels, and at most "
                    f"{MAX_PIXELS / 1e6:.0f} million are read; make it smaller",
                )
            yield image
    except UnidentifiedImageError as error:
        raise ImageError(where, "it is in no known image format") from error
    except UNDECODABLE as error:
        reason = (
            (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
        )
        raise ImageError(where, reason) from error


def _stream(encoded: Encoded) -> Path | IO[bytes]:
    return io.BytesIO(encoded) if isinstance(encoded, bytes) else encoded


@functools.cache
def _formats() -> tuple[str, ...]:
    """What is tried, in order: what most pictures are first."""
    Image.init()
    known = [name for name in Image.ID if name in Image.OPEN and name not in REFUSED_FORMATS]
    return tuple(sorted(known, key=lambda name: USUAL_FORMATS.index(name) if name in USUAL_FORMATS else 99))


def _to_rgb(image: Image.Image) -> Image.Image:
    _check_mode(image)
    sixteen_bits = _is_sixteen_bits(image)  # of the file's format, which what is turned no longer has
    image = ImageOps.exif_transpose(image)
    if sixteen_bits:
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        on_white = Image.new("RGBA", image.size, "white")
        on_white.alpha_composite(image.convert("RGBA"))
        return on_white.convert("RGB")
    return image.convert("RGB")


def _is_sixteen_bits(image: Image.Image) -> bool:
    # Pillow scales a portable greymap's values to 16 bits, whatever it says its highest is.
    return image.mode in SIXTEEN_BITS or (image.mode == "I" and image.format in {"PNG", "PPM"})


def _check_mode(image: Image.Image) -> None:
    """Raise ValueError for pixels whose black and white nobody has said."""
    if image.mode in {"F", "I"} and not _is_sixteen_bits(image):
        kind = "floating-point numbers" if image.mode == "F" else "32-bit numbers"
        raise ValueError(f"its pixels are {kind}, which do not say what is white; save it with 8 or 16 bits")


def _looks_cut_off(encoded: Encoded, image_format: str) -> bool:
    """Whether the end that a whole picture of the format has is missing; True where that cannot be told."""
    size, first, last = _ends(encoded)
    match image_format:
        case "PNG":
            return b"IEND" not in last
        case "JPEG" | "MPO":
            return b"\xff\xd9" not in last
        case "GIF":
            return not last.rstrip(b"\0").endswith(b";")
        case "WEBP":
            return int.from_bytes(first[4:8], "little") + 8 > size
        case "BMP":
            return int.from_bytes(first[2:6], "little") not in range(1, size + 1)
    return True


def _ends(encoded: Encoded) -> tuple[int, bytes, bytes]:
    """Size in bytes, the first eight bytes and the last few thousand."""
    if isinstance(encoded, bytes):
        return len(encoded), encoded[:8], encoded[-TAIL:]
    with encoded.open("rb", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        first = file.read(8)
        file.seek(max(0, size - TAIL))
        return size, first, file.read(TAIL)
