"""A folder and an archive of images: labels, fingerprints, reading, and every way in which a file disappoints."""

import hashlib
import io
import json
import os
import pickle
import struct
import zipfile
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from ganblocks.data.image_folder import ImageFolder
from ganblocks.data.multi_resolution import MultiResolutionImages
from ganblocks.data.source import ImageSource
from ganblocks.errors import DataError, EmptyDatasetError, ImageDecodeError, ImageTooLargeError
from tolerances import named


def encoded(seed: int, size: tuple[int, int] = (9, 7), mode: str = "RGB") -> bytes:
    """A PNG of noise."""
    shape = (size[1], size[0], 3) if mode == "RGB" else (size[1], size[0])
    stream = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)).save(stream, "PNG")
    return stream.getvalue()


def folder(root: Path, *names: str) -> Path:
    for seed, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(encoded(seed))
    return root


def archive_of(root: Path, path: Path, compression: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for file in root.rglob("*"):
            archive.write(file, file.relative_to(root).as_posix())
    return path


# --- reading


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA])
def test_archive_reads_like_the_folder_it_was_made_of(tmp_path, compression):
    root = folder(tmp_path / "a", "cat/1.png", "cat/2.png", "dog/3.png", "dog/deeper/4.png")
    plain, packed = ImageFolder(root), ImageFolder(archive_of(root, tmp_path / "a.zip", compression))
    assert plain.names == packed.names == ("cat/1.png", "cat/2.png", "dog/3.png", "dog/deeper/4.png")
    assert plain.classes == packed.classes == ("cat", "dog")
    assert plain.labels.tolist() == packed.labels.tolist() == [0, 0, 1, 1]
    for index in range(4):
        assert plain.size(index) == packed.size(index) == (9, 7)
        assert np.array_equal(plain.load(index), packed.load(index))
        assert np.array_equal(plain.read(index, 4), packed.read(index, 4))


def test_each_index_reads_the_file_of_its_name(tmp_path):
    images = ImageFolder(folder(tmp_path, "b.png", "a.png"))
    assert images.names == ("a.png", "b.png")
    for index, seed in enumerate([1, 0]):
        assert np.array_equal(images.load(index), Image.open(io.BytesIO(encoded(seed))))
        # 9 x 7: one column too many on each side
        assert np.array_equal(images.read(index, 7), np.asarray(images.load(index))[:, 1:8].transpose(2, 0, 1))


def test_it_is_an_image_source(tmp_path):
    assert isinstance(ImageFolder(folder(tmp_path, "a.png")), ImageSource)


@pytest.mark.parametrize(("image_channels", "mode"), [(1, "L"), (3, "RGB")])
def test_image_channels_decide_the_mode(tmp_path, image_channels, mode):
    images = ImageFolder(folder(tmp_path, "a.png"), image_channels=image_channels)
    assert images.load(0).mode == mode
    assert images.read(0, 5).shape == (image_channels, 5, 5)


def test_options_reach_the_decoder(tmp_path):
    transparent = Image.new("RGBA", (8, 4), (0, 0, 0, 0))
    transparent.paste((0, 0, 0, 255), (0, 0, 2, 4))
    transparent.save(tmp_path / "a.png")
    assert set(ImageFolder(tmp_path, background=(9, 8, 7)).read(0, 4)[0].ravel().tolist()) == {9}
    squashed = ImageFolder(tmp_path, background=(90, 8, 7), crop="squash").read(0, 4)[0, 0].tolist()
    assert squashed[0] < 20  # a quarter of the width was black
    assert min(squashed[1:]) > 70
    with pytest.raises(ImageTooLargeError, match=r"'a\.png' claims 8 x 4 pixels"):
        ImageFolder(tmp_path, max_pixels=31).load(0)


def test_negative_index_counts_from_the_end_and_too_large_ones_raise(tmp_path):
    images = ImageFolder(folder(tmp_path, "a.png", "b.png"))
    assert np.array_equal(images.load(-1), images.load(1))
    for method in (images.load, images.size, lambda index: images.read(index, 4)):
        for index in (2, -3):
            with pytest.raises(IndexError):
                method(index)


