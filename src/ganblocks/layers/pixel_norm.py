"""Pixelwise feature normalisation as a module."""

from torch import Tensor, nn

from ganblocks._checks import require
from ganblocks.ops.pixel_norm import pixel_norm

__all__ = ["PixelNorm"]


class PixelNorm(nn.Module):
    """``x / sqrt(mean_c(x^2) + eps)``; see `ganblocks.functional.pixel_norm`.

    Karras et al. 2018, section 4.2.

    Args:
        eps: Added under the root, at least 0.

    Shape:
        ``[N, C, ...]`` to the same; any trailing dimensions, none included.

    Raises:
        ValueError: If ``eps`` is negative.
    """

    def __init__(self, *, eps: float = 1e-8) -> None:
        super().__init__()
        require(eps >= 0, "eps", eps, "at least 0")
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """Normalise over dimension 1."""
        return pixel_norm(x, eps=self.eps)

    def extra_repr(self) -> str:
        """Every number that changes the result."""
        return f"eps={self.eps:g}"
