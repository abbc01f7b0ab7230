"""Convolutions with the "same" geometry of Keras and TensorFlow, right to the pixel.

``padding=k // 2`` gives the same output size, but with a stride its sampling grid can be shifted by one pixel. That is
harmless in training from scratch and wrong for comparing with, or importing weights from, a Keras model.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ganblocks._checks import require, require_rank
from ganblocks.ops.conv import conv2d, conv_transpose2d

__all__ = ["SameConv2d", "SameConvTranspose2d", "same_padding", "same_transpose_cropping"]

IntPair = int | tuple[int, int]


def same_padding(size: int, kernel_size: int, stride: int = 1, dilation: int = 1) -> tuple[int, int]:
    """Zeros (before, after) one axis of ``size`` pixels, so that a convolution gives ``ceil(size / stride)``.

    ``total = max((ceil(size / stride) - 1) * stride + (kernel_size - 1) * dilation + 1 - size, 0)``, and the half
    rounded down comes before (TensorFlow, "Notes on padding" of ``tf.nn``).

    Raises:
        ValueError: ``size`` is negative, or another argument is less than 1.
    """
    require(size >= 0, "size", size, "at least 0")
    _require_geometry(kernel_size, stride, dilation)
    total = max((-(-size // stride) - 1) * stride + (kernel_size - 1) * dilation + 1 - size, 0)
    return total // 2, total - total // 2


def same_transpose_cropping(kernel_size: int, stride: int = 1, dilation: int = 1) -> tuple[int, int]:
    """Rows (before, after) to drop from an unpadded transposed convolution, so that it gives ``size * stride``.

    What remains is the adjoint of the convolution with :func:`same_padding` on ``size * stride`` pixels. A kernel that
    covers less than one stride leaves the output too short; then the second number is negative: so many rows are to
    be added after (they hold zeros and the bias).

    Raises:
        ValueError: an argument is less than 1.
    """
    _require_geometry(kernel_size, stride, dilation)
    total = (kernel_size - 1) * dilation + 1 - stride
    before = max(total, 0) // 2
    return before, total - before


class SameConv2d(nn.Conv2d):
    """``nn.Conv2d`` with the padding of Keras ``padding="same"``: [N, C, H, W] to [N, C', ceil(H/s), ceil(W/s)].

    The padding depends on the size of the input. Twice differentiable.

    Args:
        in_channels: C.
        out_channels: C'.
        kernel_size: One number or (rows, columns).
        stride: s; one number or a pair.
        dilation: One number or a pair.
        groups: As in ``nn.Conv2d``.
        bias: Whether to add a bias.
        device: Of the parameters.
        dtype: Of the parameters.

    Raises:
        ValueError: as ``nn.Conv2d``; in the call, an input that is not [N, C, H, W].
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: IntPair,
        stride: IntPair = 1,
        *,
        dilation: IntPair = 1,
        groups: int = 1,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(
            in_channels,
            out_channels,
            kernel_size,
            stride,
            dilation=dilation,
            groups=groups,
            bias=bias,
            device=device,
            dtype=dtype,
        )

    def forward(self, x: Tensor) -> Tensor:
        """Pad ``x`` [N, C, H, W] by its size, then convolve."""
        require_rank(x, "x", 4, 4)
        top, bottom = same_padding(x.shape[2], self.kernel_size[0], self.stride[0], self.dilation[0])
        left, right = same_padding(x.shape[3], self.kernel_size[1], self.stride[1], self.dilation[1])
        # The convolution pads the part that both sides share; what is left is at most one row and one column.
        if bottom > top or right > left:
            x = F.pad(x, (0, right - left, 0, bottom - top))
        # A row added after is also followed by the shared padding, as it should be: before = top, after = bottom.
        return conv2d(x, self.weight, self.bias, self.stride, (top, left), self.dilation, self.groups)


class SameConvTranspose2d(nn.ConvTranspose2d):
    """``nn.ConvTranspose2d`` with the cropping of Keras ``padding="same"``: [N, C, H, W] to [N, C', H * s, W * s].

    See :func:`same_transpose_cropping`. Twice differentiable.

    Args:
        in_channels: C.
        out_channels: C'.
        kernel_size: One number or (rows, columns).
        stride: s; one number or a pair.
        dilation: One number or a pair.
        groups: As in ``nn.ConvTranspose2d``.
        bias: Whether to add a bias.
        device: Of the parameters.
        dtype: Of the parameters.

    Raises:
        ValueError: as ``nn.ConvTranspose2d``; in the call, an input that is not [N, C, H, W].
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: IntPair,
        stride: IntPair = 1,
        *,
        dilation: IntPair = 1,
        groups: int = 1,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(
            in_channels,
            out_channels,
            kernel_size,
            stride,
            dilation=dilation,
            groups=groups,
            bias=bias,
            device=device,
            dtype=dtype,
        )

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        """Convolve ``x`` [N, C, H, W], then crop; ``output_size`` must be None, the size is always H * s, W * s."""
        require_rank(x, "x", 4, 4)
        require(output_size is None, "output_size", output_size, "None")
        top, bottom = same_transpose_cropping(self.kernel_size[0], self.stride[0], self.dilation[0])
        left, right = same_transpose_cropping(self.kernel_size[1], self.stride[1], self.dilation[1])
        y = conv_transpose2d(
            x,
            self.weight,
            self.bias,
            self.stride,
            (top, left),  # crops so much on both sides
            (max(-bottom, 0), max(-right, 0)),  # adds rows after
            self.groups,
            self.dilation,
        )
        below, right = x.shape[2] * self.stride[0] - y.shape[2], x.shape[3] * self.stride[1] - y.shape[3]
        return F.pad(y, (0, right, 0, below)) if below or right else y  # negative: its gradient keeps the memory order


def _require_geometry(kernel_size: int, stride: int, dilation: int) -> None:
    require(kernel_size >= 1, "kernel_size", kernel_size, "at least 1")
    require(stride >= 1, "stride", stride, "at least 1")
    require(dilation >= 1, "dilation", dilation, "at least 1")
