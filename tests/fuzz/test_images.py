"""Stored images: every format Pillow writes, damaged, giant, deep or no image at all; and folders that lead elsewhere."""

import io
import os
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pmqbench.errors import PMQError
from pmqbench.tasks.images import decode
from pmqbench.tasks.kinds.base import make_task
from pmqbench.tasks.sources.local import LocalImages
from tests.fuzz.inputs import damaged
from tests.fuzz.survival import outcome

SIZE = 8
MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "LAB", "HSV", "I", "I;16", "F")
FORMATS = (
    "PNG",
    "JPEG",
    "GIF",
    "WEBP",
    "BMP",
    "TIFF",
    "PPM",
    "ICO",
    "TGA",
    "JPEG2000",
    "DDS",
    "ICNS",
    "SGI",
    "PCX",
    "EPS",
    "PDF",
)


def stored(mode, form, width=11, height=9, **options):
    """An image of that mode as that format, or of the mode that the format takes."""
    rgb = Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8), "RGB")
    try:
        image = rgb.convert(mode)
    except ValueError:
        image = Image.new(mode, (width, height))
    for tried in (image, rgb):
        buffer = io.BytesIO()
        try:
            tried.save(buffer, form, **options)
        except (OSError, ValueError, KeyError, SystemError):
            continue
        return buffer.getvalue()
    return b""


def png(width, height, data=b"", kind=2, depth=8):
    """A PNG whose header says that it has so many pixels."""

    def chunk(name, content):
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    head = struct.pack(">IIBBBBB", width & 0xFFFFFFFF, height & 0xFFFFFFFF, depth, kind, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")


def animated(form):
    frames = [Image.new("RGB", (5, 6), (40 * i, 0, 0)) for i in range(3)]
    buffer = io.BytesIO()
    frames[0].save(buffer, form, save_all=True, append_images=frames[1:])
    return buffer.getvalue()


def turned(value):
    exif = Image.Exif()
    exif[0x0112] = value
    return stored("RGB", "JPEG", exif=exif)


SPECIAL = (
    *(png(*shape) for shape in ((0, 0), (1, 2**31 - 1), (2**31 - 1, 1), (60_000, 60_000), (1, 1), (1, 100_000), (-1, -1))),
    png(30_000, 2_900, bytes(1000)),
    png(4, 4, bytes(10_000_000)),
    *map(animated, ("GIF", "WEBP", "TIFF", "PNG")),
    *map(turned, (0, 1, 6, 9, 65_535)),
    b"<svg xmlns='http://www.w3.org/2000/svg'><image href='file:///etc/passwd'/></svg>",
    b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 5 5\n(%pipe%touch /tmp/x) (w) file\n",
    b"",
    b"GIF89a",
    b"\x89PNG\r\n\x1a\n",
)
WHOLE = st.builds(stored, st.sampled_from(MODES), st.sampled_from(FORMATS))


@given(content=st.one_of(WHOLE, WHOLE.flatmap(damaged), st.sampled_from(SPECIAL), st.binary(max_size=64)))
def test_stored_images(content):
    image = outcome(decode, content, SIZE, "row 7")
    if isinstance(image, PMQError):
        assert image.where == "row 7"
    else:
        assert (image.shape, image.dtype) == ((3, SIZE, SIZE), np.uint8)


@given(width=st.integers(1, 300), height=st.integers(1, 300), mode=st.sampled_from(MODES))
def test_whole_images_of_eight_bits_are_taken(width, height, mode):
    image = outcome(decode, stored(mode, "PNG", width, height), SIZE, "here")
    assert not isinstance(image, PMQError) or "more than 8 bits" in image.what


CLASSES = ("a", "b")


def folder_task(folder):
    source = {"name": "local", "path": str(folder), "image_size": SIZE}
    return make_task("mine", {"source": source, "classnames": CLASSES, "templates": ["{}"]}, "tasks.0")


@pytest.fixture
def images(tmp_path):
    """A folder of two classes, and a secret beside it."""
    for split in ("train", "test"):
        for name in CLASSES:
            place = tmp_path / "data" / split / name
            place.mkdir(parents=True)
            for i in range(6):
                (place / f"{i}.png").write_bytes(stored("RGB", "PNG"))
    (tmp_path / "secret.png").write_bytes(stored("RGB", "PNG", 20, 20))
    (tmp_path / "elsewhere" / "b").mkdir(parents=True)
    (tmp_path / "elsewhere" / "b" / "x.png").write_bytes(stored("RGB", "PNG", 20, 20))
    return tmp_path / "data"


PLACES = {
    "an image elsewhere": lambda folder: (folder / "train/a/secret.png").symlink_to(folder.parent / "secret.png"),
    "a folder elsewhere": lambda folder: (folder / "train/c").symlink_to(folder.parent / "elsewhere"),
    "itself": lambda folder: (folder / "train/a/loop").symlink_to(folder / "train"),
    "a link to itself": lambda folder: (folder / "train/a/loop.png").symlink_to(folder / "train/a/loop.png"),
    "nowhere": lambda folder: (folder / "train/a/gone.png").symlink_to(folder / "gone.png"),
    "a device": lambda folder: (folder / "train/a/zero.png").symlink_to("/dev/zero"),
    "a pipe": lambda folder: os.mkfifo(folder / "train/a/pipe.png"),
    "a folder called like an image": lambda folder: (folder / "train/a/x.png").mkdir(),
    "control characters": lambda folder: (folder / "train/a/\x1b[2J\n.png").write_bytes(b"no image"),
    "no UTF-8": lambda folder: (
        os.fsencode(folder / "train/a/") and open(os.fsencode(folder) + b"/train/a/\xff.png", "wb").close()
    ),
}


@pytest.mark.parametrize("what", PLACES)
def test_image_folders_with(what, images):
    PLACES[what](images)
    made = outcome(lambda: folder_task(images))
    if isinstance(made, PMQError):
        return

    def read():
        split, _ = LocalImages(path=str(images), image_size=SIZE).split(made, "train")
        return sum(map(len, split.batches))

    taken = outcome(read)
    assert isinstance(taken, PMQError) or taken <= 12


def test_a_giant_file_is_not_read(tmp_path):
    path = tmp_path / "giant.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n")
    os.truncate(path, 2**40)  # has a hole
    refused = outcome(decode, path, SIZE, "row 7")
    assert "too large" in refused.what


def test_a_chunk_that_claims_gigabytes_is_not_asked_for(tmp_path):
    whole = png(4, 4, bytes(60))
    place = whole.index(b"IDAT") - 4
    path = tmp_path / "claims.png"
    path.write_bytes(whole[:place] + b"\xf0\x00\x00\x00" + whole[place + 4 :])
    outcome(decode, path, SIZE, "row 7")  # within 3 GB, or the limit of the test ends it