def test_size_is_that_of_the_upright_image(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (30, 20)).save(tmp_path / "a.jpg", exif=exif)
    images = ImageFolder(tmp_path)
    assert images.size(0) == images.load(0).size == (20, 30)


def test_size_needs_the_header_only(tmp_path):
    (tmp_path / "a.png").write_bytes(encoded(0, (300, 200))[:60])
    images = ImageFolder(tmp_path)
    assert images.size(0) == (300, 200)
    with pytest.raises(ImageDecodeError, match=r"'a\.png'"):
        images.load(0)


@given(st.integers(4, 30), st.integers(4, 30), st.integers(1, 30), st.sampled_from(["L", "RGB"]))
def test_any_image_becomes_any_square(tmp_path_factory, width, height, resolution, mode):
    root = tmp_path_factory.mktemp("images")
    (root / "a.png").write_bytes(encoded(0, (width, height), mode))
    images = ImageFolder(root)
    assert images.size(0) == (width, height)
    assert images.read(0, resolution).shape == (3, resolution, resolution)
    assert images.read(0, resolution).dtype == np.uint8


def test_threads_read_one_archive_at_once(tmp_path):
    root = folder(tmp_path / "a", *(f"{index:02d}.png" for index in range(24)))
    images = ImageFolder(archive_of(root, tmp_path / "a.zip"))
    expected = [np.asarray(Image.open(io.BytesIO(encoded(seed)))) for seed in range(24)]
    with ThreadPoolExecutor(6) as pool:
        for _ in range(3):
            loaded = list(pool.map(lambda index: np.asarray(images.load(index)), range(24)))
            assert all(np.array_equal(one, other) for one, other in zip(loaded, expected, strict=True))


@pytest.mark.parametrize("packed", [False, True])
def test_it_can_be_sent_to_another_process(tmp_path, packed):
    root = folder(tmp_path / "a", "1/a.png", "2/b.png")
    images = ImageFolder(archive_of(root, tmp_path / "a.zip") if packed else root)
    images.load(0)
    copy = pickle.loads(pickle.dumps(images))
    assert copy.fingerprint == images.fingerprint
    assert np.array_equal(copy.load(1), images.load(1))


def test_wrong_extension_does_not_matter(tmp_path):
    (tmp_path / "really_a_png.jpg").write_bytes(encoded(3))
    assert np.array_equal(ImageFolder(tmp_path).load(0), Image.open(io.BytesIO(encoded(3))))


def test_its_printout_says_what_it_holds(tmp_path):
    text = repr(ImageFolder(folder(tmp_path, "x/a.png", "y/b.png"), image_channels=1))
    assert "2 images, 2 classes, 1 channels" in text


def jpeg(root: Path) -> Path:
    """A wave of 128 x 96 pixels in a folder."""
    root.mkdir()
    wave = np.rint(127.5 + 100 * np.sin(np.linspace(0, 6, 128))).astype(np.uint8)
    Image.fromarray(np.tile(wave, (96, 1))).convert("RGB").save(root / "wave.jpg", quality=95)
    return root


def test_fast_jpeg_reads_nearly_the_same_and_loads_exactly(tmp_path):
    root = jpeg(tmp_path / "a")
    exact, fast = ImageFolder(root), ImageFolder(root, fast_jpeg=True)
    assert np.array_equal(fast.load(0), exact.load(0))
    assert fast.size(0) == (128, 96)
    assert np.array_equal(fast.read(0, 32), exact.read(0, 32))  # half of 96 is below twice 32
    assert not np.array_equal(fast.read(0, 16), exact.read(0, 16))
    np.testing.assert_allclose(fast.read(0, 16).astype(int), exact.read(0, 16).astype(int), **named("fast_jpeg"))


