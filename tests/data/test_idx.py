"""IDX files: every type and shape comes back, and no file, however broken, does more than raise a DataError."""

import gzip
import os
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from ganblocks.data.idx import FASHION_MNIST_CLASSES, idx_images, read_idx
from ganblocks.errors import DataError, EmptyDatasetError
from tolerances import named

CODES = {"u1": 0x08, "i1": 0x09, "i2": 0x0B, "i4": 0x0C, "f4": 0x0D, "f8": 0x0E}


def header(code: int, *sizes: int) -> bytes:
    return bytes([0, 0, code, len(sizes)]) + b"".join(size.to_bytes(4, "big") for size in sizes)


def encoded(array: np.ndarray) -> bytes:
    """The format written out by ``struct``, value by value."""
    letter = {"u1": "B", "i1": "b", "i2": "h", "i4": "i", "f4": "f", "f8": "d"}[array.dtype.str[1:]]
    values = b"".join(struct.pack(f">{letter}", value) for value in array.ravel().tolist())
    return header(CODES[array.dtype.str[1:]], *array.shape) + values


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def write_set(folder: Path, *, train: int = 5, test: int = 3, form: str = "{}-{}-idx{}-ubyte", packed: bool = True):
    """Four files as MNIST has them; label i is (3 * i) % 10."""
    folder.mkdir(exist_ok=True)
    content = {}
    for prefix, count in (("train", train), ("t10k", test)):
        images, labels = noise(count, 4, 4) + len(prefix), (3 * np.arange(count) % 10).astype(np.uint8)
        for kind, dimensions, array in (("images", 3, images), ("labels", 1, labels)):
            data = encoded(array)
            path = folder / (form.format(prefix, kind, dimensions) + (".gz" if packed else ""))
            path.write_bytes(gzip.compress(data) if packed else data)
            content[prefix, kind] = array
    return content


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "file"


@given(
    arrays.arrays(
        dtype=st.sampled_from([np.dtype(name) for name in CODES]),
        shape=arrays.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=4),
    ),
    st.booleans(),
)
def test_every_type_and_shape_comes_back(tmp_path_factory: pytest.TempPathFactory, array: np.ndarray, packed: bool):
    path = tmp_path_factory.mktemp("idx") / "file"  # its name says nothing
    path.write_bytes(gzip.compress(encoded(array)) if packed else encoded(array))
    result = read_idx(path)
    assert result.dtype == array.dtype
    assert result.dtype.isnative
    assert result.shape == array.shape
    assert result.tobytes() == array.tobytes()  # NaN included
    assert result.flags.writeable


def test_a_hand_written_file(path: Path) -> None:
    path.write_bytes(bytes.fromhex("00000b02 00000001 00000003 0102 fffe 7fff".replace(" ", "")))
    assert read_idx(path).tolist() == [[258, -2, 32767]]


