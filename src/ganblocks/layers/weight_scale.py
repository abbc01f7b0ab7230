"""Convolutions and dense layers with the equalised learning rate."""

import math

import torch
from torch import Tensor, nn

from ganblocks._checks import require
from ganblocks.functional.weight_scale import weight_scale
from ganblocks.ops.conv import conv2d, conv_transpose2d

__all__ = ["WSConv2d", "WSConvTranspose2d", "WSLinear"]

Size = int | tuple[int, int]


class _WeightScaled(nn.Module):
    """Owns an N(0, 1) ``weight``, a zero ``bias`` and the constant that multiplies the weight at every use."""

    weight: nn.Parameter
    bias: nn.Parameter | None

    def __init__(
        self,
        weight_shape: tuple[int, ...],
        bias_size: int | None,
        fan_in: int,
        gain: float,
        device: torch.device | str | None,
        dtype: torch.dtype | None,
    ) -> None:
        super().__init__()
        self.gain: float = float(gain)
        self.scale: float = weight_scale(fan_in, gain=self.gain)
        self.weight = nn.Parameter(torch.empty(weight_shape, device=device, dtype=dtype))
        if bias_size is None:
            self.register_parameter("bias", None)
        else:
            self.bias = nn.Parameter(torch.empty(bias_size, device=device, dtype=dtype))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the weight from N(0, 1) and set the bias to zero."""
        nn.init.normal_(self.weight)
        if self.bias is not None:
            nn.init.zeros_(self.bias)


class _WeightScaledConv(_WeightScaled):
    """What the two convolutions share: torch's arguments, checked, and their printout."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size,
        stride: Size,
        padding: Size,
        dilation: Size,
        groups: int,
        *,
        transposed: bool,
        bias: bool,
        gain: float,
        device: torch.device | str | None,
        dtype: torch.dtype | None,
    ) -> None:
        require(in_channels >= 1, "in_channels", in_channels, "at least 1")
        require(out_channels >= 1, "out_channels", out_channels, "at least 1")
        divides = groups >= 1 and in_channels % groups == 0 and out_channels % groups == 0
        require(divides, "groups", groups, f"a divisor of in_channels {in_channels} and out_channels {out_channels}")
        kernel = _pair(kernel_size, "kernel_size", 1)
        pair = (in_channels, out_channels // groups) if transposed else (out_channels, in_channels // groups)
        fan_in = in_channels // groups * math.prod(kernel)
        super().__init__((*pair, *kernel), out_channels if bias else None, fan_in, gain, device, dtype)
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.kernel_size = kernel
        self.stride: tuple[int, int] = _pair(stride, "stride", 1)
        self.padding: tuple[int, int] = _pair(padding, "padding", 0)
        self.dilation: tuple[int, int] = _pair(dilation, "dilation", 1)
        self.groups = groups

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[N, in_channels, H, W]`` to ``[N, out_channels, H', W']``."""
        if self._scales_input(x):
            return self._convolve(x * self.scale, self.weight, self.bias)
        return self._convolve(x, self.weight * self.scale, self.bias)

    def _scales_input(self, x: Tensor) -> bool:
        """Whether the factor goes to the input instead of the weight: on a CPU, where the input is far smaller.

        So it is at 4x4, where scaling a million weights in every pass and gradient is a twentieth of a training step.
        Below float32 it would round twice; and what is traced must not depend on the size of a batch.
        """
        if x.device.type != "cpu" or torch.compiler.is_compiling() or torch._C._is_tracing():
            return False
        wide = x.dtype == self.weight.dtype and x.dtype in (torch.float32, torch.float64)
        return wide and _autocast_dtype(x) is None and 4 * x.numel() <= self.weight.numel()

    def without_bias(self, x: Tensor) -> tuple[Tensor, float]:
        """The convolution without its bias, and the factor it still lacks: what an operation behind it may add.

        That factor is ``scale``, so that no scaled copy of the weight is made, in this pass or in that of a gradient.
        In float16 it is 1: unscaled sums of products would come near to its largest number.
        """
        if torch.float16 in (x.dtype, self.weight.dtype, _autocast_dtype(x)):
            return self._convolve(x, self.weight * self.scale, None), 1.0
        return self._convolve(x, self.weight, None), self.scale

    def _convolve(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        raise NotImplementedError

    def extra_repr(self) -> str:
        """Every number that changes the result."""
        shown = f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"
        shown += f", padding={self.padding}"
        shown += f", dilation={self.dilation}" if self.dilation != (1, 1) else ""
        shown += f", groups={self.groups}" if self.groups != 1 else ""
        return shown + f", bias={self.bias is not None}, gain={self.gain:.4g}"


class WSConv2d(_WeightScaledConv):
    """2-D convolution with the equalised learning rate: ``y = conv(x, weight * gain / sqrt(fan_in)) + bias``.

    Karras et al. 2018, section 4.1. Call-compatible with `torch.nn.Conv2d`. The weight is stored as N(0, 1), the bias
    as 0; the bias is not scaled. ``fan_in = in_channels / groups * k * k``. With ``gain=1``, N(0, 1) input gives output
    of variance 1.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        kernel_size: Height and width of the kernel, in pixels.
        stride: Step of the kernel, in pixels.
        padding: Zeros added on each side, in pixels.
        dilation: Distance of the kernel's taps, in pixels.
        groups: Number of blocks of channels that do not see each other.
        bias: Whether to add a learned bias.
        gain: Amplitude of the initial output: ``sqrt(2)`` in front of a (leaky) ReLU, 1 in front of a linear output.
        device: Where the parameters live.
        dtype: Type of the parameters.

    Shape:
        ``[N, in_channels, H, W]`` to ``[N, out_channels, H', W']`` as in torch.

    Raises:
        ValueError: If a size is too small or ``groups`` does not divide both channel numbers.

    Differentiable to any order, correctly in bfloat16 too (see `ganblocks.ops.conv2d`).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size,
        stride: Size = 1,
        padding: Size = 0,
        dilation: Size = 1,
        groups: int = 1,
        *,
        bias: bool = True,
        gain: float = 2**0.5,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(
            in_channels, out_channels, kernel_size, stride, padding, dilation, groups,
            transposed=False, bias=bias, gain=gain, device=device, dtype=dtype,
        )  # fmt: skip

    def _convolve(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return conv2d(x, weight, bias, self.stride, self.padding, self.dilation, self.groups)


class WSConvTranspose2d(_WeightScaledConv):
    """Transposed 2-D convolution with the equalised learning rate.

    As `WSConv2d`, call-compatible with `torch.nn.ConvTranspose2d`. The fan-in is ``in_channels / groups * k * k``: at
    stride 1 that many products meet in an inner output pixel. On a 1x1 input each output pixel gets only
    ``in_channels`` of them; a 4x4 kernel with the default gain is then the dense first layer of Karras et al. 2018,
    whose gain is ``sqrt(2) / 4``.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        kernel_size: Height and width of the kernel, in pixels.
        stride: Upsampling factor.
        padding: Rows and columns cut from each side of the full output, in pixels.
        output_padding: Rows and columns added on the bottom and right, in pixels.
        groups: Number of blocks of channels that do not see each other.
        dilation: Distance of the kernel's taps, in pixels.
        bias: Whether to add a learned bias.
        gain: Amplitude of the initial output: ``sqrt(2)`` in front of a (leaky) ReLU, 1 in front of a linear output.
        device: Where the parameters live.
        dtype: Type of the parameters.

    Shape:
        ``[N, in_channels, H, W]`` to ``[N, out_channels, H', W']`` as in torch.

    Raises:
        ValueError: If a size is too small or ``groups`` does not divide both channel numbers.

    Differentiable to any order.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size,
        stride: Size = 1,
        padding: Size = 0,
        output_padding: Size = 0,
        groups: int = 1,
        dilation: Size = 1,
        *,
        bias: bool = True,
        gain: float = 2**0.5,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(
            in_channels, out_channels, kernel_size, stride, padding, dilation, groups,
            transposed=True, bias=bias, gain=gain, device=device, dtype=dtype,
        )  # fmt: skip
        self.output_padding: tuple[int, int] = _pair(output_padding, "output_padding", 0)

    def _convolve(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return conv_transpose2d(
            x, weight, bias, self.stride, self.padding, self.output_padding, self.groups, self.dilation
        )

    def extra_repr(self) -> str:
        """Every number that changes the result."""
        return super().extra_repr() + (f", output_padding={self.output_padding}" if any(self.output_padding) else "")


class WSLinear(_WeightScaled):
    """Dense layer with the equalised learning rate: ``y = x @ (weight * gain / sqrt(in_features)).T + bias``.

    Karras et al. 2018, section 4.1. Call-compatible with `torch.nn.Linear`.

    Args:
        in_features: Size of each input vector.
        out_features: Size of each output vector.
        bias: Whether to add a learned bias.
        gain: Amplitude of the initial output: ``sqrt(2)`` in front of a (leaky) ReLU, 1 in front of a linear output.
        device: Where the parameters live.
        dtype: Type of the parameters.

    Shape:
        ``[..., in_features]`` to ``[..., out_features]``.

    Raises:
        ValueError: If a size is below 1.

    Differentiable to any order.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        bias: bool = True,
        gain: float = 2**0.5,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        require(in_features >= 1, "in_features", in_features, "at least 1")
        require(out_features >= 1, "out_features", out_features, "at least 1")
        bias_size = out_features if bias else None
        super().__init__((out_features, in_features), bias_size, in_features, gain, device, dtype)
        self.in_features = in_features
        self.out_features = out_features

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[..., in_features]`` to ``[..., out_features]``."""
        return nn.functional.linear(x, self.weight * self.scale, self.bias)

    def extra_repr(self) -> str:
        """Every number that changes the result."""
        return f"{self.in_features}, {self.out_features}, bias={self.bias is not None}, gain={self.gain:.4g}"


def _autocast_dtype(x: Tensor) -> torch.dtype | None:
    """The type in which autocast lets a convolution of ``x`` compute, if it is on."""
    device = x.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None


def _pair(value: Size, argument: str, minimum: int) -> tuple[int, int]:
    pair = (value, value) if isinstance(value, int) else tuple(value)
    ok = len(pair) == 2 and all(isinstance(number, int) and number >= minimum for number in pair)
    require(ok, argument, value, f"an integer of at least {minimum}, or two of them")
    return pair[0], pair[1]
