"""A cache folder is whole or not there. What happens in crashes and on full disks stands in test_multi_resolution."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from ganblocks.data.array_cache import ArrayCache, Chunk, open_array
from ganblocks.errors import DataError

SHAPES = {4: (3, 1, 4, 4), 8: (3, 1, 8, 8)}
PIXELS = {size: np.arange(np.prod(shape), dtype=np.uint8).reshape(shape) for size, shape in SHAPES.items()}


def chunks() -> Iterator[Chunk]:
    yield {size: PIXELS[size][:2] for size in SHAPES}, [9, 10]
    yield {size: PIXELS[size][2:] for size in SHAPES}, [20]


def never() -> Iterator[Chunk]:
    raise AssertionError("the source was read again")
    yield


def test_what_was_written_is_read_back_without_the_source(tmp_path: Path) -> None:
    built, median = ArrayCache(tmp_path, "a", SHAPES).open_or_build(chunks())
    again, same = ArrayCache(tmp_path, "a", SHAPES).open_or_build(never())
    assert median == same == 10
    for size, pixels in PIXELS.items():
        assert np.array_equal(built[size], pixels)
        assert np.array_equal(again[size], pixels)
        assert not again[size].flags.writeable


def test_other_fingerprints_and_shapes_live_in_other_folders(tmp_path: Path) -> None:
    folders = {ArrayCache(tmp_path, name, shapes).folder for name in "ab" for shapes in (SHAPES, {4: (3, 1, 4, 4)})}
    assert len(folders) == 4


def test_a_folder_that_is_not_as_written_is_none(tmp_path: Path) -> None:
    cache = ArrayCache(tmp_path, "a", SHAPES)
    assert cache.open() is None
    cache.open_or_build(chunks())
    assert cache.open() is not None
    manifest = cache.folder / "manifest.json"
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "fingerprint": "b"}))
    assert cache.open() is None


def test_files_are_plain_npy(tmp_path: Path) -> None:
    cache = ArrayCache(tmp_path, "a", SHAPES)
    cache.open_or_build(chunks())
    assert np.array_equal(np.load(cache.folder / "8.npy", allow_pickle=False), open_array(cache.folder, 8))


def test_a_directory_that_cannot_be_made_is_a_data_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot be written"):
        ArrayCache(tmp_path / "file" / "cache", "a", SHAPES).open_or_build(chunks())
