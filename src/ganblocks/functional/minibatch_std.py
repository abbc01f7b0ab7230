"""Minibatch standard deviation: one statistic that tells the critic how varied its batch is."""

import torch
from torch import Tensor

from ganblocks._checks import require, require_rank

__all__ = ["group_size_for", "minibatch_std"]


def group_size_for(batch: int, group_size: int | None) -> int:
    """Number of samples in one group for a batch of that size.

    Args:
        batch: Samples in the batch, at least 1.
        group_size: The wish, at least 1; ``None`` means the whole batch.

    Returns:
        The largest divisor of ``batch`` not above ``group_size``; the whole batch where that divisor is 1 (a group of
        one would say nothing), unless ``group_size`` itself is 1.

    Raises:
        ValueError: If either number is below 1.
    """
    require(batch >= 1, "batch", batch, "at least 1")
    if group_size is None:
        return batch
    require(group_size >= 1, "group_size", group_size, "at least 1, or None for the whole batch")
    divisor = max(size for size in range(1, min(batch, group_size) + 1) if batch % size == 0)
    return batch if divisor == 1 and group_size > 1 else divisor


def minibatch_std(
    x: Tensor,
    *,
    group_size: int | None = 4,
    num_channels: int = 1,
    unbiased: bool = False,
    eps: float = 1e-8,
    chunks: int = 1,
) -> Tensor:
    """Append the mean standard deviation over groups of samples as constant channels.

    Karras et al. 2018, section 3, with the grouping of the authors' code: the batch is reshaped to ``[G, M, ...]``, so
    sample n belongs to group ``n % M`` (M groups of G samples). Per group: standard deviation over its G samples of
    every feature and pixel, then the mean of these over pixels and over each of ``num_channels`` slices of the
    features. Statistics are computed in at least float32.

    Args:
        x: Features ``[N, C, H, W]``.
        group_size: Samples in a group; see `group_size_for` for batches that it does not divide. ``None`` = the whole
            batch (of a chunk).
        num_channels: Appended channels F, a divisor of C.
        unbiased: Divide by G-1 instead of G. A group of one then counts as zero variance.
        eps: Added to the variance under the root. With 0, identical samples give 0 and a NaN gradient.
        chunks: Number of equal batches that ``x`` concatenates; groups do not cross them. A critic that sees reals and
            fakes in one forward pass uses 2.

    Returns:
        ``[N, C + F, H, W]`` in the dtype and memory format of ``x``.

    Raises:
        ValueError: If ``x`` has not 4 dimensions, ``chunks`` does not divide N or ``num_channels`` not C.

    Differentiable to any order; finite for a group of one and for identical samples where ``eps > 0``.
    """
    require_rank(x, "x", 4, 4)
    N, C, H, W = x.shape
    require(num_channels >= 1 and C % num_channels == 0, "num_channels", num_channels, f"a divisor of C = {C}")
    require(chunks >= 1 and N % chunks == 0, "chunks", chunks, f"a divisor of N = {N}")
    require(eps >= 0, "eps", eps, "at least 0")
    if N == 0:
        return torch.cat([x, x.new_zeros(0, num_channels, H, W)], dim=1)

    G = group_size_for(N // chunks, group_size)
    F = num_channels
    wide = x if x.dtype in (torch.float32, torch.float64) else x.float()
    grouped = wide.reshape(chunks, G, N // chunks // G, F, C // F, H, W)  # [chunks, G, M, F, C/F, H, W]
    if G == 1:  # the variance of one sample is zero whatever the sample, and so is its gradient
        statistic = wide.new_full((chunks, N // chunks, F), eps**0.5)
    else:
        squares = (grouped - grouped.mean(dim=1, keepdim=True)).square().sum(dim=1)  # [chunks, M, F, C/F, H, W]
        deviation = (squares / (G - 1 if unbiased else G) + eps).sqrt()
        statistic = deviation.mean(dim=(3, 4, 5))  # [chunks, M, F]
    statistic = statistic.repeat(1, G, 1).reshape(N, F, 1, 1)  # sample n takes group n % M of its chunk
    channel = statistic.to(x.dtype).expand(N, F, H, W)
    if x.is_contiguous(memory_format=torch.channels_last):  # a stride of 0 would hide the format from cat
        channel = channel.contiguous(memory_format=torch.channels_last)
    return torch.cat([x, channel], dim=1)
