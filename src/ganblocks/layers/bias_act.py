"""Learned bias and leaky ReLU as a module."""

import torch
from torch import Tensor, nn

from ganblocks._checks import require
from ganblocks.ops.bias_act import bias_act

__all__ = ["BiasAct"]


class BiasAct(nn.Module):
    """Leaky ReLU of ``scale * x + bias``; see `ganblocks.functional.bias_act`.

    Args:
        channels: Size of dimension 1.
        slope: Factor for negative values, 0 to 1.
        scale: Factor in front of the input, not of the bias.
        bias: Whether to learn a bias, zero at the start.
        device: Where the bias lives.
        dtype: Type of the bias.

    Shape:
        ``[N, channels, ...]`` to the same.

    Raises:
        ValueError: If ``channels`` is below 1 or ``slope`` lies outside 0 to 1.
    """

    bias: nn.Parameter | None

    def __init__(
        self,
        channels: int,
        *,
        slope: float = 0.2,
        scale: float = 1.0,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        require(channels >= 1, "channels", channels, "at least 1")
        require(0.0 <= slope <= 1.0, "slope", slope, "between 0 and 1")
        self.channels = channels
        self.slope = slope
        self.scale = scale
        if bias:
            self.bias = nn.Parameter(torch.zeros(channels, device=device, dtype=dtype))
        else:
            self.register_parameter("bias", None)

    def forward(self, x: Tensor) -> Tensor:
        """Scale, shift and rectify."""
        require(x.dim() >= 2 and x.shape[1] == self.channels, "x", tuple(x.shape), f"[N, {self.channels}, ...]")
        return bias_act(x, self.bias, slope=self.slope, scale=self.scale)

    def extra_repr(self) -> str:
        """Every number that changes the result."""
        return f"{self.channels}, slope={self.slope:g}, scale={self.scale:g}, bias={self.bias is not None}"
