"""Every row of the table in ganblocks.data.decode, with pixels computed by hand."""

import io
import struct
import zlib
from collections.abc import Callable
from contextlib import suppress

import numpy as np
import PIL
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageCms, ImageFile, ImageOps

from ganblocks.data.decode import ImageHeader, decode_image, image_header, image_size, square_pixels
from ganblocks.errors import DataError, ImageDecodeError, ImageTooLargeError
from tolerances import named

WHITE = (255, 255, 255)


def decode(encoded: bytes, *, image_channels=3, background=WHITE, max_pixels=10**8, **options) -> Image.Image:
    settings = {"image_channels": image_channels, "background": background, "max_pixels": max_pixels, **options}
    return decode_image(io.BytesIO(encoded), "it.png", **settings)


def pixels(encoded: bytes, **options) -> list:
    """All pixels as a flat list: tuples for 3 channels, numbers for 1."""
    array = np.asarray(decode(encoded, **options))
    return [tuple(p) for p in array.reshape(-1, 3).tolist()] if array.ndim == 3 else array.reshape(-1).tolist()


def encode(image: Image.Image, file_format: str = "PNG", **options) -> bytes:
    stream = io.BytesIO()
    image.save(stream, file_format, **options)
    return stream.getvalue()


def filled(mode: str, *values) -> Image.Image:
    """One row of pixels."""
    image = Image.new(mode, (len(values), 1))
    image.putdata(values)
    return image


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(
    width: int, height: int, depth: int, colour_type: int, rows: bytes, extra: bytes = b"", late: bytes = b""
) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0)
    body = chunk(b"IHDR", header) + extra + chunk(b"IDAT", zlib.compress(rows)) + late + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def palette_image(mode: str = "P") -> Image.Image:
    image = Image.new(mode, (2, 1))
    image.putpalette([10, 20, 30, 200, 100, 50])
    return image


def palette_png() -> Image.Image:
    image = palette_image()
    image.putdata([0, 1])
    return image


# Grey by hand: 0.299 * 200 + 0.587 * 100 + 0.114 * 50 = 124.2
COLOUR, COLOUR_GREY = (200, 100, 50), 124
# Half transparent on white by hand: (200 * 128 + 255 * 127) / 255 = 227.4, then 177.2 and 152.1; grey 189.1
HALF, HALF_GREY = (227, 177, 152), 189

