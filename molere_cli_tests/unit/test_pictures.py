"""Encoded pictures of every kind: read as a viewer shows them, or refused in a sentence."""

from __future__ import annotations

import io
import resource
import struct
import zlib

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps

from molere_cli.data.image_files import (
    MAX_PIXELS,
    inspect_picture,
    is_picture,
    picture_endings,
    picture_size,
    read_picture,
)
from molere_cli.foundation.errors import DataError, ImageError

HEIGHT, WIDTH = 6, 9

# As in use: pytest puts back the filters that importing the module sets.
pytestmark = pytest.mark.filterwarnings("ignore:::PIL")


def noise(number: int = 0, shape: tuple[int, ...] = (HEIGHT, WIDTH, 3)) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 256, shape, dtype=np.uint8)


def encoded(image: Image.Image, form: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def pixels_of(content: bytes) -> np.ndarray:
    found = read_picture(content, where="x")[0]
    assert found.dtype == torch.uint8
    return found.permute(1, 2, 0).numpy()


def sentence_of(call) -> str:
    with pytest.raises(DataError) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def grey(values: np.ndarray) -> np.ndarray:
    return np.repeat(values[:, :, None], 3, axis=2)


# --- depth


@pytest.mark.parametrize(
    ("form", "order"), [("PNG", "<u2"), ("TIFF", "<u2"), ("TIFF", ">u2"), ("PPM", "<u2")]
)
def test_sixteen_bits_are_scaled_to_eight(form, order):
    values = np.linspace(0, 65535, HEIGHT * WIDTH).astype("u2").reshape(HEIGHT, WIDTH)
    content = encoded(Image.fromarray(values.astype(order)), form)
    assert np.array_equal(pixels_of(content), grey((values >> 8).astype(np.uint8)))
    assert inspect_picture(content, where="x", whole=False) == ["16 bits"]


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (np.linspace(0, 1, 12, dtype=np.float32), "floating-point numbers"),
        (np.linspace(0, 255, 12, dtype=np.float32), "floating-point numbers"),
        (np.arange(12, dtype=np.int32) * 9999, "32-bit numbers"),
    ],
)
def test_pixels_that_do_not_say_what_is_white_are_refused(values, kind):
    content = encoded(Image.fromarray(values.reshape(3, 4)), "TIFF")
    for call in (
        lambda: read_picture(content, where="a.tif")[0],
        lambda: inspect_picture(content, where="a.tif", whole=False),
    ):
        assert sentence_of(call) == (
            f"cannot read the image a.tif: its pixels are {kind}, which do not say what is white; "
            "save it with 8 or 16 bits"
        )


def test_one_bit_and_grey_are_three_channels():
    bits = noise(shape=(HEIGHT, WIDTH)) > 127
    assert np.array_equal(pixels_of(encoded(Image.fromarray(bits), "PNG")), grey(bits.astype(np.uint8) * 255))
    values = noise(shape=(HEIGHT, WIDTH))
    assert np.array_equal(pixels_of(encoded(Image.fromarray(values), "BMP")), grey(values))


# --- orientation


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("form", ["PNG", "TIFF", "WEBP"])
def test_a_picture_is_turned_as_its_orientation_says(orientation, form):
    image, exif = Image.fromarray(noise()), Image.Exif()
    exif[0x0112] = orientation
    content = encoded(image, form, exif=exif, **({"lossless": True} if form == "WEBP" else {}))
    turned = {
        1: noise(),
        2: noise()[:, ::-1],
        3: noise()[::-1, ::-1],
        4: noise()[::-1],
        5: noise().transpose(1, 0, 2),
        6: np.rot90(noise(), -1),
        7: noise().transpose(1, 0, 2)[::-1, ::-1],
        8: np.rot90(noise(), 1),
    }[orientation]
    assert np.array_equal(pixels_of(content), turned)
    assert picture_size(content, where="x") == turned.shape[:2]


