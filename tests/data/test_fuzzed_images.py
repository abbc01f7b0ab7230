"""Whatever is done to the bytes of an image, decoding gives an image of the size it states, or a typed error."""

import io
import random
import struct
import sys
import tracemalloc
import zlib
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from ganblocks.data.decode import decode_image, image_size
from ganblocks.errors import DataError, ImageDecodeError, ImageTooLargeError

MAX_PIXELS = 100_000
MEMORY = 64 * 2**20  # of Python's own; an image at the limit in four copies is 2 MiB
SIDES = (7, 5)


def encoded(file_format: str, mode: str = "RGB", **options: object) -> bytes:
    generator = np.random.default_rng(0)
    shape = SIDES[::-1] if mode in ("L", "P", "1", "I;16") else (*SIDES[::-1], len(mode))
    pixels = generator.integers(0, 256, shape, np.uint16 if mode == "I;16" else np.uint8)
    image = Image.fromarray(pixels, None) if mode == "I;16" else Image.fromarray(pixels)
    if mode in ("P", "1", "CMYK"):
        image = image.convert(mode)
    stream = io.BytesIO()
    image.save(stream, file_format, **options)
    return stream.getvalue()


EXIF = b"Exif\0\0II*\0\x08\0\0\0\1\0\x12\1\3\0\1\0\0\0\6\0\0\0\0\0\0\0"
FRAMES = [Image.new("P", SIDES, colour) for colour in (1, 2, 3)]
SEEDS = {
    "png": encoded("PNG"),
    "png-palette": encoded("PNG", "P", transparency=3),
    "png-16": encoded("PNG", "I;16"),
    "png-exif": encoded("PNG", "RGBA", exif=EXIF),
    "apng": encoded("PNG", "RGBA", save_all=True, append_images=[Image.new("RGBA", SIDES)]),
    "jpeg": encoded("JPEG", exif=EXIF),
    "jpeg-progressive": encoded("JPEG", progressive=True),
    "gif": encoded("GIF", "P"),
    "gif-frames": encoded("GIF", "P", save_all=True, append_images=FRAMES),
    "bmp": encoded("BMP"),
    "bmp-palette": encoded("BMP", "P"),
    "webp": encoded("WEBP", "RGBA"),
    "webp-lossless": encoded("WEBP", "RGB", lossless=True),
    "tiff": encoded("TIFF"),
    "tiff-lzw": encoded("TIFF", "RGB", compression="tiff_lzw"),
    "tiff-deflate": encoded("TIFF", "L", compression="tiff_deflate"),
    "ppm": encoded("PPM"),
    "pgm": encoded("PPM", "L"),
    "pbm": encoded("PPM", "1"),
    "ppm-plain": b"P3 3 2 255 " + b"1 2 3 " * 6,
}


def mutated(content: bytes, generator: random.Random) -> bytes:
    damaged = bytearray(content)
    for _ in range(generator.choice((1, 1, 2, 3, 8))):
        # The beginning decides most.
        reach = len(damaged) if generator.random() < 0.5 else min(len(damaged), 64)
        start = generator.randrange(reach + 1)
        end = min(len(damaged), start + generator.choice((1, 2, 4, 16)))
        match generator.randrange(7):
            case 0 if start < len(damaged):
                damaged[start] ^= 1 << generator.randrange(8)
            case 1:
                damaged[start:end] = generator.choice((b"\0", b"\xff", b"\x7f")) * (end - start)
            case 2:
                damaged[start:end] = generator.randbytes(end - start)
            case 3:
                del damaged[start:end]
            case 4:
                damaged[start:start] = damaged[start:end]
            case 5:
                number = generator.choice((0, 1, 255, 65535, 2**31 - 1, 2**31, 2**32 - 1))
                damaged[start : start + 4] = struct.pack(generator.choice(("<I", ">I")), number)
            case 6:
                del damaged[start:]
    return bytes(damaged)


def mended(content: bytes) -> bytes:
    """A PNG with its checksums made right again, so that damage gets behind them."""
    fixed, position = bytearray(content), 8
    while position + 12 <= len(fixed):
        length = int.from_bytes(fixed[position : position + 4], "big")
        end = position + 8 + length
        if end + 4 > len(fixed):
            break
        fixed[end : end + 4] = zlib.crc32(fixed[position + 4 : end]).to_bytes(4, "big")
        position = end + 4
    return bytes(fixed)


def reason_of(error: DataError, name: str) -> str:
    """The type of the error, which must name the image, and be one of a decoder's."""
    assert name in str(error)
    assert type(error) in (ImageDecodeError, ImageTooLargeError) or "grey values" in str(error), error
    return type(error).__name__


def peak_of_memory() -> int:
    """Bytes that this process has held at most; 0 where they are counted in other units."""
    if not sys.platform.startswith("linux"):
        return 0
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def fuzz(count: int, seed: int) -> Counter[str]:
    """Decode ``count`` damaged images; what came of each."""
    generator, seen = random.Random(seed), Counter[str]()
    names = list(SEEDS)
    for number in range(count):
        name = names[number % len(names)]
        content = SEEDS[name] if number < len(names) else mutated(SEEDS[name], generator)
        if name.startswith(("png", "apng")) and number % 2:
            content = mended(content)
        channels = (3, 1)[number % 2]
        try:
            stated: tuple[int, int] | None = image_size(io.BytesIO(content), name, max_pixels=MAX_PIXELS)
        except (ImageDecodeError, ImageTooLargeError):
            stated = None
        try:
            image = decode_image(
                io.BytesIO(content), name, image_channels=channels, background=(9, 8, 7), max_pixels=MAX_PIXELS
            )
        except DataError as refusal:
            seen[reason_of(refusal, name)] += 1
            continue
        assert image.mode == {3: "RGB", 1: "L"}[channels]
        assert image.size == stated, f"{name}: {content!r} states {stated}, but is {image.size}"
        assert image.width * image.height <= MAX_PIXELS
        assert np.asarray(image).shape == (image.height, image.width, 3)[: 2 + (channels == 3)]
        seen["decoded"] += 1
    return seen


@pytest.mark.filterwarnings("ignore")  # Pillow tells of odd metadata; what counts is the outcome
@pytest.mark.parametrize("count", [10_000, pytest.param(100_000, marks=[pytest.mark.slow, pytest.mark.timeout(3600)])])
def test_a_damaged_image_is_an_image_of_its_stated_size_or_a_typed_error(count: int) -> None:
    resident = peak_of_memory()
    seen = fuzz(count, seed=count)
    grown = peak_of_memory() - resident
    print(dict(seen), f"grown by {grown}")
    assert min(seen[name] for name in ("decoded", "ImageDecodeError", "ImageTooLargeError")) > count / 200
    assert grown < 4 * MEMORY


@pytest.mark.filterwarnings("ignore")
def test_damaged_images_take_little_memory() -> None:
    tracemalloc.start()
    try:
        fuzz(500, seed=1)
        assert tracemalloc.get_traced_memory()[1] < MEMORY
    finally:
        tracemalloc.stop()
