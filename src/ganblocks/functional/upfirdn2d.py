"""Insert zeros, filter, take every so many pixels: resampling by any factors with any small filter."""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

from ganblocks._checks import require, require_rank
from ganblocks.functional.resample import _correlate

__all__ = ["upfirdn2d"]


def upfirdn2d(
    x: Tensor,
    kernel: Sequence[float] | Tensor,
    *,
    up: int = 1,
    down: int = 1,
    padding: int | tuple[int, int] = 0,
) -> Tensor:
    """Resample every channel: ``up - 1`` zeros after each pixel, padding, a filter, then every ``down``-th pixel.

    The same along both axes. Along one, with K taps f, the result is ``y[i] = sum_a f[a] z[i * down + a - before]``,
    where ``z[h * up] = x[h]`` and z is zero elsewhere: a correlation, as in ``torch.nn.functional.conv2d``. The gain is
    the sum of the kernel over ``up**2``. The sums run in at least float32, inside autocast too.

    Nearest upsampling is the kernel (1, 1) with ``up=2, padding=(1, 0)``; a box average is (0.5, 0.5) with ``down=2``.

    Args:
        x: Images [N, C, H, W].
        kernel: K numbers or a tensor [K]: a separable filter, the same along both axes. A tensor [K, L]: any filter,
            K rows and L columns. A tensor may require gradients.
        up: At least 1.
        down: At least 1.
        padding: Zeros before and after, along both axes; negative numbers cut. One number stands for both.

    Returns:
        [N, C, H', W'] with ``H' = (H * up + before + after - K) // down + 1``, in the dtype and memory format of ``x``.

    Raises:
        ValueError: Wrong rank, an empty kernel, a factor below 1, or images too small for the filter.
        TypeError: ``x`` is not a floating-point tensor.

    Differentiable to any order.
    """
    require_rank(x, "x", 4, 4)
    require(x.is_floating_point(), "x", x.dtype, "a floating-point tensor", TypeError)
    require(up >= 1, "up", up, "at least 1")
    require(down >= 1, "down", down, "at least 1")
    if isinstance(kernel, Tensor):
        require(kernel.dim() in (1, 2) and kernel.numel() > 0, "kernel", tuple(kernel.shape), "of shape [K] or [K, L]")
    require(len(kernel) > 0, "kernel", kernel, "at least one number")
    before, after = (padding, padding) if isinstance(padding, int) else padding
    N, C, H, W = x.shape
    rows, columns = kernel.shape if isinstance(kernel, Tensor) and kernel.dim() == 2 else (len(kernel), len(kernel))
    height, width = H * up + before + after - rows + 1, W * up + before + after - columns + 1
    if height < 1 or width < 1:
        raise ValueError(
            f"`x` is {H} x {W} and `padding` is {padding}, too small for a kernel of {rows} x {columns} taps at up={up}"
        )
    if x.numel() == 0:
        return x.new_empty(N, C, (height - 1) // down + 1, (width - 1) // down + 1) + x.sum()

    wide = x.float() if x.dtype.itemsize < 4 else x
    if up > 1:
        wide = _spread(wide, up)
    wide = F.pad(wide, (before, after, before, after))
    if isinstance(kernel, Tensor) and kernel.dim() == 2:
        filtered = _correlate(wide.narrow(2, 0, height), kernel[0], dim=3)
        for row in range(1, rows):
            filtered = filtered + _correlate(wide.narrow(2, row, height), kernel[row], dim=3)
    else:
        filtered = _correlate(_correlate(wide, kernel, dim=3), kernel, dim=2)
    return (filtered if down == 1 else filtered[:, :, ::down, ::down].clone()).to(x.dtype)


def _spread(x: Tensor, up: int) -> Tensor:
    """``up - 1`` zeros after each pixel, in both directions; channels stay where they are in memory."""
    N, C, H, W = x.shape
    if x.stride(1) < x.stride(3):  # channels last
        return _spread_inner(x.permute(0, 2, 3, 1), up).permute(0, 3, 1, 2)
    return _spread_inner(x.reshape(N * C, H, W, 1), up).reshape(N, C, H * up, W * up)


def _spread_inner(x: Tensor, up: int) -> Tensor:
    N, H, W, C = x.shape
    return F.pad(x[:, :, None, :, None], (0, 0, 0, up - 1, 0, 0, 0, up - 1)).reshape(N, H * up, W * up, C)
