"""Minibatch standard deviation as a module."""

from torch import Tensor, nn

from ganblocks._checks import require
from ganblocks.functional.minibatch_std import minibatch_std

__all__ = ["MinibatchStd"]


class MinibatchStd(nn.Module):
    """Appends the mean standard deviation over groups of samples; see `ganblocks.functional.minibatch_std`.

    Karras et al. 2018, section 3. The statistics are local to a process.

    Args:
        group_size: Samples in a group; ``None`` = the whole batch. A batch that it does not divide uses the largest
            divisor not above it, and the whole batch if that divisor is 1.
        num_channels: Appended channels.
        unbiased: Divide by one less than the group's size.
        eps: Added to the variance under the root.

    Shape:
        ``[N, C, H, W]`` to ``[N, C + num_channels, H, W]``.

    Raises:
        ValueError: If a number is out of range.
    """

    def __init__(
        self, group_size: int | None = 4, num_channels: int = 1, *, unbiased: bool = False, eps: float = 1e-8
    ) -> None:
        super().__init__()
        require(group_size is None or group_size >= 1, "group_size", group_size, "at least 1, or None")
        require(num_channels >= 1, "num_channels", num_channels, "at least 1")
        require(eps >= 0, "eps", eps, "at least 0")
        self.group_size = group_size
        self.num_channels = num_channels
        self.unbiased = unbiased
        self.eps = eps

    def forward(self, x: Tensor, *, chunks: int = 1) -> Tensor:
        """Append the statistic; ``chunks=2`` treats a concatenated real/fake batch as two batches."""
        return minibatch_std(
            x,
            group_size=self.group_size,
            num_channels=self.num_channels,
            unbiased=self.unbiased,
            eps=self.eps,
            chunks=chunks,
        )

    def extra_repr(self) -> str:
        """Every number that changes the result."""
        return f"{self.group_size}, {self.num_channels}, unbiased={self.unbiased}, eps={self.eps:g}"
