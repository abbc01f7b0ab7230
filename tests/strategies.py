"""What hypothesis may draw: tensors of small shapes (0 and 1 included), in every layout, dtype and range of values."""

from collections.abc import Sequence

import torch
from hypothesis import strategies as st
from torch import Tensor

LAYOUTS = ("contiguous", "channels_last", "sliced", "expanded")
DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
VALUES = ("normal", "zeros", "constant", "tiny", "large", "mixed", "offset")


def lay_out(dense: Tensor, layout: str) -> Tensor:
    """The values of ``dense`` (rank 2 or more) in another memory layout; "expanded" repeats the first sample."""
    match layout:
        case "contiguous":
            return dense.contiguous()
        case "channels_last":
            return dense.movedim(1, -1).contiguous().movedim(-1, 1)
        case "sliced":
            # Every second element of a larger buffer; whoever reads the others finds NaN.
            buffer = dense.new_full((*dense.shape[:-1], 2 * dense.shape[-1] + 1), torch.nan)
            view = buffer[..., 1::2]
            view.copy_(dense)
            return view
        case "expanded":
            return dense[:1].expand(dense.shape)
    raise AssertionError(layout)


def fill(shape: Sequence[int], values: str, *, seed: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """A contiguous tensor of one of the kinds in ``VALUES``, a pure function of the arguments."""
    generator = torch.Generator().manual_seed(seed)
    normal = torch.randn(*shape, generator=generator, dtype=torch.float64)
    match values:
        case "normal":
            filled = normal
        case "zeros":
            filled = torch.zeros_like(normal)
        case "constant":
            filled = torch.full_like(normal, 0.75)
        case "tiny":
            filled = 1e-6 * normal
        case "large":  # the squares of most overflow float16
            filled = 300.0 * normal
        case "mixed":  # magnitudes from 1e-4 to 1e2, and exact zeros
            exponents = torch.randint(-4, 3, normal.shape, generator=generator)
            filled = normal * 10.0**exponents * (torch.rand(normal.shape, generator=generator) < 0.8)
        case "offset":  # a mean much larger than the spread
            filled = 100.0 + normal
        case _:
            raise AssertionError(values)
    return filled.to(dtype)


@st.composite
def tensors(
    draw: st.DrawFn,
    *,
    shape: st.SearchStrategy[tuple[int, ...]],
    dtypes: Sequence[torch.dtype] = DTYPES,
    layouts: Sequence[str] = LAYOUTS,
    values: Sequence[str] = VALUES,
) -> Tensor:
    """A tensor of a drawn shape; the first entry of each list is what hypothesis shrinks to."""
    drawn_shape = draw(shape)
    dtype = draw(st.sampled_from(list(dtypes)))
    kind = draw(st.sampled_from(list(values)))
    layout = draw(st.sampled_from(list(layouts)))
    seed = draw(st.integers(0, 2**16))
    return lay_out(fill(drawn_shape, kind, seed=seed, dtype=dtype), layout)


def shapes(*, min_rank: int = 2, max_rank: int = 5, max_size: int = 4) -> st.SearchStrategy[tuple[int, ...]]:
    """Shapes [N, C, ...] of any rank in the range, every size from 0."""
    return st.lists(st.integers(0, max_size), min_size=min_rank, max_size=max_rank).map(tuple)


def image_shapes(
    *,
    batch: st.SearchStrategy[int] | None = None,
    channels: st.SearchStrategy[int] | None = None,
    size: st.SearchStrategy[int] | None = None,
) -> st.SearchStrategy[tuple[int, ...]]:
    """Shapes [N, C, H, W]; by default every size from 0 to 4."""
    small = st.integers(0, 4)
    side = small if size is None else size
    return st.tuples(small if batch is None else batch, small if channels is None else channels, side, side)