BY_HAND: dict[str, tuple[Callable[[], bytes], list, list]] = {
    "RGB": (lambda: encode(filled("RGB", COLOUR)), [COLOUR], [COLOUR_GREY]),
    "RGB bmp": (lambda: encode(filled("RGB", COLOUR), "BMP"), [COLOUR], [COLOUR_GREY]),
    "RGB ppm": (lambda: b"P6 1 1 255\n" + bytes(COLOUR), [COLOUR], [COLOUR_GREY]),
    "RGB webp": (lambda: encode(filled("RGB", COLOUR), "WEBP", lossless=True), [COLOUR], [COLOUR_GREY]),
    "L": (lambda: encode(filled("L", 77)), [(77, 77, 77)], [77]),
    "1": (lambda: encode(filled("1", 0, 255)), [(0, 0, 0), WHITE], [0, 255]),
    "RGBA": (lambda: encode(filled("RGBA", (*COLOUR, 128), (255, 0, 0, 0))), [HALF, WHITE], [HALF_GREY, 255]),
    "LA": (lambda: encode(filled("LA", (100, 128), (0, 0))), [(177, 177, 177), WHITE], [177, 255]),
    "P": (lambda: encode(palette_png()), [(10, 20, 30), COLOUR], [18, COLOUR_GREY]),
    "P gif": (lambda: encode(palette_png(), "GIF"), [(10, 20, 30), COLOUR], [18, COLOUR_GREY]),
    "P, one transparent": (lambda: encode(palette_png(), transparency=0), [WHITE, COLOUR], [255, COLOUR_GREY]),
    "P, alpha table": (
        lambda: encode(palette_png(), transparency=bytes([0, 128])),
        [WHITE, HALF],
        [255, HALF_GREY],
    ),
    "L, one transparent": (
        lambda: png(2, 1, 8, 0, b"\0\x10\x20", chunk(b"tRNS", b"\0\x10")),
        [WHITE, (32, 32, 32)],
        [255, 32],
    ),
    "RGB, one transparent": (
        lambda: png(2, 1, 8, 2, b"\0\x10\x20\x30" + bytes(COLOUR), chunk(b"tRNS", b"\0\x10\0\x20\0\x30")),
        [WHITE, COLOUR],
        [255, COLOUR_GREY],
    ),
    "1, one transparent": (
        lambda: png(2, 1, 1, 0, b"\0\x40", chunk(b"tRNS", b"\0\0")),
        [WHITE, WHITE],  # the black one is transparent
        [255, 255],
    ),
    "I;16, one transparent": (
        lambda: png(2, 1, 16, 0, b"\0" + struct.pack(">HH", 300, 25700), chunk(b"tRNS", struct.pack(">H", 300))),
        [WHITE, (100, 100, 100)],
        [255, 100],
    ),
    "CMYK": (
        lambda: encode(filled("CMYK", (255, 0, 0, 0), (0, 0, 0, 128)), "TIFF"),
        [(0, 255, 255), (127, 127, 127)],
        [179, 127],  # 0.701 * 255 = 178.8
    ),
    "CMYK jpeg": (lambda: encode(Image.new("CMYK", (1, 1), (0, 0, 0, 255)), "JPEG"), [(0, 0, 0)], [0]),
    # R = 76 + 1.402 * 127 = 254.05; G = 76 + 0.344136 * 43 - 0.714136 * 127 = 0.1; B = 76 - 1.772 * 43 = -0.2
    "YCbCr": (lambda: encode(filled("YCbCr", (76, 85, 255)), "TIFF"), [(254, 0, 0)], [76]),
    "I;16 png": (
        lambda: png(4, 1, 16, 0, b"\0" + struct.pack(">4H", 0, 128, 129, 65535)),
        [(0, 0, 0), (0, 0, 0), (1, 1, 1), WHITE],
        [0, 0, 1, 255],
    ),
    "I tiff": (lambda: encode(filled("I", 0, 129, 65535), "TIFF"), [(0, 0, 0), (1, 1, 1), WHITE], [0, 1, 255]),
    "I pgm": (lambda: b"P5 2 1 65535\n" + struct.pack(">HH", 129, 25700), [(1, 1, 1), (100, 100, 100)], [1, 100]),
    "F": (lambda: encode(filled("F", 0.0, 0.25, 1.0), "TIFF"), [(0, 0, 0), (64, 64, 64), WHITE], [0, 64, 255]),
    "RGB of 16 bits": (
        lambda: png(1, 1, 16, 2, b"\0" + struct.pack(">3H", 200 * 256 + 255, 100 * 256, 50 * 256 + 7)),
        [COLOUR],
        [COLOUR_GREY],
    ),
    "RGBA of 16 bits": (
        lambda: png(1, 1, 16, 6, b"\0" + struct.pack(">4H", 200 * 256, 100 * 256, 50 * 256, 128 * 256)),
        [HALF],
        [HALF_GREY],
    ),
    "LA of 16 bits": (
        lambda: png(1, 1, 16, 4, b"\0" + struct.pack(">2H", 100 * 256, 128 * 256)),
        [(177, 177, 177)],
        [177],
    ),
}


UNREAD = pytest.mark.skipif(
    int(PIL.__version__.partition(".")[0]) < 13, reason="Pillow before 13 reads no TIFF in uncompressed YCbCr"
)


@pytest.mark.parametrize("kind", [pytest.param(kind, marks=[UNREAD] if kind == "YCbCr" else []) for kind in BY_HAND])
def test_each_kind_of_image_becomes_the_pixels_computed_by_hand(kind):
    make, colour, grey = BY_HAND[kind]
    assert pixels(make(), image_channels=3) == colour
    assert pixels(make(), image_channels=1) == grey
    assert decode(make(), image_channels=3).mode == "RGB"
    assert decode(make(), image_channels=1).mode == "L"


def test_palette_with_alpha_is_composited():
    image = Image.new("PA", (2, 1))
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putdata([(0, 0), (1, 128)])
    assert pixels(encode(image, "TIFF")) == [WHITE, HALF]