# --- transparency, palettes, inks


def composed(colour: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    share = alpha[..., None].astype(float) / 255
    return colour * share + 255 * (1 - share)


def test_what_is_transparent_is_put_on_white():
    colour, alpha = noise(1), noise(2, (HEIGHT, WIDTH))
    content = encoded(Image.fromarray(np.dstack([colour, alpha])), "PNG")
    assert np.abs(pixels_of(content) - composed(colour, alpha)).max() <= 1
    assert inspect_picture(content, where="x", whole=False) == ["transparent"]
    tones = noise(3, (HEIGHT, WIDTH))
    content = encoded(Image.fromarray(np.dstack([tones, alpha])), "PNG")
    assert np.abs(pixels_of(content) - composed(grey(tones), alpha)).max() <= 1


def test_an_opaque_alpha_channel_changes_nothing():
    content = encoded(Image.fromarray(np.dstack([noise(), np.full((HEIGHT, WIDTH), 255, np.uint8)])), "PNG")
    assert np.array_equal(pixels_of(content), noise())


def test_a_palette_is_looked_up_and_its_transparent_colour_is_white():
    image = Image.fromarray(noise(shape=(HEIGHT, WIDTH)) % 4).convert("L")
    image = Image.frombytes("P", image.size, image.tobytes())
    image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255, 10, 20, 30])
    colours = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [10, 20, 30]], np.uint8)
    places = np.asarray(image)
    assert np.array_equal(pixels_of(encoded(image, "PNG")), colours[places])
    colours[2] = 255
    content = encoded(image, "PNG", transparency=2)
    assert np.array_equal(pixels_of(content), colours[places])
    assert inspect_picture(content, where="x", whole=False) == ["transparent"]


def test_four_inks_are_converted():
    red = Image.new("CMYK", (WIDTH, HEIGHT), (0, 255, 255, 0))
    for form in ("JPEG", "TIFF"):
        found = pixels_of(encoded(red, form)).reshape(-1, 3)
        assert (np.abs(found.astype(int) - [255, 0, 0]) <= 3).all()


# --- several frames


@pytest.mark.parametrize("form", ["GIF", "WEBP", "PNG", "TIFF"])
def test_of_several_frames_the_first_is_taken_and_it_is_said(form):
    frames = [Image.new("RGB", (WIDTH, HEIGHT), colour) for colour in ("red", "blue", "lime")]
    content = encoded(frames[0], form, save_all=True, append_images=frames[1:])
    assert (np.abs(pixels_of(content).astype(int) - [255, 0, 0]) <= 4).all()
    assert "animated" in inspect_picture(content, where="x", whole=False)


# --- endings


def test_every_ending_that_pillow_writes_and_a_viewer_shows_is_taken(tmp_path):
    image, taken = Image.fromarray(np.tile(noise(shape=(1, 1, 3)), (32, 32, 1))), set()
    for ending in sorted(picture_endings()):
        path = tmp_path / f"a{ending}"
        try:
            image.save(path)
        except (KeyError, OSError, ValueError):  # Pillow reads it and does not write it
            continue
        found = read_picture(path, where="x")[0].permute(1, 2, 0).numpy().astype(int)
        if ending != ".icns":  # icons come in sizes of their own
            assert np.abs(found - np.asarray(image)).max() <= 8, ending
        taken.add(ending)
    assert taken >= {
        ".jpg",
        ".jpeg",
        ".jpe",
        ".jfif",
        ".png",
        ".gif",
        ".bmp",
        ".tif",
        ".tiff",
        ".webp",
        ".ppm",
    }
    assert taken >= {".jp2", ".tga", ".ico", ".avif", ".apng", ".dib"}


