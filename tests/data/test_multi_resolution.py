"""The cache of all resolutions: exact values, and never anything but a whole cache."""

import errno
import json
import os
import pickle
import shutil
import subprocess
import sys
import threading
import time
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ganblocks.data import array_cache, multi_resolution
from ganblocks.data.array_images import ArrayImages
from ganblocks.data.multi_resolution import MultiResolutionImages
from ganblocks.errors import DataError, EmptyDatasetError, ImageDecodeError


class CountingImages(ArrayImages):
    """Counts what is read; raises ``failure`` at the image ``fail_at``."""

    def __init__(
        self, *args: object, fail_at: int = -1, failure: BaseException | None = None, **kwargs: object
    ) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]
        self.touched = 0
        self.fail_at = fail_at
        self.failure = failure

    def size(self, index: int) -> tuple[int, int]:
        self.touched += 1
        return super().size(index)

    def read(self, index: int, resolution: int) -> np.ndarray:
        self.touched += 1
        if index == self.fail_at and self.failure is not None:
            raise self.failure
        return super().read(index, resolution)


def source(count: int = 5, *, seed: int = 0, side: int = 16, **options: object) -> CountingImages:
    pixels = np.random.default_rng(seed).integers(0, 256, (count, 3, side, side), dtype=np.uint8)
    return CountingImages(pixels, np.arange(count) % 2, layout="NCHW", **options)


def everything(images: MultiResolutionImages) -> dict[int, np.ndarray]:
    return {resolution: np.array(images.at(resolution)) for resolution in images.resolutions}


def assert_equal(first: MultiResolutionImages, second: MultiResolutionImages) -> None:
    assert first.resolutions == second.resolutions
    for resolution in first.resolutions:
        np.testing.assert_array_equal(first.at(resolution), second.at(resolution))