def test_lab_is_converted():
    encoded = encode(filled("LAB", (255, 128, 128), (0, 128, 128)), "TIFF")  # white and black; 128 stands for 0
    np.testing.assert_allclose(pixels(encoded), [WHITE, (0, 0, 0)], **named("one_level"))


def test_alpha_is_composited_on_the_background_that_was_asked_for():
    # 200 * 128 / 255 = 100.4, 50.2, (50 * 128 + 255 * 127) / 255 = 152.1
    encoded = encode(filled("RGBA", (*COLOUR, 128), (255, 0, 0, 0)))
    assert pixels(encoded, background=(0, 0, 255)) == [(100, 50, 152), (0, 0, 255)]
    assert pixels(encoded, background=(0, 0, 255), image_channels=1)[1] == 29  # 0.114 * 255 = 29.07


@pytest.mark.parametrize("big_endian", [False, True])
def test_16_bit_ramp_keeps_all_256_levels_and_rounds(big_endian):
    values = np.arange(65536).reshape(256, 256)
    encoded = encode(Image.fromarray(values.astype(">u2" if big_endian else "<u2")), "TIFF")
    assert Image.open(io.BytesIO(encoded)).mode == ("I;16B" if big_endian else "I;16")
    grey = np.asarray(decode(encoded, image_channels=1))
    assert np.array_equal(grey, np.rint(values / 257))
    assert len(np.unique(grey)) == 256


@pytest.mark.parametrize("values", [(-1, 0), (0, 65536)])
def test_integers_beyond_16_bits_raise(values):
    with pytest.raises(DataError, match=r"it.png.*integer grey values from .* 0 to 65535 are expected"):
        decode(encode(filled("I", *values), "TIFF"))


@pytest.mark.parametrize("value", [-0.01, 1.01, float("nan"), float("inf")])
def test_floats_beyond_one_raise(value):
    with pytest.raises(DataError, match=r"it.png.*floating-point grey values from .* 0 to 1 are expected"):
        decode(encode(filled("F", 0.5, value), "TIFF"))


@pytest.mark.parametrize("file_format", ["GIF", "PNG", "TIFF", "WEBP"])
def test_of_several_frames_the_first_counts(file_format):
    first, second = Image.new("RGB", (4, 4), (255, 0, 0)), Image.new("RGB", (4, 4), (0, 0, 255))
    options = {"lossless": True} if file_format == "WEBP" else {}
    encoded = encode(first, file_format, save_all=True, append_images=[second], **options)
    assert Image.open(io.BytesIO(encoded)).n_frames == 2
    assert set(pixels(encoded)) == {(255, 0, 0)}


def test_of_a_multi_picture_jpeg_the_first_counts():
    encoded = encode(Image.new("L", (8, 8), 30), "MPO", save_all=True, append_images=[Image.new("L", (8, 8), 200)])
    assert Image.open(io.BytesIO(encoded)).n_frames == 2
    assert set(pixels(encoded, image_channels=1)) == {30}


def test_colour_profile_and_gamma_do_not_change_the_numbers():
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert pixels(encode(filled("RGB", COLOUR), icc_profile=profile)) == [COLOUR]
    assert pixels(png(1, 1, 8, 2, b"\0" + bytes(COLOUR), chunk(b"gAMA", struct.pack(">I", 100_000)))) == [COLOUR]


UPRIGHT = 40 * np.array([[1, 2, 3], [4, 5, 6]])
# What lies in the file, by the EXIF standard's words: "the 0th row is the visual (top, ...) of the image, the 0th
# column the visual (left-hand side, ...)".
STORED = {
    1: [[1, 2, 3], [4, 5, 6]],  # row 0 top, column 0 left
    2: [[3, 2, 1], [6, 5, 4]],  # top, right
    3: [[6, 5, 4], [3, 2, 1]],  # bottom, right
    4: [[4, 5, 6], [1, 2, 3]],  # bottom, left
    5: [[1, 4], [2, 5], [3, 6]],  # left, top
    6: [[3, 6], [2, 5], [1, 4]],  # right, top
    7: [[6, 3], [5, 2], [4, 1]],  # right, bottom
    8: [[4, 1], [5, 2], [6, 3]],  # left, bottom
}