def test_a_file_is_what_it_holds_and_not_what_it_is_called(tmp_path):
    (tmp_path / "a.png").write_bytes(encoded(Image.fromarray(noise()), "BMP"))
    assert np.array_equal(read_picture(tmp_path / "a.png", where="x")[0].permute(1, 2, 0).numpy(), noise())
    (tmp_path / "no ending").write_bytes(encoded(Image.fromarray(noise()), "PNG"))
    assert is_picture(tmp_path / "no ending")
    (tmp_path / "README").write_text("words")
    assert not is_picture(tmp_path / "README")


def test_postscript_is_not_run(tmp_path):
    (tmp_path / "a.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n")
    assert "known image format" in sentence_of(lambda: read_picture(tmp_path / "a.png", where="a.png")[0])
    assert ".eps" not in picture_endings()


# --- too large, cut off, damaged


def png_header(width: int, height: int) -> bytes:
    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b""))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(("width", "height"), [(13_000, 13_000), (9_000, 9_000), (60_000, 60_000)])
def test_a_picture_that_would_fill_the_memory_is_refused_by_its_header(width, height):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    header = png_header(width, height)
    for call in (
        lambda: read_picture(header, where="a.png")[0],
        lambda: inspect_picture(header, where="a.png", whole=True),
    ):
        assert sentence_of(call).startswith("cannot read the image a.png: ")
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 100_000  # KiB; a byte a pixel alone would take as much and more


def test_the_limit_is_in_the_sentence():
    sentence = sentence_of(lambda: read_picture(png_header(9_000, 9_000), where="a.png")[0])
    assert sentence.endswith(
        "it has 9000 x 9000 = 81 million pixels, and at most 80 million are read; make it smaller"
    )
    assert MAX_PIXELS == 80_000_000


@pytest.mark.parametrize("form", ["PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF", "PPM", "JPEG2000"])
@pytest.mark.parametrize("kept", [0.5, 0.95])
def test_a_picture_that_is_cut_off_is_found_without_decoding_all(form, kept):
    content = encoded(Image.fromarray(noise(shape=(64, 64, 3))), form)
    assert inspect_picture(content, where="x", whole=False) == []
    cut = content[: int(kept * len(content))]
    try:
        read_picture(cut, where="x")[0]
    except ImageError:
        sentence_of(lambda: inspect_picture(cut, where="x", whole=False))
    else:  # what is missing is not needed
        assert inspect_picture(cut, where="x", whole=False) == []


PICTURES = [
    encoded(Image.fromarray(noise(shape=(16, 16, 3))), form)
    for form in ("PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF", "PPM", "TGA")
]


@given(
    content=st.sampled_from(PICTURES),
    flips=st.lists(st.tuples(st.integers(0, 10_000), st.integers(1, 255)), min_size=1, max_size=6),
    length=st.floats(0.2, 1),
)
def test_a_damaged_picture_is_a_sentence_or_a_picture(content, flips, length):
    damaged = bytearray(content[: int(length * len(content))])
    for place, change in flips:
        damaged[place % len(damaged)] ^= change
    for call in (
        lambda: read_picture(bytes(damaged), where="x")[0],
        lambda: inspect_picture(bytes(damaged), where="x", whole=True),
        lambda: picture_size(bytes(damaged), where="x"),
    ):
        try:
            call()
        except ImageError as error:
            assert str(error).startswith("cannot read the image x: ")


def test_an_error_crosses_from_a_decoding_process():
    import pickle  # as the data loader does, of our own object

    error = ImageError("a.png", "it is torn")
    again = pickle.loads(pickle.dumps(error))  # noqa: S301 - dumped here
    assert (str(again), again.where, again.reason) == (str(error), "a.png", "it is torn")


def test_a_photograph_of_a_telephone_is_not_called_animated():
    image = Image.fromarray(noise(shape=(64, 64, 3)))
    content = encoded(image, "MPO", save_all=True, append_images=[image.resize((16, 16))])
    assert inspect_picture(content, where="x", whole=True) == []
    assert np.array_equal(
        pixels_of(content), np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(content))))
    )
