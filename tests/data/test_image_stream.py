"""A stream gives each image once, in order, whatever the batches and threads; damage stops it or is listed."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from ganblocks.data import ArrayImages, ImageFolder
from ganblocks.data.image_stream import ImageStream, chosen_indices, common_side, warn_of_compression
from ganblocks.errors import EmptyDatasetError, ImageDecodeError


def numbered(count: int, side: int = 4) -> ArrayImages:
    return ArrayImages(np.repeat(np.arange(count, dtype=np.uint8), side * side).reshape(count, side, side))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four good images, of two sizes, and one that is cut short."""
    for number, side in enumerate((8, 8, 8, 12)):
        pixels = np.random.default_rng(number).integers(0, 256, (side, side, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
    whole = (tmp_path / "1.png").read_bytes()
    (tmp_path / "2_cut.png").write_bytes(whole[: len(whole) // 2])
    return tmp_path


@given(count=st.integers(1, 12), batch_size=st.integers(1, 15), workers=st.integers(1, 3))
def test_every_image_comes_once_and_in_order(count: int, batch_size: int, workers: int) -> None:
    stream = ImageStream(numbered(count), 4, batch_size=batch_size, workers=workers)
    batches = list(stream)
    assert torch.cat(batches)[:, 0, 0, 0].tolist() == list(range(count))
    assert [len(batch) for batch in batches[:-1]] == [batch_size] * (len(batches) - 1)
    assert all(batch.dtype == torch.uint8 and batch.shape[1:] == (1, 4, 4) for batch in batches)
    assert torch.equal(torch.cat(list(stream)), torch.cat(batches))


def test_only_the_chosen_images_come() -> None:
    stream = ImageStream(numbered(9), 4, indices=[7, 2, 5], batch_size=2)
    assert torch.cat(list(stream))[:, 0, 0, 0].tolist() == [7, 2, 5]
    assert len(stream) == 3


def test_a_damaged_image_stops_the_stream_with_its_name(folder: Path) -> None:
    with pytest.raises(ImageDecodeError, match="2_cut"):
        list(ImageStream(ImageFolder(folder), 8))


@pytest.mark.parametrize("batch_size", [1, 2, 3, 64])
def test_a_damaged_image_can_be_left_out_and_is_listed(folder: Path, batch_size: int) -> None:
    source = ImageFolder(folder)
    stream = ImageStream(source, 8, batch_size=batch_size, skip_damaged=True)
    images = torch.cat(list(stream))
    kept = [index for index, name in enumerate(source.names) if "cut" not in name]
    assert torch.equal(images, torch.from_numpy(np.stack([source.read(index, 8) for index in kept])))
    assert list(stream.skipped) == [source.names.index("2_cut.png")]
    assert "2_cut.png" in stream.skipped[source.names.index("2_cut.png")]
    list(stream)
    assert len(stream.skipped) == 1  # of one reading, not of both


def test_a_source_without_any_good_image_is_empty(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"no image")
    with pytest.raises(EmptyDatasetError, match="none of the 1 images"):
        list(ImageStream(ImageFolder(tmp_path), 8, skip_damaged=True))


def test_one_size_gives_its_shorter_side() -> None:
    assert common_side(ArrayImages(np.zeros((2, 6, 9), np.uint8))) == 6


def test_several_sizes_are_not_chosen_from_in_silence(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"2 different sizes, from 8x8 to 12x12: say `--resolution`"):
        common_side(ImageFolder(folder), option="--resolution")


def test_a_damaged_header_counts_only_if_damage_does(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"no image")
    with pytest.raises(ImageDecodeError, match=r"b\.png"):
        common_side(ImageFolder(tmp_path))
    assert common_side(ImageFolder(tmp_path), skip_damaged=True) == 8


@given(count=st.integers(0, 20), most=st.none() | st.integers(1, 30), seed=st.integers(0, 5))
def test_a_choice_is_sorted_without_repetition_and_repeatable(count: int, most: int | None, seed: int) -> None:
    chosen = chosen_indices(count, most, seed=seed)
    assert chosen == sorted(set(chosen)) == chosen_indices(count, most, seed=seed)
    assert len(chosen) == (count if most is None else min(count, most))
    assert all(0 <= index < count for index in chosen)


def test_another_seed_is_another_choice_and_every_image_has_its_chance() -> None:
    assert len({tuple(chosen_indices(50, 5, seed=seed)) for seed in range(10)}) == 10
    assert {index for seed in range(40) for index in chosen_indices(8, 2, seed=seed)} == set(range(8))


def test_a_mixture_of_formats_warns() -> None:
    with pytest.warns(UserWarning, match="fakes: 1 of 2 images are compressed with loss"):
        warn_of_compression(["a.JPG", "b.png"], "fakes")
    warn_of_compression(["a.jpg", "b.jpeg"], "fakes")
    warn_of_compression(["a.png", "b.bmp"], "fakes")


@pytest.mark.parametrize("wrong", [{"resolution": 0}, {"batch_size": 0}, {"workers": 0}])
def test_numbers_below_one_are_refused(wrong: dict[str, int]) -> None:
    options = {"resolution": 4, **wrong}
    with pytest.raises(ValueError, match=next(iter(wrong))):
        ImageStream(numbered(2), options.pop("resolution"), **options)
    with pytest.raises(ValueError, match="most"):
        chosen_indices(3, 0)