def oriented(orientation: int, file_format: str) -> bytes:
    stored = Image.fromarray((40 * np.array(STORED[orientation])).astype(np.uint8))
    exif = Image.Exif()
    exif[0x0112] = orientation
    if file_format == "PNG, EXIF last":
        rows = b"".join(b"\0" + row.tobytes() for row in np.asarray(stored))
        return png(*stored.size, 8, 0, rows, late=chunk(b"eXIf", exif.tobytes()[6:]))
    if file_format == "JPEG":  # large blocks, which the compression leaves flat
        stored = stored.resize((16 * stored.width, 16 * stored.height), Image.Resampling.NEAREST)
        return encode(stored, "JPEG", quality=100, exif=exif)
    return encode(stored, file_format, exif=exif, **({"lossless": True} if file_format == "WEBP" else {}))


@pytest.mark.parametrize("file_format", ["PNG", "PNG, EXIF last", "TIFF", "WEBP", "JPEG"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied_exactly_once(orientation, file_format):
    encoded = oriented(orientation, file_format)
    image = decode(encoded, image_channels=1)
    block = 16 if file_format == "JPEG" else 1
    assert image.size == (3 * block, 2 * block)
    assert image_size(io.BytesIO(encoded), "it.png", max_pixels=10**6) == image.size
    assert np.array_equal(np.asarray(image)[block // 2 :: block, block // 2 :: block], UPRIGHT)
    assert np.array_equal(np.asarray(ImageOps.exif_transpose(image)), np.asarray(image))


@pytest.mark.parametrize(
    ("mode", "file_format", "found"),
    [
        ("RGB", "JPEG", "RGB"),
        ("CMYK", "JPEG", "CMYK"),
        ("P", "GIF", "P"),
        ("1", "PNG", "1"),
        ("LA", "PNG", "LA"),
        ("RGBA", "WEBP", "RGBA"),
        ("F", "TIFF", "F"),
        ("I;16", "TIFF", "I;16"),
        ("L", "PPM", "L"),
        ("RGB", "BMP", "RGB"),
    ],
)
def test_the_header_tells_format_mode_and_size(mode, file_format, found):
    encoded = encode(Image.new(mode, (7, 5)), file_format)
    header = image_header(io.BytesIO(encoded), "it", max_pixels=35)
    assert header == ImageHeader(file_format, found, 7, 5)
    with pytest.raises(ImageTooLargeError):
        image_header(io.BytesIO(encoded), "it", max_pixels=34)


@pytest.mark.filterwarnings("ignore:.*EXIF data.*")
@pytest.mark.parametrize("exif", [b"", b"Exif\0\0", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0 no exif at all"])
def test_unreadable_exif_counts_as_none(exif):
    stored = Image.new("RGB", (8, 16), (255, 255, 255))
    for encoded in (encode(stored, "JPEG", exif=exif), encode(stored, "PNG", exif=exif)):
        assert decode(encoded).size == (8, 16)


@pytest.mark.parametrize("value", [0, 9, 65535])
def test_orientation_that_does_not_exist_counts_as_none(value):
    exif = Image.Exif()
    exif[0x0112] = value
    assert decode(encode(Image.new("RGB", (8, 16)), "JPEG", exif=exif)).size == (8, 16)


def noise(file_format: str) -> bytes:
    random = np.random.default_rng(0)
    return encode(Image.fromarray(random.integers(0, 256, (24, 24, 3), dtype=np.uint8)), file_format)


FORMATS = ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM")


@pytest.mark.parametrize("file_format", FORMATS)
def test_truncated_image_raises_a_decode_error_and_nothing_else(file_format):
    encoded = noise(file_format)
    for length in [*range(40), *range(40, len(encoded), max(1, len(encoded) // 60))]:
        with suppress(ImageDecodeError):
            decode(encoded[:length])
            assert length > 0.6 * len(encoded), f"{length} of {len(encoded)} bytes passed for an image"
    assert ImageFile.LOAD_TRUNCATED_IMAGES is False


@pytest.mark.parametrize("file_format", FORMATS)
def test_half_an_image_raises(file_format):
    encoded = noise(file_format)
    with pytest.raises(ImageDecodeError, match=r"it\.png"):
        decode(encoded[: len(encoded) // 2])


@pytest.mark.filterwarnings("ignore:.*EXIF data.*", "ignore:.*APNG.*")
@given(
    st.sampled_from(FORMATS),
    st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=6),
)
def test_changed_bytes_raise_a_data_error_or_decode(file_format, changes):
    encoded = bytearray(noise(file_format))
    for where, value in changes:
        encoded[int(where**2 * len(encoded))] = value  # more of them near the header
    with suppress(DataError):
        assert decode(bytes(encoded), max_pixels=10**6).mode == "RGB"


@given(
    st.sampled_from([b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF89a", b"BM", b"II*\0", b"P6 "]),
    st.binary(max_size=200),
)
def test_random_bytes_raise_nothing_but_decode_errors(start, tail):
    with suppress(ImageDecodeError, ImageTooLargeError):  # any other error fails the test
        decode(start + tail, max_pixels=10**5)


@pytest.mark.parametrize("encoded", [b"", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", b"<svg/>", b"\0" * 64])
def test_what_is_no_image_raises_and_is_not_handed_to_other_programs(encoded):
    with pytest.raises(ImageDecodeError, match=r"it\.png.* is no BMP, GIF, JPEG, PNG, PPM, TIFF or WebP"):
        decode(encoded)
    with pytest.raises(ImageDecodeError, match="is no BMP"):
        image_size(io.BytesIO(encoded), "it.png", max_pixels=100)


def test_header_that_claims_too_much_raises_before_decoding():
    bomb = png(20_000, 20_000, 8, 2, b"")  # there are no pixels: to decode it would be another error
    assert len(bomb) < 70
    with pytest.raises(ImageTooLargeError, match=r"it\.png.*20000 x 20000.*`max_pixels` is 64000000"):
        decode(bomb, max_pixels=64_000_000)
    with pytest.raises(ImageTooLargeError, match=r"20000 x 20000"):
        image_size(io.BytesIO(bomb), "it.png", max_pixels=64_000_000)
    assert image_size(io.BytesIO(bomb), "it.png", max_pixels=400_000_000) == (20_000, 20_000)  # by the header alone


def test_limit_itself_is_allowed():
    encoded = encode(Image.new("L", (4, 5)))
    assert decode(encoded, max_pixels=20).size == (4, 5)
    with pytest.raises(ImageTooLargeError):
        decode(encoded, max_pixels=19)


def outgrown_gif(width: int, height: int) -> bytes:
    """A GIF whose header claims 1 x 1 pixels and whose first frame has more."""
    header = b"GIF89a" + struct.pack("<HHBBB", 1, 1, 0x80, 0, 0) + bytes([0, 0, 0, 255, 255, 255])
    frame = b"," + struct.pack("<HHHHB", 0, 0, width, height, 0) + b"\x02\x02\x4c\x01\x00;"
    return header + frame


def test_pillows_own_limit_is_not_changed_and_used_by_its_own_readers_only(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)  # Pillow warns above 10 pixels, and raises above 20
    for file_format in ("PNG", "JPEG", "BMP", "PPM"):
        image = decode(noise(file_format), max_pixels=1000)
        assert square_pixels(image, 8, "center", "it.png").shape == (3, 8, 8)
    with pytest.raises(ImageTooLargeError, match=r"it\.png.*above Pillow's own limit"):
        decode(outgrown_gif(5, 5), max_pixels=1000)  # its reader applies the limit by itself
    assert Image.MAX_IMAGE_PIXELS == 10


def test_gif_frame_that_outgrows_its_header_counts_by_the_frame():
    with pytest.raises(ImageTooLargeError, match="5000 x 5000"):
        decode(outgrown_gif(5000, 5000), max_pixels=10**6)


# --- square_pixels


def numbered(width: int, height: int) -> Image.Image:
    """A grey image whose pixels are 1, 2, 3 ... row by row."""
    return Image.fromarray(np.arange(1, width * height + 1, dtype=np.uint8).reshape(height, width))


def test_centre_crop_takes_the_middle():
    # 7 x 4: three columns too many, one goes on the left and two on the right.
    expected = [[2, 3, 4, 5], [9, 10, 11, 12], [16, 17, 18, 19], [23, 24, 25, 26]]
    assert square_pixels(numbered(7, 4), 4, "center", "it").tolist() == [expected]
    # 4 x 6: one row too many above and below.
    assert square_pixels(numbered(4, 6), 4, "center", "it")[0, :, 0].tolist() == [5, 9, 13, 17]


def test_crop_happens_before_the_resize():
    image = Image.new("L", (30, 10), 0)
    image.paste(200, (10, 0, 20, 10))  # only the centre is bright; a filter that reached beyond the crop would dim it
    for resolution in (1, 4, 10, 25):
        assert set(square_pixels(image, resolution, "center", "it").ravel().tolist()) == {200}


def test_squash_keeps_the_whole_image():
    image = Image.new("L", (40, 8), 0)
    image.paste(255, (0, 0, 10, 8))
    row = square_pixels(image, 8, "squash", "it")[0, 3].tolist()
    assert row[0] > 240
    assert max(row[3:]) < 5


def test_shrinking_is_antialiased():
    checkerboard = Image.fromarray((np.indices((64, 64)).sum(axis=0) % 2 * 255).astype(np.uint8))
    assert set(square_pixels(checkerboard, 8, "center", "it").ravel().tolist()) <= {127, 128}


def test_growing_is_smooth():
    row = square_pixels(Image.fromarray(np.tile(np.arange(0, 160, 40, dtype=np.uint8), (4, 1))), 16, "center", "it")[
        0, 8
    ]
    assert np.all(np.diff(row[2:-2].astype(int)) > 0)
    assert abs(int(row[0]) - 0) < 10


@given(
    st.integers(4, 40),
    st.integers(4, 40),
    st.integers(1, 40),
    st.sampled_from(["center", "squash"]),
    st.sampled_from(["L", "RGB"]),
)
def test_result_is_square_and_a_plain_image_stays_plain(width, height, resolution, crop, mode):
    colour = (7, 130, 250) if mode == "RGB" else 130
    square = square_pixels(Image.new(mode, (width, height), colour), resolution, crop, "it")
    assert square.dtype == np.uint8
    assert square.flags.c_contiguous
    assert square.flags.writeable
    assert square.shape == (len(mode), resolution, resolution)
    assert [set(channel.ravel().tolist()) for channel in square] == [
        {level} for level in np.atleast_1d(colour).tolist()
    ]


@pytest.mark.parametrize("size", [(1, 1), (1, 4096), (4096, 3)])
def test_side_too_short_to_crop_raises_but_can_be_squashed(size):
    image = Image.new("L", size, 9)
    with pytest.raises(DataError, match=rf"'thin\.png' is {size[0]} x {size[1]} pixels.*at least 4.*crop=\"squash\""):
        square_pixels(image, 8, "center", "thin.png")
    assert set(square_pixels(image, 8, "squash", "thin.png").ravel().tolist()) == {9}


# --- JPEGs decoded at a fraction of their size


def waves(width: int, height: int, channels: int = 3) -> np.ndarray:
    """One wave across the picture in either direction, another phase in each channel: [height, width, channels]."""
    y, x = 2 * np.pi * np.arange(height)[:, None] / height, 2 * np.pi * np.arange(width) / width
    planes = [127.5 + 100 * np.sin(x + phase) * np.cos(y + phase) for phase in range(channels)]
    return np.rint(np.stack(planes, axis=-1)).astype(np.uint8)


def smooth_jpeg(width: int, height: int, mode: str = "RGB", **options) -> bytes:
    values = waves(width, height, len(mode) if mode != "L" else 1)
    return encode(Image.frombytes(mode, (width, height), values.tobytes()), "JPEG", quality=95, **options)


def squared(encoded: bytes, resolution: int, crop="center", *, fast: bool, **options) -> np.ndarray:
    image = decode(encoded, fast_jpeg_for=resolution if fast else None, **options)
    return square_pixels(image, resolution, crop, "it").astype(int)


@given(st.integers(8, 300), st.integers(8, 300), st.integers(1, 80))
def test_a_jpeg_is_decoded_at_the_smallest_fraction_that_keeps_twice_the_resolution(width, height, resolution):
    encoded = encode(Image.new("L", (width, height), 99), "JPEG")
    least = max(2 * resolution, 4)  # what is less than 4 cannot be cropped
    part = next((part for part in (8, 4, 2) if min(width, height) / part >= least), 1)
    assert decode(encoded, image_channels=1, fast_jpeg_for=resolution).size == (width // part, height // part)
    assert decode(encoded, image_channels=1).size == (width, height)


@pytest.mark.parametrize("crop", ["center", "squash"])
@pytest.mark.parametrize("image_channels", [1, 3])
@pytest.mark.parametrize("options", [{}, {"subsampling": 0}, {"progressive": True}], ids=str)
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_a_smooth_jpeg_is_nearly_the_same_at_a_fraction(mode, options, image_channels, crop):
    for width, height, resolution in ((256, 256, 16), (384, 512, 32), (320, 192, 48)):
        encoded = smooth_jpeg(width, height, mode, **options)
        exact = squared(encoded, resolution, crop, fast=False, image_channels=image_channels)
        fast = squared(encoded, resolution, crop, fast=True, image_channels=image_channels)
        np.testing.assert_allclose(fast, exact, **named("fast_jpeg"))
        assert exact.max() - exact.min() > 50


@pytest.mark.parametrize("size", [(257, 301), (135, 263), (270, 129)])
def test_a_fraction_that_does_not_divide_the_sides_moves_the_square_by_half_a_pixel_at_most(size):
    encoded = smooth_jpeg(*size)
    np.testing.assert_allclose(
        squared(encoded, 16, "squash", fast=True), squared(encoded, 16, "squash", fast=False), **named("fast_jpeg")
    )
    steepest = 2 * np.pi * 100 / min(size) * (min(size) / 16)  # levels from one pixel of the result to the next
    allowed = steepest / 2 + named("fast_jpeg")["atol"]
    difference = squared(encoded, 16, fast=True) - squared(encoded, 16, fast=False)
    assert np.abs(difference).max() <= allowed


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_jpeg_is_upright_at_a_fraction_too(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    encoded = smooth_jpeg(256, 192, exif=exif)
    image = decode(encoded, fast_jpeg_for=16)
    assert image.size == ((48, 64) if orientation > 4 else (64, 48))
    np.testing.assert_allclose(squared(encoded, 16, fast=True), squared(encoded, 16, fast=False), **named("fast_jpeg"))
    assert np.array_equal(np.asarray(ImageOps.exif_transpose(image)), np.asarray(image))


def test_a_jpeg_too_small_for_a_fraction_is_decoded_exactly():
    for mode in ("RGB", "L", "CMYK"):
        for size in ((127, 400), (400, 127), (127, 127)):
            encoded = smooth_jpeg(*size, mode)
            assert np.array_equal(decode(encoded, fast_jpeg_for=32), decode(encoded))
            assert decode(smooth_jpeg(128, 128, mode), fast_jpeg_for=32).size == (64, 64)


@pytest.mark.parametrize("file_format", ["PNG", "BMP", "PPM", "TIFF", "WEBP", "GIF"])
def test_no_other_format_is_decoded_at_a_fraction(file_format):
    encoded = encode(Image.fromarray(waves(256, 192)), file_format)
    assert np.array_equal(decode(encoded, fast_jpeg_for=4), decode(encoded))


def test_grey_of_a_colour_jpeg_keeps_its_rule_at_a_fraction():
    """Not the grey that the file stores: the weights of BT.601 on red, green and blue, rounded as Pillow does."""
    blocks = 255 * np.random.default_rng(0).integers(0, 2, (16, 16, 3))  # so strong that RGB is clipped
    encoded = encode(Image.fromarray(np.kron(blocks, np.ones((4, 4, 1))).astype(np.uint8)), "JPEG", quality=30)
    colour, grey = decode(encoded, fast_jpeg_for=8), decode(encoded, image_channels=1, fast_jpeg_for=8)
    assert colour.size == grey.size == (16, 16)
    assert np.ptp(np.asarray(colour), axis=2).max() > 10
    assert np.array_equal(grey, colour.convert("L"))
    stored = Image.open(io.BytesIO(encoded))
    stored.draft("L", (16, 16))
    assert not np.array_equal(grey, stored)


def test_damaged_and_too_large_jpegs_raise_at_a_fraction_too():
    encoded = smooth_jpeg(256, 192)
    with pytest.raises(ImageDecodeError):
        decode(encoded[: len(encoded) // 2], fast_jpeg_for=8)
    with pytest.raises(ImageTooLargeError):
        decode(encoded, fast_jpeg_for=8, max_pixels=256 * 192 - 1)