def box_average(image: np.ndarray) -> np.ndarray:
    """Half the resolution, pixel by pixel, in Python integers."""
    C, H, W = image.shape
    result = np.empty((C, H // 2, W // 2), np.uint8)
    for c in range(C):
        for y in range(H // 2):
            for x in range(W // 2):
                total = sum(int(image[c, 2 * y + j, 2 * x + i]) for j in (0, 1) for i in (0, 1))
                result[c, y, x] = (total + 2) // 4
    return result


# Values


@given(count=st.integers(1, 3), power=st.integers(0, 3), channels=st.sampled_from([1, 3, 4]), seed=st.integers(0, 99))
def test_every_level_is_the_rounded_box_average_of_the_next(count: int, power: int, channels: int, seed: int) -> None:
    side = 2**power
    pixels = np.random.default_rng(seed).choice(
        np.array([0, 1, 2, 3, 254, 255], np.uint8), size=(count, channels, side, side)
    )
    images = MultiResolutionImages(ArrayImages(pixels, layout="NCHW"), resolution=side, smallest=1)
    assert images.resolutions == tuple(2**k for k in range(power + 1))
    np.testing.assert_array_equal(images.at(side), pixels)
    for resolution in images.resolutions[:-1]:
        assert images.at(resolution).dtype == np.uint8
        for larger, smaller in zip(images.at(2 * resolution), images.at(resolution), strict=True):
            np.testing.assert_array_equal(smaller, box_average(larger))


def test_halves_are_rounded_up() -> None:
    pixels = np.array([[[0, 0], [0, 2]], [[255, 255], [255, 253]], [[0, 0], [0, 1]]], np.uint8)  # means 0.5 254.5 0.25
    assert MultiResolutionImages(ArrayImages(pixels), resolution=2, smallest=1).at(1).ravel().tolist() == [1, 255, 0]


def test_chunks_and_threads_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = MultiResolutionImages(source(23), resolution=16)
    monkeypatch.setattr(multi_resolution, "_CHUNK_BYTES", 4 * 3 * 16 * 16 + 5)  # four images a chunk
    for workers in (1, 4):
        assert_equal(MultiResolutionImages(source(23), resolution=16, workers=workers), expected)
        cached = MultiResolutionImages(source(23), resolution=16, workers=workers, cache_dir=tmp_path / str(workers))
        assert_equal(cached, expected)


def test_slow_first_images_do_not_change_the_order() -> None:
    class Slow(CountingImages):
        def read(self, index: int, resolution: int) -> np.ndarray:
            time.sleep(0.02 if index % 4 == 0 else 0)
            return super().read(index, resolution)

    pixels = np.arange(20, dtype=np.uint8).repeat(16).reshape(20, 4, 4)
    images = MultiResolutionImages(Slow(pixels), resolution=4, workers=4)
    np.testing.assert_array_equal(images.at(4), pixels[:, np.newaxis])


def test_threads_read_in_parallel() -> None:
    together = threading.Barrier(3, timeout=20)

    class Meeting(ArrayImages):
        def read(self, index: int, resolution: int) -> np.ndarray:
            together.wait()  # passes only when three threads are here at once
            return super().read(index, resolution)

    MultiResolutionImages(Meeting(np.zeros((6, 4, 4), np.uint8)), resolution=4, workers=3)


# Access


@pytest.mark.parametrize("cached", [False, True])
def test_batch_gathers_and_mirrors(tmp_path: Path, cached: bool) -> None:
    images = MultiResolutionImages(source(), resolution=16, cache_dir=tmp_path if cached else None)
    before = everything(images)
    mirror = np.array([True, False, True, False])
    batch = images.batch([4, 0, 0, 4], 8, mirror=mirror)
    assert batch.dtype == torch.uint8
    assert batch.is_contiguous()
    level = before[8]
    expected = np.stack([level[4][..., ::-1], level[0], level[0][..., ::-1], level[4]])
    np.testing.assert_array_equal(batch.numpy(), expected)
    batch.zero_()  # its own memory
    assert_equal_dict(everything(images), before)
    np.testing.assert_array_equal(images.batch(torch.tensor([1, 2]), 16).numpy(), before[16][1:3])
    assert images.batch([], 4).shape == (0, 3, 4, 4)
    labels = images.labels_of([4, 1, 0])
    assert labels is not None
    assert labels.dtype == torch.int64
    assert labels.tolist() == [0, 1, 0]


def assert_equal_dict(first: dict[int, np.ndarray], second: dict[int, np.ndarray]) -> None:
    assert first.keys() == second.keys()
    for key, value in first.items():
        np.testing.assert_array_equal(value, second[key])


@pytest.mark.parametrize("cached", [False, True])
def test_the_arrays_cannot_be_written(tmp_path: Path, cached: bool) -> None:
    images = MultiResolutionImages(source(), resolution=8, cache_dir=tmp_path if cached else None)
    for resolution in images.resolutions:
        with pytest.raises(ValueError, match="read-only"):
            images.at(resolution)[0] = 0


def test_a_batch_of_a_mapped_file_keeps_no_reference_to_it(tmp_path: Path) -> None:
    images = MultiResolutionImages(source(), resolution=8, cache_dir=tmp_path)
    assert isinstance(images.at(8).base, np.memmap)
    batch = images.batch([0, 1], 8).numpy()
    assert not np.shares_memory(batch, images.at(8))


def test_attributes_come_from_the_source() -> None:
    images = MultiResolutionImages(source(), resolution=8)
    assert len(images) == 5
    assert images.image_channels == 3
    assert images.classes == ("0", "1")
    assert images.fingerprint == source().fingerprint
    assert images.median_side == 16
    assert repr(images) == "MultiResolutionImages(5 images, C=3, (4, 8), in memory)"
    assert MultiResolutionImages(ArrayImages(np.zeros((1, 4, 4), np.uint8)), resolution=4).labels_of([0]) is None


def test_a_copy_for_another_process_carries_the_folder_and_not_the_pixels(tmp_path: Path) -> None:
    images = MultiResolutionImages(source(200), resolution=16, cache_dir=tmp_path)
    sent = pickle.dumps(images)
    assert len(sent) < 10_000 < images.at(16).nbytes
    assert_equal(pickle.loads(sent), images)


# The cache


def test_cached_equals_in_memory_and_the_second_time_the_source_is_not_touched(tmp_path: Path) -> None:
    in_memory = MultiResolutionImages(source(), resolution=16)
    assert_equal(MultiResolutionImages(source(), resolution=16, cache_dir=tmp_path / "new" / "folder"), in_memory)
    again = source()
    images = MultiResolutionImages(again, resolution=16, cache_dir=str(tmp_path / "new" / "folder"))
    assert_equal(images, in_memory)
    assert again.touched == 0
    assert images.median_side == in_memory.median_side
    (folder,) = (tmp_path / "new" / "folder").iterdir()
    assert sorted(path.name for path in folder.iterdir()) == ["16.npy", "4.npy", "8.npy", "manifest.json"]
    np.testing.assert_array_equal(np.load(folder / "8.npy", allow_pickle=False), in_memory.at(8))


def test_other_content_or_resolutions_get_another_folder(tmp_path: Path) -> None:
    for variant, options in [
        (source(), {"resolution": 16}),
        (source(seed=1), {"resolution": 16}),
        (source(), {"resolution": 8}),
        (source(), {"resolution": 16, "smallest": 8}),
        (source(image_channels=1), {"resolution": 16}),
    ]:
        before = len(list(tmp_path.iterdir()))
        images = MultiResolutionImages(variant, cache_dir=tmp_path, **options)
        assert variant.touched > 0
        assert len(list(tmp_path.iterdir())) == before + 1
        assert_equal(images, MultiResolutionImages(variant, **options))


def truncate(folder: Path) -> None:
    os.truncate(folder / "8.npy", (folder / "8.npy").stat().st_size - 1)


def lengthen(folder: Path) -> None:
    with open(folder / "16.npy", "ab") as file:
        file.write(b"x")


def lose_a_file(folder: Path) -> None:
    (folder / "4.npy").unlink()


def lose_the_manifest(folder: Path) -> None:
    (folder / "manifest.json").unlink()


def cut_the_manifest(folder: Path) -> None:
    path = folder / "manifest.json"
    path.write_text(path.read_text()[:-9])


def edit(key: str, value: object) -> object:
    def damage(folder: Path) -> None:
        path = folder / "manifest.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))

    damage.__name__ = f"edit_{key}_{value}"
    return damage


def empty_list_as_manifest(folder: Path) -> None:
    (folder / "manifest.json").write_text("[]")


def wrong_header(folder: Path) -> None:
    data = (folder / "8.npy").read_bytes()
    (folder / "8.npy").write_bytes(data.replace(b"(5, 3, 8, 8)", b"(5, 3, 4, 9)"))


def no_array(folder: Path) -> None:
    (folder / "8.npy").write_bytes(bytes((folder / "8.npy").stat().st_size))


def a_file_instead(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.write_text("not a folder")


@pytest.mark.parametrize(
    "damage",
    [
        truncate,
        lengthen,
        lose_a_file,
        lose_the_manifest,
        cut_the_manifest,
        edit("fingerprint", "another"),
        edit("format", 0),
        edit("files", {}),
        edit("median_side", None),
        edit("median_side", "many"),
        edit("more", 1),
        empty_list_as_manifest,
        wrong_header,
        no_array,
        a_file_instead,
    ],
    ids=lambda damage: damage.__name__,
)
def test_a_damaged_cache_is_built_again(tmp_path: Path, damage: object) -> None:
    expected = MultiResolutionImages(source(), resolution=16, cache_dir=tmp_path)
    copies = everything(expected)
    (folder,) = tmp_path.iterdir()
    damage(folder)  # type: ignore[operator]
    again = source()
    assert_equal_dict(everything(MultiResolutionImages(again, resolution=16, cache_dir=tmp_path)), copies)
    assert again.touched > 0
    third = source()
    MultiResolutionImages(third, resolution=16, cache_dir=tmp_path)
    assert third.touched == 0
    assert list(tmp_path.iterdir()) == [folder]


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("failure", [ImageDecodeError("image 3 is damaged"), OSError("gone"), KeyboardInterrupt()])
def test_a_failed_read_reaches_the_caller_and_leaves_nothing(
    tmp_path: Path, failure: BaseException, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(multi_resolution, "_CHUNK_BYTES", 1)  # one image a chunk: some are written before the failure
    threads = threading.active_count()
    with pytest.raises(type(failure)) as caught:
        MultiResolutionImages(
            source(fail_at=3, failure=failure), resolution=16, cache_dir=tmp_path / "cache", workers=workers
        )
    assert caught.value is failure
    assert list((tmp_path / "cache").iterdir()) == []
    assert threading.active_count() == threads
    with pytest.raises(type(failure)):
        MultiResolutionImages(source(fail_at=3, failure=failure), resolution=16, workers=workers)


def test_a_killed_build_is_never_used_and_is_swept(tmp_path: Path) -> None:
    script = """
import os, sys
import numpy as np
from ganblocks.data import multi_resolution
from ganblocks.data.array_images import ArrayImages
class Deadly(ArrayImages):
    def read(self, index, resolution):
        if index == 3:
            os._exit(9)
        return super().read(index, resolution)
    fingerprint = property(lambda self: "same", lambda self, value: None)
multi_resolution._CHUNK_BYTES = 1
multi_resolution.MultiResolutionImages(Deadly(np.zeros((5, 16, 16), np.uint8)), resolution=16, cache_dir=sys.argv[1])
"""
    killed = subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=False, env=environment())
    assert killed.returncode == 9
    (left,) = tmp_path.iterdir()
    assert left.name.endswith(".tmp")
    assert (left / "16.npy").exists()
    images = source()
    images.fingerprint = "same"
    MultiResolutionImages(images, resolution=16, cache_dir=tmp_path)
    assert images.touched > 0
    (folder,) = tmp_path.iterdir()
    assert not folder.name.endswith(".tmp")


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}


def test_only_temporaries_that_nobody_writes_are_swept(tmp_path: Path) -> None:
    host, own = array_cache._host(), os.getpid()
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    key = "0" * 16

    def leave(host: str, pid: int, *, days: float = 0) -> Path:
        folder = tmp_path / f".{key}.{host}.{pid}.{len(list(tmp_path.iterdir())):08x}.tmp"
        folder.mkdir()
        (folder / "4.npy").write_bytes(b"half")
        then = time.time() - days * 24 * 3600
        for path in (folder / "4.npy", folder):
            os.utime(path, (then, then))
        return folder

    stale = [
        leave(host, ended.pid),
        leave(host, own),
        leave("elsewhere", own, days=8),
        leave(host, os.getppid(), days=8),
    ]
    kept = [leave("elsewhere", ended.pid, days=6), leave(host, os.getppid()), tmp_path / ".mine.tmp"]
    kept[-1].mkdir()
    MultiResolutionImages(source(), resolution=8, cache_dir=tmp_path)
    assert not any(folder.exists() for folder in stale)
    assert all(folder.exists() for folder in kept)


def test_the_loser_of_a_race_uses_the_winners_cache(tmp_path: Path) -> None:
    class Overtaken(CountingImages):
        def read(self, index: int, resolution: int) -> np.ndarray:
            if index == 4:  # meanwhile, somebody else builds the same
                MultiResolutionImages(source(), resolution=16, cache_dir=tmp_path)
            return super().read(index, resolution)

    pixels = np.random.default_rng(0).integers(0, 256, (5, 3, 16, 16), dtype=np.uint8)
    loser = Overtaken(pixels, np.arange(5) % 2, layout="NCHW")
    loser.fingerprint = source().fingerprint
    images = MultiResolutionImages(loser, resolution=16, cache_dir=tmp_path)
    assert_equal(images, MultiResolutionImages(source(), resolution=16))
    (folder,) = tmp_path.iterdir()
    winner = folder / "16.npy"
    base = images.at(16).base
    assert isinstance(base, np.memmap)
    assert Path(str(base.filename)) == winner
    again = source()
    MultiResolutionImages(again, resolution=16, cache_dir=tmp_path)
    assert again.touched == 0


def test_a_broken_folder_that_appears_during_the_build_is_replaced(tmp_path: Path) -> None:
    name = next(iter(folder_names(tmp_path / "first")))

    class Disturbed(CountingImages):
        def read(self, index: int, resolution: int) -> np.ndarray:
            if index == 4:
                (tmp_path / "second" / name).mkdir()
                (tmp_path / "second" / name / "manifest.json").write_text("{}")
            return super().read(index, resolution)

    pixels = np.random.default_rng(0).integers(0, 256, (5, 3, 16, 16), dtype=np.uint8)
    disturbed = Disturbed(pixels, np.arange(5) % 2, layout="NCHW")
    disturbed.fingerprint = source().fingerprint
    images = MultiResolutionImages(disturbed, resolution=16, cache_dir=tmp_path / "second")
    assert_equal(images, MultiResolutionImages(source(), resolution=16))
    assert [path.name for path in (tmp_path / "second").iterdir()] == [name]


def folder_names(cache_dir: Path) -> list[str]:
    MultiResolutionImages(source(), resolution=16, cache_dir=cache_dir)
    return [path.name for path in cache_dir.iterdir()]


def test_threads_building_at_once_agree(tmp_path: Path) -> None:
    together = threading.Barrier(4, timeout=20)
    built: list[MultiResolutionImages] = []

    class Simultaneous(CountingImages):
        def read(self, index: int, resolution: int) -> np.ndarray:
            if index == 0:
                together.wait()  # all four are building before any can finish
            return super().read(index, resolution)

    def build() -> None:
        pixels = np.random.default_rng(0).integers(0, 256, (5, 3, 16, 16), dtype=np.uint8)
        built.append(MultiResolutionImages(Simultaneous(pixels, layout="NCHW"), resolution=16, cache_dir=tmp_path))

    threads = [threading.Thread(target=build) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(built) == 4
    for images in built:
        assert_equal(images, MultiResolutionImages(source(), resolution=16))
    assert len(list(tmp_path.iterdir())) == 1


# Memory


def test_images_that_do_not_fit_in_memory_are_told_with_their_shape() -> None:
    with pytest.raises(DataError, match=rf"shape \[5, 3, {2**22}, {2**22}\] .* need [\d,]+ bytes .*`cache_dir`"):
        MultiResolutionImages(source(), resolution=2**22, smallest=2**21)


def test_a_batch_that_does_not_fit_in_memory_is_told_with_its_shape(monkeypatch: pytest.MonkeyPatch) -> None:
    class Full:
        def __getitem__(self, indices: np.ndarray) -> np.ndarray:
            raise MemoryError("Unable to allocate")

    images = MultiResolutionImages(source(), resolution=16)
    monkeypatch.setattr(images, "at", lambda resolution: Full())
    with pytest.raises(DataError, match=r"a batch of shape \[3, 3, 16, 16\] does not fit in memory"):
        images.batch([1, 1, 2], 16)


# Disks


def needed_bytes(cache_dir: Path) -> int:
    MultiResolutionImages(source(), resolution=16, cache_dir=cache_dir)
    return sum(path.stat().st_size for path in cache_dir.glob("*/*.npy"))


def test_too_small_a_disk_is_noticed_before_anything_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    needed = needed_bytes(tmp_path / "first")
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(0, 0, needed - 1))
    images = source()
    with pytest.raises(DataError, match=rf"needs {needed:,} bytes in .*second, but only {needed - 1:,} are free"):
        MultiResolutionImages(images, resolution=16, cache_dir=tmp_path / "second")
    assert images.touched == 0
    assert list((tmp_path / "second").iterdir()) == []
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(0, 0, needed))
    MultiResolutionImages(images, resolution=16, cache_dir=tmp_path / "second")


@pytest.mark.parametrize("call", ["fsync", "rename", "mkdir"])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_disk_that_fills_up_is_a_data_error_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, code: int
) -> None:
    needed = needed_bytes(tmp_path / "first")
    (tmp_path / "second").mkdir()

    def full(*args: object, **kwargs: object) -> None:
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patched:
        patched.setattr(os, call, full)
        with pytest.raises(DataError, match=rf"needs {needed:,} bytes in .*second, but the disk is full"):
            MultiResolutionImages(source(), resolution=16, cache_dir=tmp_path / "second")
    assert list((tmp_path / "second").iterdir()) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs the device that is always full")
@pytest.mark.parametrize("count", [2, 500])  # less than the write buffer, so that only closing or flushing fails; more
def test_writing_to_a_full_device_is_a_data_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    def open_full(path: object, mode: str, **options: object) -> object:
        return open("/dev/full", "wb") if mode == "xb" else open(path, mode, **options)  # type: ignore[call-overload]

    monkeypatch.setattr(array_cache, "open", open_full, raising=False)
    with pytest.raises(DataError, match="but the disk is full"):
        MultiResolutionImages(source(count), resolution=16, cache_dir=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_cache_directory_that_cannot_be_made_is_a_data_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot be written"):
        MultiResolutionImages(source(), resolution=16, cache_dir=tmp_path / "file")


# Complaints


@pytest.mark.parametrize("cached", [False, True])
def test_a_resolution_above_the_data_warns_every_time_with_both_numbers(tmp_path: Path, cached: bool) -> None:
    for _ in range(2):  # building, and opening what was built
        with pytest.warns(UserWarning, match=r"`resolution` is 16, but the median shorter side .* 10 pixels") as caught:
            MultiResolutionImages(source(side=10), resolution=16, cache_dir=tmp_path if cached else None)
        assert len(caught) == 1
        assert caught[0].filename == __file__


def test_the_median_is_that_of_the_shorter_sides() -> None:
    class Mixed(ArrayImages):
        def size(self, index: int) -> tuple[int, int]:
            return [(10, 90), (20, 12), (50, 60)][index]

    with pytest.warns(UserWarning, match="is 12 pixels"):
        MultiResolutionImages(Mixed(np.zeros((3, 16, 16), np.uint8)), resolution=16)


@pytest.mark.parametrize(("value", "nearest"), [(48, "32 or 64"), (0, "1 or 2"), (-4, "1 or 2"), (3, "2 or 4")])
def test_only_powers_of_two_are_resolutions(value: int, nearest: str) -> None:
    with pytest.raises(ValueError, match=f"`resolution` is {value}, but must be a power of two; .* {nearest}"):
        MultiResolutionImages(source(), resolution=value)
    with pytest.raises(ValueError, match=f"`smallest` is {value}, but must be a power of two; .* {nearest}"):
        MultiResolutionImages(source(), resolution=64, smallest=value)


def test_wrong_arguments_are_named() -> None:
    with pytest.raises(ValueError, match="`smallest` is 16, but must be at most `resolution`, which is 8"):
        MultiResolutionImages(source(), resolution=8, smallest=16)
    with pytest.raises(ValueError, match="`workers` is 0"):
        MultiResolutionImages(source(), resolution=8, workers=0)
    images = MultiResolutionImages(source(), resolution=16)
    with pytest.raises(ValueError, match=r"`resolution` is 32, but must be one of \(4, 8, 16\)"):
        images.at(32)
    for wrong in ([5], [-1], [0, 7]):
        with pytest.raises(ValueError, match="must be in 0 to 4"):
            images.batch(wrong, 8)
        with pytest.raises(ValueError, match="must be in 0 to 4"):
            images.labels_of(wrong)
    with pytest.raises(ValueError, match="must be integers"):
        images.batch(np.array([0.0]), 8)
    with pytest.raises(ValueError, match="must be integers"):
        images.batch(np.array([[0]]), 8)
    with pytest.raises(ValueError, match=r"`mirror` is bool of shape \(1,\), but must be bool \[2\]"):
        images.batch([0, 1], 8, mirror=np.array([True]))
    with pytest.raises(ValueError, match="`mirror` is int64"):
        images.batch([0, 1], 8, mirror=np.array([1, 0]))


def test_an_empty_source_or_one_that_breaks_its_word_is_refused(tmp_path: Path) -> None:
    class Empty(ArrayImages):
        def __len__(self) -> int:
            return 0

    class Wrong(ArrayImages):
        def read(self, index: int, resolution: int) -> np.ndarray:
            return np.zeros((1, 1, resolution), np.uint8)  # would be broadcast

    with pytest.raises(EmptyDatasetError, match="no image"):
        MultiResolutionImages(Empty(np.zeros((1, 4, 4), np.uint8)), resolution=4)
    with pytest.raises(ValueError, match=r"image 0 as uint8 \(1, 1, 4\), but must return uint8 \(1, 4, 4\)"):
        MultiResolutionImages(Wrong(np.zeros((1, 4, 4), np.uint8)), resolution=4, cache_dir=tmp_path)


def test_the_progress_bar_counts_images_when_asked(capsys: pytest.CaptureFixture[str]) -> None:
    MultiResolutionImages(source(), resolution=8, progress=True)
    shown = capsys.readouterr().err
    assert "5/5" in shown
    assert "images/s" in shown
    MultiResolutionImages(source(), resolution=8, progress=False)
    MultiResolutionImages(source(), resolution=8)  # the captured stream is no terminal
    assert capsys.readouterr().err == ""