def test_a_cache_of_the_one_way_of_reading_is_not_served_for_the_other(tmp_path):
    root, place = jpeg(tmp_path / "a"), tmp_path / "cache"

    def cached(**options) -> np.ndarray:
        return MultiResolutionImages(ImageFolder(root, **options), resolution=16, cache_dir=place).at(16).copy()

    exact, fast, again = cached(), cached(fast_jpeg=True), cached(fast_jpeg=False)
    assert len(list(place.iterdir())) == 2
    assert np.array_equal(exact, again)
    assert np.array_equal(fast[0], ImageFolder(root, fast_jpeg=True).read(0, 16))
    assert not np.array_equal(exact, fast)


# --- labels


@pytest.mark.parametrize(
    ("names", "classes", "labels"),
    [
        (["a.png", "b.png"], (), None),
        (["x/a.png", "y/b.png", "x/c.png"], ("x", "y"), [0, 0, 1]),
        (["wrap/a.png", "wrap/b.png"], (), None),
        (["wrap/x/a.png", "wrap/y/b.png"], ("x", "y"), [0, 1]),
        (["wrap/again/x/a.png", "wrap/again/y/b.png"], ("x", "y"), [0, 1]),
        (["x/deep/er/a.png", "x/b.png", "y/deep/c.png"], ("x", "y"), [0, 0, 1]),
        (["x/same/a.png", "y/same/a.png"], ("x", "y"), [0, 1]),
        (["prefix1/a.png", "prefix2/a.png"], ("prefix1", "prefix2"), [0, 1]),  # equal letters are no equal folder
        (["only/one.png"], (), None),
        (["10/a.png", "9/b.png"], ("10", "9"), [0, 1]),
    ],
)
def test_labels_are_the_first_folders_that_differ(tmp_path, names, classes, labels):
    root = folder(tmp_path / "a", *names)
    for images in (ImageFolder(root), ImageFolder(archive_of(root, tmp_path / "a.zip"))):
        assert images.classes == classes
        if labels is None:
            assert images.labels is None
        else:
            assert images.labels.tolist() == labels
            assert images.labels.dtype == np.int64


@pytest.mark.parametrize("wrap", ["", "wrap/"])
def test_images_beside_class_folders_raise(tmp_path, wrap):
    root = folder(tmp_path / "a", f"{wrap}x/a.png", f"{wrap}stray.png")
    with pytest.raises(DataError, match=rf"'{wrap}stray\.png' lies beside .* '{wrap}x/a\.png'"):
        ImageFolder(root)


def test_folders_without_images_make_no_classes(tmp_path):
    root = folder(tmp_path, "x/a.png", "y/b.png")
    (root / "empty").mkdir()
    (root / ".hidden").mkdir()
    (root / "notes.txt").write_text("beside the folders")
    assert ImageFolder(root).classes == ("x", "y")


# --- fingerprint


def test_fingerprint_is_a_pure_function_of_names_content_and_options(tmp_path):
    root = folder(tmp_path / "a", "x/a.png", "y/b.png")
    path = archive_of(root, tmp_path / "a.zip")
    for source in (root, path):
        assert ImageFolder(source).fingerprint == ImageFolder(str(source)).fingerprint
        assert len(bytes.fromhex(ImageFolder(source).fingerprint)) == 32
    moved = root.rename(tmp_path / "elsewhere")
    assert ImageFolder(moved).fingerprint == ImageFolder(tmp_path / "elsewhere").fingerprint


def test_every_option_changes_the_fingerprint(tmp_path):
    root = folder(tmp_path / "a", "a.png")
    variants = [{}, {"image_channels": 1}, {"crop": "squash"}, {"background": (0, 0, 0)}, {"max_pixels": 1000}]
    variants += [{"fast_jpeg": True}]
    for source in (root, archive_of(root, tmp_path / "a.zip")):
        assert len({ImageFolder(source, **options).fingerprint for options in variants}) == len(variants)


def test_without_options_the_fingerprint_is_as_it_ever_was(tmp_path):
    """Written out, since caches and runs are found again by it."""
    made = ImageFolder(folder(tmp_path / "a", "a.png", "b.png"))
    content = [[1, 3, "center", [255, 255, 255], 64_000_000], ["a.png", "b.png"], [list(s) for s in made.stamps]]
    assert made.fingerprint == hashlib.sha256(json.dumps(content).encode()).hexdigest()


