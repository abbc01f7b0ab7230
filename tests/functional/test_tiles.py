"""Tiles: where they begin, how they are blended, and what must not depend on them."""

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from ganblocks.functional.tiles import in_tiles, tile_starts
from strategies import lay_out
from tolerances import for_dtype, named

TIGHT = for_dtype(torch.float64)

tiles_and_overlaps = st.integers(1, 12).flatmap(lambda tile: st.tuples(st.just(tile), st.integers(0, tile // 2)))


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def of_each_pixel(image: Tensor) -> Tensor:
    """Two channels from any number, no pixel looking at another."""
    return torch.stack([image.sin().sum(1), image.pow(2).mean(1) + 1], dim=1)


def blended_by_hand(along: int, tile: int, overlap: int, results: Callable[[int], float]) -> list[float]:
    """Where no three tiles meet: result k is a number, and neighbours are mixed linearly over what they share."""
    starts = tile_starts(along, tile, overlap)
    values = []
    for place in range(along):
        over = [k for k, start in enumerate(starts) if start <= place < start + tile]
        assert len(over) <= 2
        share = 0.0
        if len(over) == 2:
            begin, end = starts[over[1]], starts[over[0]] + tile
            share = (place + 0.5 - begin) / (end - begin)
        values.append((1 - share) * results(over[0]) + share * results(over[-1]))
    return values


@given(side=st.integers(1, 300), tile=st.integers(1, 40), part=st.floats(0, 1, exclude_max=True))
def test_tiles_reach_from_end_to_end_and_are_as_few_and_as_even_as_can_be(side: int, tile: int, part: float) -> None:
    overlap = int(part * tile)
    starts = tile_starts(side, tile, overlap)
    assert starts[0] == 0
    assert starts[-1] == max(0, side - tile)
    steps = [after - before for before, after in itertools.pairwise(starts)]
    assert all(1 <= step <= tile - overlap for step in steps)
    assert max(steps, default=0) - min(steps, default=0) <= 1
    longest_without_one = tile + (len(starts) - 2) * (tile - overlap)  # what one tile fewer can cover
    assert len(starts) == 1 or side > longest_without_one


def test_starts_by_hand() -> None:
    assert tile_starts(10, 4, 1) == [0, 3, 6]
    assert tile_starts(11, 4, 1) == [0, 2, 4, 7]
    assert tile_starts(12, 4, 0) == [0, 4, 8]
    assert tile_starts(5, 4, 2) == [0, 1]
    assert tile_starts(4, 4, 2) == tile_starts(1, 4, 2) == tile_starts(1, 1, 0) == [0]
    assert tile_starts(3, 1, 0) == [0, 1, 2]


@given(
    H=st.integers(1, 40), W=st.integers(1, 40), sizes=tiles_and_overlaps, C=st.integers(1, 3), seed=st.integers(0, 9)
)
def test_a_function_of_each_pixel_alone_does_not_see_the_tiles(
    H: int, W: int, sizes: tuple[int, int], C: int, seed: int
) -> None:
    tile, overlap = sizes
    image = drawn(2, C, H, W, seed=seed)
    found = in_tiles(of_each_pixel, image, tile=tile, overlap=overlap)
    torch.testing.assert_close(found, of_each_pixel(image), **TIGHT)
    torch.testing.assert_close(in_tiles(lambda part: part, image, tile=tile, overlap=overlap), image, **TIGHT)


@given(
    H=st.integers(1, 40), W=st.integers(1, 40), sizes=tiles_and_overlaps,
    dtype=st.sampled_from([torch.float64, torch.float32, torch.float16, torch.bfloat16]),
)  # fmt: skip
def test_constant_images_stay_constant(H: int, W: int, sizes: tuple[int, int], dtype: torch.dtype) -> None:
    image = torch.full((1, 1, H, W), 0.7, dtype=dtype)
    found = in_tiles(lambda part: part, image, tile=sizes[0], overlap=sizes[1])
    assert found.dtype == dtype
    torch.testing.assert_close(found, image, **for_dtype(dtype))


@given(H=st.integers(1, 40), W=st.integers(1, 40), sizes=tiles_and_overlaps)
def test_all_tiles_have_one_size_and_cover_each_pixel(H: int, W: int, sizes: tuple[int, int]) -> None:
    tile, overlap = sizes
    seen: list[Tensor] = []
    image = torch.arange(H * W, dtype=torch.float64).reshape(1, 1, H, W)

    def watched(part: Tensor) -> Tensor:
        seen.append(part.clone())
        return part

    in_tiles(watched, image, tile=tile, overlap=overlap)
    assert {tuple(part.shape) for part in seen} == {(1, 1, min(tile, H), min(tile, W))}
    assert np.array_equal(np.unique(torch.cat([part.flatten() for part in seen]).numpy()), image.flatten().numpy())
    assert len(seen) == len(tile_starts(H, tile, overlap)) * len(tile_starts(W, tile, overlap))


@pytest.mark.parametrize(
    ("side", "tile", "overlap"), [(10, 6, 2), (16, 6, 1), (7, 6, 3), (21, 8, 2), (9, 3, 0), (8, 3, 0)]
)
def test_the_weights_are_linear_along_both_axes(side: int, tile: int, overlap: int) -> None:
    def run(image: Tensor) -> Tensor:
        count = 0

        def number(part: Tensor) -> Tensor:
            nonlocal count
            count += 1
            return torch.full_like(part, float((count * count) % 7))

        return in_tiles(number, image, tile=tile, overlap=overlap)

    expected = blended_by_hand(side, tile, overlap, lambda k: float(((k + 1) * (k + 1)) % 7))
    for shape in ((1, 1, 1, side), (1, 1, side, 1)):
        found = run(torch.zeros(shape, dtype=torch.float64)).flatten()
        np.testing.assert_allclose(found.numpy(), expected, **TIGHT)


def test_a_ramp_by_hand() -> None:
    results = iter([0.0, 8.0])
    found = in_tiles(lambda part: torch.full_like(part, next(results)), drawn(1, 1, 1, 8), tile=6, overlap=1)
    assert found.flatten().tolist() == [0, 0, 1, 3, 5, 7, 8, 8]  # the middles of four steps from 0 to 8


@given(H=st.integers(1, 30), W=st.integers(1, 30), sizes=tiles_and_overlaps, seed=st.integers(0, 9))
def test_a_blend_lies_between_the_results_where_many_tiles_meet_too(
    H: int, W: int, sizes: tuple[int, int], seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    low = torch.full((H, W), math.inf, dtype=torch.float64)
    high = -low
    places = torch.arange(H * W, dtype=torch.float64).reshape(1, 1, H, W)

    def number(part: Tensor) -> Tensor:
        value = float(torch.rand((), generator=generator, dtype=torch.float64))
        rows, columns = (part.long() // W).flatten(), (part.long() % W).flatten()
        low[rows, columns] = low[rows, columns].clamp(max=value)
        high[rows, columns] = high[rows, columns].clamp(min=value)
        return torch.full_like(part, value)

    found = in_tiles(number, places, tile=sizes[0], overlap=sizes[1])[0, 0]
    assert bool((found >= low - TIGHT["atol"]).all())
    assert bool((found <= high + TIGHT["atol"]).all())


def test_a_convolution_is_seamless_away_from_the_borders_of_tiles() -> None:
    image, kernel = drawn(1, 2, 19, 23), drawn(3, 2, 3, 3, seed=1)

    def convolved(part: Tensor) -> Tensor:
        return F.conv2d(part, kernel, padding=1)

    found, whole = in_tiles(convolved, image, tile=12, overlap=4), convolved(image)
    near = torch.zeros(19, 23, dtype=torch.bool)
    for axis, side in ((0, 19), (1, 23)):
        starts = tile_starts(side, 12, 4)
        inner = [*starts[1:], *(start + 11 for start in starts[:-1])]
        near.index_fill_(axis, torch.tensor(inner), True)
    assert 0 < int(near.sum()) < near.numel()
    torch.testing.assert_close(found[..., ~near], whole[..., ~near], **TIGHT)
    assert not torch.allclose(found[..., near], whole[..., near])  # the zeros around a tile are felt there


def test_an_image_that_fits_goes_through_in_one_piece_bit_by_bit() -> None:
    image = drawn(2, 3, 9, 16).float()
    calls: list[Tensor] = []

    def softened(part: Tensor) -> Tensor:
        calls.append(part)
        return F.avg_pool2d(part, 3, stride=1, padding=1)

    assert torch.equal(in_tiles(softened, image, tile=16, overlap=8), softened(image))
    assert torch.equal(in_tiles(softened, image), softened(image))
    assert all(call is image for call in calls)
    assert len(calls) == 4


@pytest.mark.parametrize("layout", ["contiguous", "channels_last", "sliced", "expanded"])
def test_the_layout_does_not_matter_and_the_image_stays_as_it_is(layout: str) -> None:
    image = lay_out(drawn(2, 3, 9, 7), layout)
    before = image.clone()
    found = in_tiles(lambda part: part.mul_(2).add_(1), image, tile=4, overlap=2)
    assert torch.equal(image, before)
    torch.testing.assert_close(found, 2 * before + 1, **TIGHT)


def test_half_precision_is_summed_in_float32() -> None:
    image = drawn(1, 1, 40, 40).half()
    found = in_tiles(lambda part: part, image, tile=7, overlap=3)
    torch.testing.assert_close(found, image, **named("ulp_float16"))


def test_an_empty_batch_is_an_empty_batch() -> None:
    assert in_tiles(of_each_pixel, drawn(0, 3, 9, 9), tile=4, overlap=1).shape == (0, 2, 9, 9)


def test_gradients_pass() -> None:
    image = drawn(1, 1, 5, 4).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: in_tiles(of_each_pixel, x, tile=3, overlap=1), (image,))


def test_a_result_of_another_kind_is_refused() -> None:
    image = drawn(1, 2, 9, 9)
    for tile in (4, 9):  # several tiles, and one piece
        for function in (lambda part: part[..., 1:], lambda part: part[:, 0], lambda part: part.repeat(2, 1, 1, 1)):
            with pytest.raises(ValueError, match="function"):
                in_tiles(function, image, tile=tile, overlap=1)
        with pytest.raises(TypeError, match="floating-point"):
            in_tiles(lambda part: part.argmax(1, keepdim=True), image, tile=tile, overlap=1)
        with pytest.raises(TypeError, match="must be a tensor"):
            in_tiles(lambda part: [part], image, tile=tile, overlap=1)  # type: ignore[arg-type,return-value]
    channels = iter([1, 2, 1, 2, 1, 2, 1, 2, 1])
    with pytest.raises(ValueError, match=r"\[1, 1, 4, 4\]"):
        in_tiles(lambda part: part[:, : next(channels)], image, tile=4, overlap=1)


@pytest.mark.parametrize(
    ("tile", "overlap", "name"), [(0, 0, "tile"), (4, 3, "overlap"), (4, -1, "overlap"), (1, 1, "overlap")]
)
def test_bad_tiles_are_refused(tile: int, overlap: int, name: str) -> None:
    for side in (2, 9):
        with pytest.raises(ValueError, match=f"`{name}` is"):
            in_tiles(of_each_pixel, drawn(1, 1, side, side), tile=tile, overlap=overlap)


@pytest.mark.parametrize(
    ("side", "tile", "overlap", "name"),
    [(0, 4, 1, "side"), (9, 0, 0, "tile"), (9, 4, 4, "overlap"), (9, 4, -1, "overlap")],
)
def test_bad_starts_are_refused(side: int, tile: int, overlap: int, name: str) -> None:
    with pytest.raises(ValueError, match=f"`{name}` is"):
        tile_starts(side, tile, overlap)


def test_what_is_no_image_is_refused() -> None:
    with pytest.raises(ValueError, match="image"):
        in_tiles(of_each_pixel, drawn(3, 4, 4))
    with pytest.raises(ValueError, match="at least one pixel"):
        in_tiles(of_each_pixel, drawn(1, 3, 0, 4))
    with pytest.raises(TypeError, match="floating-point"):
        in_tiles(of_each_pixel, torch.zeros(1, 3, 4, 4, dtype=torch.uint8))
