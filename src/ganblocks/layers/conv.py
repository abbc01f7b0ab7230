"""Convolution layers for critics with a gradient penalty, and the swap that brings them into any network.

PyTorch's second-order weight gradient of a convolution is unrelated to the truth in bfloat16 on CPUs with AMX (3x3
kernels, even batches up to 12), without a warning. A gradient penalty trains with exactly that gradient. The layers
here are ``torch.nn``'s, except that they compute through :mod:`ganblocks.ops.conv`, which is right in every order.
"""

from collections.abc import Sequence
from typing import TypeVar, cast

import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize

from ganblocks._checks import require
from ganblocks.ops.conv import conv2d, conv_transpose2d

__all__ = ["Conv2d", "ConvTranspose2d", "swap_convolutions"]

_Module = TypeVar("_Module", bound=nn.Module)


class Conv2d(nn.Conv2d):
    """``torch.nn.Conv2d`` with gradients that are right in every order and precision.

    Arguments, initial values, ``state_dict`` keys, values and errors are those of ``torch.nn.Conv2d``.

    Shape: [N, C, H, W] to [N, out_channels, H', W'], or both without N.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Convolve ``input`` [N, C, H, W]; see :func:`ganblocks.ops.conv2d`."""
        return self._convolve(input, self.bias)

    def without_bias(self, input: Tensor) -> tuple[Tensor, float]:
        """The convolution without its bias, and the factor it lacks, 1: what an operation behind it may add."""
        return self._convolve(input, None), 1.0

    def _convolve(self, input: Tensor, bias: Tensor | None) -> Tensor:
        padding: str | Sequence[int] = self.padding
        if self.padding_mode != "zeros":
            input = F.pad(input, self._reversed_padding_repeated_twice, mode=self.padding_mode)
            padding = (0, 0)
        return conv2d(input, self.weight, bias, self.stride, padding, self.dilation, self.groups)


class ConvTranspose2d(nn.ConvTranspose2d):
    """``torch.nn.ConvTranspose2d`` with gradients that are right in every order and precision.

    Arguments, initial values, ``state_dict`` keys, values and errors are those of ``torch.nn.ConvTranspose2d``.

    Shape: [N, C, H, W] to [N, out_channels, H', W'], or both without N.
    """

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        """Upsample ``input`` [N, C, H, W]; see :func:`ganblocks.ops.conv_transpose2d`.

        Args:
            input: Images [N, C, H, W] or one image [C, H, W].
            output_size: Wanted size, (height, width) or the whole shape, which decides the output padding;
                None uses the layer's own ``output_padding``.

        Raises:
            ValueError: If no output padding leads to ``output_size``.
        """
        return self._convolve(input, self.bias, output_size)

    def without_bias(self, input: Tensor) -> tuple[Tensor, float]:
        """The convolution without its bias, and the factor it lacks, 1: what an operation behind it may add."""
        return self._convolve(input, None), 1.0

    def _convolve(self, input: Tensor, bias: Tensor | None, output_size: list[int] | None = None) -> Tensor:
        padding = cast("tuple[int, ...]", self.padding)  # the constructor refuses a string
        output_padding = self._output_padding(
            input, output_size, list(self.stride), list(padding), list(self.kernel_size), 2, list(self.dilation)
        )
        return conv_transpose2d(
            input, self.weight, bias, self.stride, padding, output_padding, self.groups, self.dilation
        )


_SWAPS: dict[type[nn.Module], type[nn.Module]] = {nn.Conv2d: Conv2d, nn.ConvTranspose2d: ConvTranspose2d}


def swap_convolutions(module: _Module) -> _Module:
    """Let every 2-D convolution of a network compute through ours, in place.

    Call it once on a critic written with ``torch.nn`` before training it with a gradient penalty. Only the class of the
    layers changes: parameters, buffers, hooks, training mode, ``state_dict`` keys and an optimizer's references stay.
    Calling it again changes nothing.

    Swapped are modules whose class is exactly ``nn.Conv2d`` or ``nn.ConvTranspose2d``, also under
    ``torch.nn.utils.parametrizations`` (spectral norm and the like). Left alone are other subclasses, whose own
    ``forward`` must not be lost, lazy layers before their first call, and convolutions that a network calls by
    function rather than by layer (use :func:`ganblocks.ops.conv2d` there).

    Args:
        module: Any network, or one convolution. A layer that occurs in several places is swapped in all of them.

    Returns:
        The same object.

    Raises:
        TypeError: If ``module`` is not an ``nn.Module``.
    """
    require(isinstance(module, nn.Module), "module", module, "a torch.nn.Module", TypeError)
    for layer in module.modules():
        kind = type(layer)
        if kind in _SWAPS:
            layer.__class__ = _SWAPS[kind]
        elif parametrize.is_parametrized(layer) and kind.__bases__[0] in _SWAPS:
            # torch gives a parametrized layer a class of its own, directly below the original one. Deep copies share
            # it, so a new class is made; removing the parametrization then leads to our class.
            layer.__class__ = type(kind.__name__, (_SWAPS[kind.__bases__[0]],), dict(vars(kind)))
    return module