def test_every_change_of_a_file_changes_the_fingerprint_of_the_folder(tmp_path):
    root = folder(tmp_path, "a.png", "b.png")
    seen = [ImageFolder(root).fingerprint]
    status = (root / "a.png").stat()
    os.utime(root / "a.png", ns=(status.st_atime_ns, status.st_mtime_ns + 1000))
    seen.append(ImageFolder(root).fingerprint)
    (root / "a.png").write_bytes((root / "a.png").read_bytes() + b"x")
    os.utime(root / "a.png", ns=(status.st_atime_ns, status.st_mtime_ns + 1000))  # other size, same time
    seen.append(ImageFolder(root).fingerprint)
    (root / "a.png").rename(root / "c.png")
    seen.append(ImageFolder(root).fingerprint)
    (root / "c.png").unlink()
    seen.append(ImageFolder(root).fingerprint)
    assert len(set(seen)) == len(seen)


def test_changed_bytes_change_the_fingerprint_of_an_archive(tmp_path):
    path = tmp_path / "a.zip"
    seen = []
    for content in (b"one", b"two"):  # equal name, equal size
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(zipfile.ZipInfo("a.png"), content)
        seen.append(ImageFolder(path).fingerprint)
    assert seen[0] != seen[1]


@pytest.mark.skipif(os.name == "nt", reason="names with line breaks exist on POSIX systems only")
def test_fingerprint_does_not_confuse_odd_names(tmp_path):
    first = folder(tmp_path / "1", "a.png\nb.png")
    second = folder(tmp_path / "2", "a.png", "b.png")
    assert ImageFolder(first).fingerprint != ImageFolder(second).fingerprint


# --- what goes wrong


@pytest.mark.parametrize("names", [(), (".hidden.png",), ("notes.txt",)])
def test_source_without_images_raises_with_the_extensions(tmp_path, names):
    root = folder(tmp_path / "a", *names)
    root.mkdir(exist_ok=True)
    for source in (root, archive_of(root, tmp_path / "a.zip")):
        with pytest.raises(EmptyDatasetError, match=r"holds no image; looked for \.bmp, .*\.png, .*\.webp"):
            ImageFolder(source)


def test_missing_source_raises(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        ImageFolder(tmp_path / "absent")


def test_file_that_vanishes_raises(tmp_path):
    images = ImageFolder(folder(tmp_path, "a.png", "b.png"))
    (tmp_path / "b.png").unlink()
    images.load(0)
    for method in (images.load, images.size):
        with pytest.raises(DataError, match=r"'b\.png'.*could not be opened; has it vanished\?"):
            method(1)


@pytest.mark.parametrize("content", [b"", encoded(0) + b"more", bytes(10**6)])
def test_file_that_changes_while_it_is_read_raises(tmp_path, content):
    images = ImageFolder(folder(tmp_path, "a.png"))
    opened = images._files.open

    def changing(index):
        stream = opened(index)
        (tmp_path / "a.png").write_bytes(content)
        return stream

    images._files.open = changing
    with pytest.raises(DataError, match=r"'a\.png' of .* has changed since"):
        images.load(0)


def test_bytes_of_a_file_are_given_as_they_are(tmp_path):
    root = folder(tmp_path / "a", "a.png", "b.png")
    (root / "b.png").write_bytes(b"no image")
    for images in (ImageFolder(root), ImageFolder(archive_of(root, tmp_path / "a.zip"))):
        assert [images.encoded(index) for index in (0, 1)] == [encoded(0), b"no image"]
        assert [stamp[0] for stamp in images.stamps] == [len(encoded(0)), 8]
        with pytest.raises(IndexError):
            images.encoded(2)


def test_archive_that_vanishes_raises(tmp_path):
    images = ImageFolder(archive_of(folder(tmp_path / "a", "a.png"), tmp_path / "a.zip"))
    (tmp_path / "a.zip").unlink()
    with pytest.raises(DataError, match=r"'a\.png' of .*a\.zip.*has it vanished\?"):
        images.load(0)


def test_damaged_entry_of_an_archive_raises(tmp_path):
    path = archive_of(folder(tmp_path / "a", "a.png"), tmp_path / "a.zip", zipfile.ZIP_STORED)
    content = bytearray(path.read_bytes())
    content[content.index(b"IDAT") + 10] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(ImageDecodeError, match=r"'a\.png' could not be read \(BadZipFile"):
        ImageFolder(path).load(0)


def test_encrypted_entry_of_an_archive_raises(tmp_path):
    path = archive_of(folder(tmp_path / "a", "a.png"), tmp_path / "a.zip", zipfile.ZIP_STORED)
    content = bytearray(path.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(signature) + offset] |= 1
    path.write_bytes(content)
    with pytest.raises(ImageDecodeError, match=r"'a\.png' of .*could not be unpacked .*encrypted"):
        ImageFolder(path).load(0)


def test_damaged_file_raises_and_leaves_the_others_readable(tmp_path):
    folder(tmp_path, "a.png", "b.png", "c.png")
    (tmp_path / "b.png").write_bytes(encoded(1)[:100])
    images = ImageFolder(tmp_path)
    with pytest.raises(ImageDecodeError, match=r"'b\.png'"):
        images.read(1, 4)
    assert images.read(0, 4).shape == images.read(2, 4).shape


def test_header_that_claims_too_much_raises_before_decoding(tmp_path):
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 20_000, 20_000, 8, 2, 0, 0, 0)
    (tmp_path / "bomb.png").write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b""))
    images = ImageFolder(tmp_path)
    for method in (images.load, images.size, lambda index: images.read(index, 8)):
        with pytest.raises(ImageTooLargeError, match=r"'bomb\.png' claims 20000 x 20000 pixels"):
            method(0)


