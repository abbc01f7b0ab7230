"""Modules over :mod:`ganblocks.functional.resample`; none has a parameter."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ganblocks._checks import require
from ganblocks.functional.resample import BlurPadding, upsample_nearest
from ganblocks.ops.blur import blur
from ganblocks.ops.downsample_box import downsample_box

__all__ = ["Blur", "DownsampleBox", "UpsampleNearest"]


class UpsampleNearest(nn.Module):
    """[N, C, H, W] to [N, C, H * factor, W * factor]; see :func:`ganblocks.functional.resample.upsample_nearest`.

    Args:
        factor: At least 1.

    Raises:
        ValueError: ``factor`` is less than 1.
    """

    def __init__(self, factor: int = 2) -> None:
        super().__init__()
        require(factor >= 1, "factor", factor, "at least 1")
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        """Repeat every pixel."""
        return upsample_nearest(x, self.factor)

    def extra_repr(self) -> str:
        """The factor."""
        return f"factor={self.factor}"


class DownsampleBox(nn.Module):
    """[N, C, H, W] to [N, C, H / factor, W / factor]; see :func:`ganblocks.ops.downsample_box`.

    Args:
        factor: At least 1; must divide H and W.

    Raises:
        ValueError: ``factor`` is less than 1; in the call, does not divide H and W.
    """

    def __init__(self, factor: int = 2) -> None:
        super().__init__()
        require(factor >= 1, "factor", factor, "at least 1")
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        """Average squares of pixels."""
        return downsample_box(x, self.factor)

    def extra_repr(self) -> str:
        """The factor."""
        return f"factor={self.factor}"


class Blur(nn.Module):
    """Low-pass filter every channel, the size stays; see :func:`ganblocks.functional.blur`.

    The kernel is a buffer that moves with the module and is not part of ``state_dict``.

    Args:
        kernel: K numbers or a tensor [K] (separable), or a tensor [K, L].
        padding: "zeros" or "reflect".
        normalize: Divide the kernel by its sum.

    Raises:
        ValueError: an empty kernel, one of another rank, one to be normalized that sums to zero, or an unknown
            ``padding``.
    """

    kernel: Tensor

    def __init__(
        self,
        kernel: Sequence[float] | Tensor = (1.0, 2.0, 1.0),
        *,
        padding: BlurPadding = "zeros",
        normalize: bool = True,
    ) -> None:
        super().__init__()
        taps = torch.as_tensor(kernel, dtype=torch.float64).detach().clone()
        require(taps.dim() in (1, 2) and taps.numel() > 0, "kernel", tuple(taps.shape), "of shape [K] or [K, L]")
        require(padding in ("zeros", "reflect"), "padding", padding, '"zeros" or "reflect"')
        if normalize:
            require(taps.sum().item() != 0, "kernel", kernel, "of a sum other than 0, or given with `normalize=False`")
            taps /= taps.sum()
        self.padding: BlurPadding = padding
        self.register_buffer("kernel", taps.to(torch.get_default_dtype()), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Filter ``x`` [N, C, H, W]."""
        return blur(x, self.kernel, padding=self.padding, normalize=False)

    def extra_repr(self) -> str:
        """The kernel's shape and the padding."""
        return f"kernel_size={tuple(self.kernel.shape)}, padding={self.padding!r}"
