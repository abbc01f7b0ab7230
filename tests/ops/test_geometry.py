"""Geometry: the sides of results and images are those of PyTorch's convolutions."""

import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from ganblocks.ops._geometry import Geometry

pairs = st.tuples(st.integers(1, 3), st.integers(1, 3))


@given(
    kernel=pairs, stride=pairs, dilation=pairs, padding=st.tuples(st.integers(0, 2), st.integers(0, 2)), data=st.data()
)
def test_sizes_are_those_of_the_convolution_and_back(
    kernel: tuple[int, int],
    stride: tuple[int, int],
    dilation: tuple[int, int],
    padding: tuple[int, int],
    data: st.DataObject,
) -> None:
    reach = [d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True)]
    sides = [data.draw(st.integers(max(1, r - 2 * p), 9)) for r, p in zip(reach, padding, strict=True)]
    image, weight = torch.zeros(2, 3, *sides), torch.zeros(4, 3, *kernel)
    result = F.conv2d(image, weight, None, stride, padding, dilation)
    geometry = Geometry(stride, padding, dilation, 1, kernel=kernel)
    assert geometry.size((sides[0], sides[1])) == result.shape[2:]
    back = geometry.backwards(image.shape, result.shape)
    assert back.transposed
    assert back.size((result.shape[2], result.shape[3])) == image.shape[2:]
    assert back.forwards() == geometry


def test_a_transposed_convolution_adds_its_output_padding() -> None:
    geometry = Geometry((2, 3), (1, 0), (1, 1), 1, transposed=True, output_padding=(1, 2), kernel=(3, 4))
    expected = F.conv_transpose2d(torch.zeros(1, 1, 5, 6), torch.zeros(1, 1, 3, 4), None, (2, 3), (1, 0), (1, 2))
    assert geometry.size((5, 6)) == expected.shape[2:] == (10, 21)