@given(st.data())
def test_no_prefix_of_a_file_is_read_as_a_file(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    whole = encoded(noise(3, 2, 2))
    whole = gzip.compress(whole) if data.draw(st.booleans()) else whole
    cut = data.draw(st.integers(0, len(whole) - 1))
    path = tmp_path_factory.mktemp("idx") / "file"
    path.write_bytes(whole[:cut])
    with pytest.raises(DataError, match="file"):
        read_idx(path)


@given(position=st.integers(0, 43), bit=st.integers(0, 7))
def test_no_flipped_bit_does_more_than_change_a_value_or_raise(
    tmp_path_factory: pytest.TempPathFactory, position: int, bit: int
) -> None:
    content = bytearray(encoded(noise(7, 2, 2)))  # 16 bytes of header, 28 of values
    content[position] ^= 1 << bit
    path = tmp_path_factory.mktemp("idx") / "file"
    path.write_bytes(content)
    if (position, bit) == (2, 0):  # bytes with a sign are as good
        assert read_idx(path).tobytes() == noise(7, 2, 2).tobytes()
    elif position < 16:
        with pytest.raises(DataError):
            read_idx(path)
    else:
        assert (read_idx(path) != noise(7, 2, 2)).sum() == 1


def test_a_damaged_gzip_is_told_by_its_checksum(path: Path) -> None:
    content = bytearray(gzip.compress(encoded(noise(5, 2, 2))))
    content[-8] ^= 1  # of the CRC-32, which stands behind the last value
    path.write_bytes(content)
    with pytest.raises(DataError, match="BadGzipFile"):
        read_idx(path)


@pytest.mark.parametrize("packed", [False, True])
def test_what_follows_the_values_is_refused(path: Path, packed: bool) -> None:
    content = encoded(noise(5, 2, 2)) + b"\0"
    path.write_bytes(gzip.compress(content) if packed else content)
    with pytest.raises(DataError, match=r"goes on after its \(5, 2, 2\) of uint8"):
        read_idx(path)


@pytest.mark.parametrize(
    "start",
    [
        b"\x89PNG\r\n\x1a\n" + bytes(40),
        header(0x07, 1) + b"\0",
        header(0x0A, 1) + b"\0",
        b"\0\1\x08\1\0\0\0\1\0",
        header(0x08) + b"\0",  # no dimension
        header(0x08, *[1] * 33) + b"\0",
    ],
)
def test_another_magic_is_no_idx_file(path: Path, start: bytes) -> None:
    path.write_bytes(start)
    with pytest.raises(DataError, match="is no IDX file: it begins with"):
        read_idx(path)


@pytest.mark.parametrize("packed", [False, True])
def test_memory_follows_the_file_and_not_its_claims(path: Path, packed: bool) -> None:
    content = header(0x0E, 2**14, 2**14) + bytes(1000)  # 2 GiB of float64, it says
    path.write_bytes(gzip.compress(content) if packed else content)
    tracemalloc.start()
    try:
        with pytest.raises(
            DataError, match=r"ends after 1000 of the 2147483648 bytes of its \(16384, 16384\) of float"
        ):
            read_idx(path)
        assert tracemalloc.get_traced_memory()[1] < 8 * 2**20
    finally:
        tracemalloc.stop()


def test_a_claim_above_the_limit_is_not_even_unpacked(path: Path) -> None:
    path.write_bytes(gzip.compress(header(0x08, 5000, 1000) + bytes(5_000_000)))  # 5 kB on disk
    with pytest.raises(DataError, match="is 5000000 bytes, but `max_bytes` is 4999999"):
        read_idx(path, max_bytes=4_999_999)
    assert read_idx(path, max_bytes=5_000_000).shape == (5000, 1000)
    path.write_bytes(header(0x0E, *[2**32 - 1] * 32))
    with pytest.raises(DataError, match="max_bytes"):
        read_idx(path)
    with pytest.raises(ValueError, match="`max_bytes` is 0"):
        read_idx(path, max_bytes=0)


def test_a_size_of_zero_beside_giants_is_refused(path: Path) -> None:
    path.write_bytes(header(0x0E, 0, 2**32 - 1, 2**32 - 1))
    with pytest.raises(DataError, match="which no array can have"):
        read_idx(path)


def test_what_is_no_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        read_idx(tmp_path / "missing")
    with pytest.raises(DataError, match="is no regular file"):
        read_idx(tmp_path)
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(DataError, match="is no regular file"):
            read_idx(tmp_path / "pipe")


@pytest.mark.parametrize("form", ["{}-{}-idx{}-ubyte", "{}-{}.idx{}-ubyte"])
@pytest.mark.parametrize("packed", [False, True])
def test_both_parts_of_a_set_come_with_their_labels(tmp_path: Path, form: str, packed: bool) -> None:
    content = write_set(tmp_path, form=form, packed=packed)
    for split, prefix, count in (("train", "train", 5), ("test", "t10k", 3)):
        source = idx_images(tmp_path, split)  # type: ignore[arg-type]
        assert len(source) == count
        assert source.image_channels == 1
        assert source.labels is not None
        assert source.labels.tolist() == [3 * index % 10 for index in range(count)]
        for index in range(count):
            np.testing.assert_array_equal(source.read(index, 4)[0], content[prefix, "images"][index])
    assert idx_images(tmp_path).fingerprint != idx_images(tmp_path, "test").fingerprint


def test_one_file_is_what_it_is_and_finds_its_labels(tmp_path: Path) -> None:
    write_set(tmp_path)
    source = idx_images(tmp_path / "t10k-images-idx3-ubyte.gz", "train")
    assert source.fingerprint == idx_images(tmp_path, "test").fingerprint
    plain = gzip.decompress((tmp_path / "t10k-labels-idx1-ubyte.gz").read_bytes())
    (tmp_path / "t10k-labels-idx1-ubyte.gz").unlink()
    assert idx_images(tmp_path, "test").labels is None
    (tmp_path / "t10k-labels-idx1-ubyte").write_bytes(plain)  # packed images, plain labels
    assert idx_images(tmp_path, "test").fingerprint == source.fingerprint
    (tmp_path / "t10k-images-idx3-ubyte.gz").rename(tmp_path / "pixels")
    assert idx_images(tmp_path / "pixels").labels is None


def test_names_of_classes_are_the_callers(tmp_path: Path) -> None:
    write_set(tmp_path)
    assert idx_images(tmp_path).classes == tuple(map(str, range(10)))
    source = idx_images(tmp_path, classes=FASHION_MNIST_CLASSES)
    assert (len(source.classes), source.classes[9]) == (10, "Ankle boot")
    with pytest.raises(ValueError, match="at least 10 names"):
        idx_images(tmp_path, classes=("a", "b"))


def test_a_set_that_does_not_fit_together_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="`split` is 'val'"):
        idx_images(tmp_path, "val")  # type: ignore[arg-type]
    with pytest.raises(DataError, match="holds no train-images-idx3-ubyte"):
        idx_images(tmp_path)
    write_set(tmp_path, packed=False)
    labels, images = tmp_path / "train-labels-idx1-ubyte", tmp_path / "train-images-idx3-ubyte"
    for wrong in (np.arange(4, dtype="u1"), np.zeros((5, 1), "u1"), np.zeros(5, "f4")):
        labels.write_bytes(encoded(wrong))
        with pytest.raises(DataError, match="the labels of 5 images are as many integers"):
            idx_images(tmp_path)
    for wrong in (np.zeros((5, 4), "u1"), np.zeros((5, 4, 4), "f4")):
        images.write_bytes(encoded(wrong))
        with pytest.raises(DataError, match=r"but images are uint8 \[N, H, W\]"):
            idx_images(tmp_path)
    images.write_bytes(encoded(np.zeros((0, 4, 4), "u1")))
    labels.write_bytes(encoded(np.zeros(0, "u1")))
    with pytest.raises(EmptyDatasetError):
        idx_images(tmp_path)


