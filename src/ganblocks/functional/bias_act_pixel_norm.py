"""Scale, bias, leaky ReLU and pixelwise normalisation: what follows a convolution in ProGAN's generator."""

from torch import Tensor

from ganblocks.functional.bias_act import bias_act
from ganblocks.functional.pixel_norm import pixel_norm

__all__ = ["bias_act_pixel_norm"]


def bias_act_pixel_norm(
    x: Tensor, bias: Tensor | None = None, *, slope: float = 0.2, scale: float = 1.0, eps: float = 1e-8
) -> Tensor:
    """Normalise every pixel of the leaky ReLU of ``scale * x + bias``.

    Karras et al. 2018, section 4.2: the order of the generator, PixelNorm after the activation.

    Args:
        x: Features ``[N, C, ...]``; any trailing dimensions, none included.
        bias: ``[C]``, added on dimension 1 and not scaled; ``None`` adds nothing.
        slope: Factor for negative values, 0 to 1. With 0 a pixel may be all zeros.
        scale: Factor in front of ``x``.
        eps: Added under the root of the mean square, at least 0; with 0 an all-zero pixel gives NaN.

    Returns:
        Tensor of the shape, dtype and memory format of ``x``.

    Raises:
        TypeError: If ``x`` is not a floating-point tensor.
        ValueError: If ``x`` has fewer than 2 dimensions, ``bias`` is not ``[C]``, ``slope`` lies outside 0 to 1 or
            ``eps`` is negative.

    Differentiable to any order.
    """
    return pixel_norm(bias_act(x, bias, slope=slope, scale=scale), eps=eps)
