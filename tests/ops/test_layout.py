"""The two views of a dense tensor name every element once, with its channel and its pixel."""

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from ganblocks.ops.kernels._layout import as_matrix, as_pixels, dense, empty_statistics, laid_out_like

sizes = st.lists(st.integers(1, 4), min_size=2, max_size=5)


@st.composite
def permuted(draw: st.DrawFn) -> Tensor:
    """A dense tensor with its dimensions in any order in memory, and the numbers 0, 1, ... in that order."""
    shape = draw(sizes)
    order = draw(st.permutations(range(len(shape))))
    memory = torch.arange(torch.Size(shape).numel()).reshape([shape[axis] for axis in order])
    return memory.permute([order.index(axis) for axis in range(len(shape))])


@given(x=permuted())
def test_the_matrix_names_the_channel_of_every_element(x: Tensor) -> None:
    matrix = as_matrix(x)
    assert matrix.rows * matrix.lanes == x.numel()
    for index in itertools.product(*map(range, x.shape)):
        row, lane = divmod(int(x[index]), matrix.lanes)
        assert (lane if matrix.on_lanes else row % matrix.channels) == index[1]


@given(x=permuted())
def test_the_pixels_name_every_element_and_share_the_order_of_their_statistics(x: Tensor) -> None:
    pixels = as_pixels(x)
    statistics = empty_statistics(x, torch.float32)
    assert statistics.shape == (x.shape[0], 1, *x.shape[2:])
    order = torch.as_strided(statistics, (statistics.numel(),), (1,))
    order.copy_(torch.arange(statistics.numel()))
    places = {}
    for outer, lane, channel in itertools.product(*map(range, pixels[:3])):
        place = outer * pixels.outer_stride + lane * pixels.pixel_stride + channel * pixels.channel_stride
        places[place] = (outer * pixels.lanes + lane, channel)
    assert len(places) == x.numel()
    for index in itertools.product(*map(range, x.shape)):
        pixel, channel = places[int(x[index])]
        assert channel == index[1]
        assert pixel == int(statistics[(index[0], 0, *index[2:])])


@given(x=permuted())
def test_dense_tensors_are_taken_as_they_are(x: Tensor) -> None:
    assert dense(x) is x
    assert laid_out_like(x, x) is x


def test_others_are_copied() -> None:
    x = torch.arange(48.0).reshape(2, 3, 8)
    for view in (x[..., ::2], x[:, :, :3], x[:1].expand(4, 3, 8), x[:, :1].expand(2, 3, 8)):
        copy = dense(view)
        assert copy.is_contiguous()
        assert torch.equal(copy, view)
        assert copy.data_ptr() != x.data_ptr()


def test_the_stride_of_a_dimension_of_one_means_nothing() -> None:
    x = torch.randn(2, 3, 1, 1).as_strided((2, 3, 1, 1), (3, 1, 77, 5))
    assert dense(x) is x
    y = torch.randn(2, 3, 1, 1)
    assert laid_out_like(x, y) is x
    assert as_matrix(torch.empty(4, 1, 5).as_strided((4, 1, 5), (5, 0, 1))) == (1, 20, 1, False)


@pytest.mark.parametrize(
    "x",
    [
        torch.randn(2, 3, 4).mT.contiguous().mT,
        torch.randn(2, 3, 1).expand(2, 3, 4),
        torch._efficientzerotensor((2, 3, 4)),
        torch.randn(2, 3, 4, dtype=torch.complex64).conj().imag,
    ],
    ids=["transposed", "expanded", "zeros without memory", "negated"],
)
def test_a_gradient_is_brought_into_the_places_of_the_result(x: Tensor) -> None:
    y = torch.empty(2, 3, 4)
    found = laid_out_like(x, y)
    assert found.stride() == y.stride()
    assert not found.is_neg()
    assert not found._is_zerotensor()
    assert torch.equal(found, x)