@pytest.mark.parametrize("label", [-1, -(2**31), 65_536, 2**31 - 1])
def test_a_label_that_cannot_be_one_is_named_with_its_row(tmp_path: Path, label: int) -> None:
    """A damaged number would otherwise ask for billions of classes."""
    write_set(tmp_path, packed=False)
    labels = np.arange(5, dtype=">i4")
    labels[3] = label
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(encoded(labels))
    message = rf"'.*train-labels-idx1-ubyte' holds the label {label} in row 3 \(counted from 0\), but labels are from 0"
    with pytest.raises(DataError, match=message):
        idx_images(tmp_path)
    labels[1] = label
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(encoded(labels))
    with pytest.raises(DataError, match=rf"{label} in row 1 .* and 1 more such"):
        idx_images(tmp_path)
    labels[[1, 3]] = 65_535
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(encoded(labels))
    assert len(idx_images(tmp_path).classes) == 65_536


def test_mnist_is_what_its_readers_know(real_data: Path) -> None:
    if not (real_data / "mnist").is_dir():
        pytest.skip("there is no MNIST")
    train, test = idx_images(real_data / "mnist"), idx_images(real_data / "mnist", "test")
    assert (len(train), len(test)) == (60_000, 10_000)
    assert train.size(0) == (28, 28)
    assert train.labels is not None
    assert train.labels[:5].tolist() == [5, 0, 4, 1, 9]
    assert np.bincount(train.labels).tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    pixels = read_idx(real_data / "mnist" / "train-images-idx3-ubyte.gz") / 255.0
    np.testing.assert_allclose([pixels.mean(), pixels.std()], [0.1307, 0.3081], **named("four decimals"))
