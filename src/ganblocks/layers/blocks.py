"""A convolution and what stands behind it, as one block."""

from torch import Tensor, nn

from ganblocks.layers.conv import Conv2d, ConvTranspose2d
from ganblocks.layers.weight_scale import WSConv2d, WSConvTranspose2d
from ganblocks.ops._switch import uses_kernel
from ganblocks.ops.bias_act import bias_act
from ganblocks.ops.bias_act_pixel_norm import bias_act_pixel_norm
from ganblocks.ops.leaky_relu import leaky_relu
from ganblocks.ops.pixel_norm import pixel_norm

__all__ = ["activated"]


def activated(
    convolution: Conv2d | ConvTranspose2d | WSConv2d | WSConvTranspose2d,
    x: Tensor,
    *,
    slope: float = 0.2,
    normalize: bool = False,
) -> Tensor:
    """Leaky ReLU of a convolution and, on request, its pixelwise normalisation.

    Where kernels run (see `ganblocks.ops.explain`), everything but the bare convolution is one of them: the factor of
    the equalised learning rate, bias, activation and normalisation. Elsewhere, and where the layer has hooks, which are
    to see what the layer gives, the layer is called and its output overwritten by the activation. Both ways give the
    same numbers to rounding, and gradients of every order.

    Args:
        convolution: One of our layers.
        x: Images ``[N, C, H, W]``.
        slope: Factor for negative values, 0 to 1.
        normalize: Whether `ganblocks.functional.pixel_norm` comes last (Karras et al. 2018, section 4.2).

    Returns:
        Features ``[N, out_channels, H', W']``.

    Raises:
        ValueError: If ``slope`` lies outside 0 to 1.
    """
    if not uses_kernel(x, convolution.weight, convolution.bias) or _has_hooks(convolution):
        features = leaky_relu(convolution(x), slope, inplace=True)
        return pixel_norm(features) if normalize else features
    features, scale = convolution.without_bias(x)
    operation = bias_act_pixel_norm if normalize else bias_act
    return operation(features, convolution.bias, slope=slope, scale=scale)


def _has_hooks(module: nn.Module) -> bool:
    """Whether a call of the module would run more than its ``forward``."""
    own = module._forward_hooks or module._forward_pre_hooks or module._backward_hooks or module._backward_pre_hooks
    return bool(own) or nn.modules.module._has_any_global_hook()  # type: ignore[no-untyped-call]
