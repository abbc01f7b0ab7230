"""Initial weights of whole networks, by the name under which papers and frameworks know them."""

import math
from collections.abc import Callable
from typing import Literal, TypeVar, get_args

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd
from torch.nn.utils.parametrize import is_parametrized

from ganblocks._checks import require

__all__ = ["InitializationScheme", "initialize"]

InitializationScheme = Literal["torch", "glorot_uniform", "he_normal", "dcgan", "normal01"]
ModuleType = TypeVar("ModuleType", bound=nn.Module)

# Standard deviation of N(0, 1) conditioned on [-2, 2].
_TRUNCATED_STD = 0.8796256610342398


@torch.no_grad()
def initialize(
    module: ModuleType, scheme: InitializationScheme, *, generator: torch.Generator | None = None
) -> ModuleType:
    """Draw the weights of a network anew, in place.

    Touched are convolutions, transposed convolutions, ``nn.Linear`` and batch normalization, with their subclasses, in
    ``module`` and everything inside it. Other layers stay as they are; so do the weight-scaled layers of this library,
    which owe their meaning to weights of N(0, 1).

    =================  ==========================================================================================
    scheme             weights of convolutions and linear layers
    =================  ==========================================================================================
    "torch"            PyTorch's default, weights and biases uniform on +-1/sqrt(fan_in)
    "glorot_uniform"   uniform on +-sqrt(6 / (fan_in + fan_out)), Keras's default (Glorot & Bengio 2010, eq. 16)
    "he_normal"        normal of standard deviation sqrt(2 / fan_in), truncated at 2 standard deviations of the normal
                       it is cut from, as Keras does (He et al. 2015, eq. 10, has no truncation)
    "dcgan"            N(0, 0.02) (Radford et al. 2016, section 4); scales of batch normalization N(1, 0.02)
    "normal01"         N(0, 1) (Karras et al. 2018, section 4.1; meant for layers that scale at run time)
    =================  ==========================================================================================

    Biases become zero except in "torch". Batch normalization starts afresh: scale 1 (but see "dcgan"), shift 0, running
    mean 0 and variance 1. The fans are those of Keras and PyTorch: for a weight of shape ``[a, b, *kernel]``,
    fan_in = b * prod(kernel) and fan_out = a * prod(kernel), also for transposed convolutions.

    Args:
        module: The network; parametrized weights (spectral norm) are set through their parametrization.
        scheme: One of the table.
        generator: Where the numbers come from; one on the CPU gives the same weights on every device. None is torch's
            global generator of each weight's device.

    Returns:
        ``module`` itself.

    Raises:
        ValueError: unknown ``scheme``.
    """
    require(scheme in get_args(InitializationScheme), "scheme", scheme, f"one of {get_args(InitializationScheme)}")
    for layer in module.modules():
        if isinstance(layer, _ConvNd | nn.Linear):
            _initialize_weight(layer, scheme, generator)
        elif isinstance(layer, _BatchNorm):
            layer.reset_parameters()
            if scheme == "dcgan" and layer.weight is not None:
                _draw(layer, "weight", lambda weight: weight.normal_(1.0, 0.02, generator=generator), generator)
    return module


def _initialize_weight(
    layer: _ConvNd | nn.Linear, scheme: InitializationScheme, generator: torch.Generator | None
) -> None:
    receptive_field = math.prod(layer.weight.shape[2:])
    fan_in, fan_out = layer.weight.shape[1] * receptive_field, layer.weight.shape[0] * receptive_field
    if fan_in == 0 or fan_out == 0:
        return

    def fill(weight: Tensor) -> None:
        if scheme == "torch":
            bound = 1 / math.sqrt(fan_in)
            weight.uniform_(-bound, bound, generator=generator)
        elif scheme == "glorot_uniform":
            bound = math.sqrt(6 / (fan_in + fan_out))
            weight.uniform_(-bound, bound, generator=generator)
        elif scheme == "he_normal":
            std = math.sqrt(2 / fan_in) / _TRUNCATED_STD
            nn.init.trunc_normal_(weight, 0.0, std, -2 * std, 2 * std, generator=generator)
        else:
            weight.normal_(0.0, 0.02 if scheme == "dcgan" else 1.0, generator=generator)

    _draw(layer, "weight", fill, generator)
    if layer.bias is None:
        return
    if scheme == "torch":
        bound = 1 / math.sqrt(fan_in)
        _draw(layer, "bias", lambda bias: bias.uniform_(-bound, bound, generator=generator), generator)
    else:
        _draw(layer, "bias", lambda bias: bias.zero_(), generator)


def _draw(layer: nn.Module, name: str, fill: Callable[[Tensor], object], generator: torch.Generator | None) -> None:
    """Fill ``layer.name`` on the generator's device; through the parametrization where there is one."""
    tensor: Tensor = getattr(layer, name)
    device = tensor.device if generator is None else generator.device
    drawn = torch.empty(tensor.shape, dtype=tensor.dtype, device=device)
    fill(drawn)
    if is_parametrized(layer, name):
        setattr(layer, name, drawn.to(tensor.device))
    else:
        tensor.copy_(drawn)