def test_entry_larger_than_any_image_raises_before_it_is_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr("ganblocks.data.image_folder._METADATA_BYTES", 1000)
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.png", bytes(10_000))
    with pytest.raises(ImageTooLargeError, match=r"'a\.png' has 10000 bytes, more than 100 pixels can need"):
        ImageFolder(tmp_path / "a.zip", max_pixels=100).load(0)


def test_image_too_thin_for_a_crop_raises_with_its_name(tmp_path):
    Image.new("RGB", (4096, 1)).save(tmp_path / "thin.png")
    with pytest.raises(DataError, match=r"'thin\.png' is 4096 x 1 pixels"):
        ImageFolder(tmp_path).read(0, 16)
    assert ImageFolder(tmp_path, crop="squash").read(0, 16).shape == (3, 16, 16)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("image_channels", 2),
        ("image_channels", 4),
        ("crop", "middle"),
        ("background", (0, 0)),
        ("background", (0, 0, 256)),
        ("background", (0, 0, 0.5)),
        ("max_pixels", 0),
    ],
)
def test_option_out_of_range_raises(tmp_path, option, value):
    with pytest.raises(ValueError, match=f"`{option}` is "):
        ImageFolder(folder(tmp_path, "a.png"), **{option: value})


@pytest.mark.parametrize("resolution", [0, -4])
def test_resolution_below_one_raises(tmp_path, resolution):
    with pytest.raises(ValueError, match="`resolution` is"):
        ImageFolder(folder(tmp_path, "a.png")).read(0, resolution)


# --- real data


def test_real_scans_of_all_modes_and_sizes_are_read(real_data):
    path = real_data / "brain_mri" / "brain_tumor_dataset.zip"
    if not path.is_file():
        pytest.skip("no brain MRI among the real data")
    images = ImageFolder(path)
    assert len(images) == 253
    assert images.classes == ("no", "yes")
    assert np.bincount(images.labels).tolist() == [98, 155]
    with zipfile.ZipFile(path) as archive:
        for index, name in enumerate(images.names):
            square = images.read(index, 32)
            assert square.shape == (3, 32, 32)
            with Image.open(io.BytesIO(archive.read(name))) as original:
                assert images.size(index) == original.size
                if original.mode == "L":
                    assert np.array_equal(square[0], square[1])
            assert square.min() < 60 < square.max()  # a scan: dark ground, bright tissue
