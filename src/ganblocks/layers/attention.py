"""Self-attention over the positions of a feature map."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ganblocks._checks import require
from ganblocks.layers.conv import Conv2d

__all__ = ["SelfAttention"]


class SelfAttention(nn.Module):
    """Let every position of a feature map look at all others: ``y = scale * o(x) + x``.

    Zhang et al. 2019 (SAGAN), section 3, equations 1 to 3. With 1x1 convolutions without bias, f and g (query and key)
    and h (value) to ``C / reduction`` channels and v (output) back to C,
    ``o_j = v(sum_i softmax_i(f(x_i) . g(x_j)) h(x_i))``. There is no division by the root of the width, as in the
    paper. ``scale`` is a learned number that starts at 0: the layer starts as the identity.

    Memory: a matrix of H W x H W / pool^2 numbers for each image.

    Args:
        channels: C, at least 1.
        reduction: By how much queries, keys and values are narrower than C; at least 1 channel remains. The paper's
            is 8.
        pool: Side of the squares over which keys and values are max-pooled, 1 for none: 2 is four times cheaper, and
            what the authors' program does.
        device: Where the parameters live.
        dtype: Type of the parameters.

    Shape:
        ``[N, C, H, W]`` to the same; H and W at least 1 and divisible by ``pool``. The memory format is kept.

    Raises:
        ValueError: A number is below 1; in the call, a shape that does not fit.

    Twice differentiable on every device: written with matrix products and softmax, because PyTorch's fused attention
    (``scaled_dot_product_attention``) has no second derivative. The softmax is taken in at least float32.
    """

    def __init__(
        self,
        channels: int,
        *,
        reduction: int = 8,
        pool: int = 1,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        for argument, value in (("channels", channels), ("reduction", reduction), ("pool", pool)):
            require(value >= 1, argument, value, "at least 1")
        width = max(1, channels // reduction)
        self.channels = channels
        self.reduction = reduction
        self.pool = pool
        self.query: Conv2d = Conv2d(channels, width, 1, bias=False, device=device, dtype=dtype)
        self.key: Conv2d = Conv2d(channels, width, 1, bias=False, device=device, dtype=dtype)
        self.value: Conv2d = Conv2d(channels, width, 1, bias=False, device=device, dtype=dtype)
        self.output: Conv2d = Conv2d(width, channels, 1, bias=False, device=device, dtype=dtype)
        self.scale: nn.Parameter = nn.Parameter(torch.zeros((), device=device, dtype=dtype))

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[N, C, H, W]`` to the same shape."""
        C, P, shape = self.channels, self.pool, tuple(x.shape)
        require(x.dim() == 4 and shape[1] == C, "x", shape, f"of shape [N, {C}, H, W]")
        H, W = shape[2:]
        fits = H >= 1 and W >= 1 and H % P == 0 and W % P == 0
        require(fits, "x", shape, f"of a height and a width of at least 1 that pool={P} divides")
        keys, values = self.key(x), self.value(x)
        if P > 1:
            keys, values = F.max_pool2d(keys, P), F.max_pool2d(values, P)
        scores = self.query(x).flatten(2).transpose(1, 2) @ keys.flatten(2)  # [N, H W, positions of the keys]
        weights = scores.softmax(-1, dtype=torch.promote_types(scores.dtype, torch.float32)).to(values.dtype)
        mixed = values.flatten(2) @ weights.transpose(1, 2)  # [N, width, H W]
        return x + self.scale * self.output(mixed.unflatten(2, (H, W)))

    def extra_repr(self) -> str:
        """Every number that changes the result."""
        return f"{self.channels}, reduction={self.reduction}, pool={self.pool}"
