"""A small filter over every channel, the size of the images stays."""

from collections.abc import Sequence

from torch import Tensor

from ganblocks import functional
from ganblocks.functional.resample import BlurPadding, _taps
from ganblocks.ops.upfirdn2d import Plan, filtered, path_of, tap_counts

__all__ = ["blur"]


def blur(
    x: Tensor,
    kernel: Sequence[float] | Tensor = (1.0, 2.0, 1.0),
    *,
    padding: BlurPadding = "zeros",
    normalize: bool = True,
) -> Tensor:
    """Filter every channel with one small kernel, the size stays; the fast twin of `functional.blur`.

    One kernel on GPUs, one convolution for large batches on CPUs, where the padding is zeros; the formula for
    "reflect", and wherever `upfirdn2d` takes it.

    Args:
        x: Images [N, C, H, W].
        kernel: K numbers or a tensor [K], the same filter along both axes, or a tensor [K, L].
        padding: "zeros", or "reflect" about the border pixel.
        normalize: Divide the kernel by its sum.

    Returns:
        [N, C, H, W] in the dtype and memory format of ``x``.

    Raises:
        ValueError: Wrong rank, an empty kernel, numbers that sum to zero, an unknown ``padding``, or an image too small
            to reflect.
        TypeError: ``x`` is not a floating-point tensor.

    Differentiable to any order, in reverse and forward mode, under ``torch.func`` and ``torch.vmap``.
    """
    path = path_of(x, kernel) if padding == "zeros" else None
    if path is None:
        return functional.blur(x, kernel, padding=padding, normalize=normalize)
    taps = _taps(kernel, normalize)
    rows, columns = tap_counts(taps)
    before = ((rows - 1) // 2, (columns - 1) // 2)
    return filtered(x, taps, Plan(1, 1, before, (x.shape[2], x.shape[3]), (rows, columns), path=path))
