"""Spectral normalisation: every layer's weight divided by its largest singular value."""

from typing import TypeVar, cast

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd
from torch.nn.parameter import UninitializedParameter
from torch.nn.utils import parametrize

from ganblocks._checks import require
from ganblocks.layers.weight_scale import WSConv2d, WSConvTranspose2d, WSLinear

__all__ = ["SpectralNorm", "spectral_norm"]

ModuleType = TypeVar("ModuleType", bound=nn.Module)

_FIRST_ITERATIONS = 15  # from random vectors, as in PyTorch


class SpectralNorm(nn.Module):
    """The parametrization behind `spectral_norm`: ``weight / sigma``, sigma its largest singular value.

    Miyato et al. 2018, equations 8 to 11 and algorithm 1: sigma is ``u^T W v`` with u and v from power iteration, taken
    as constants by the gradient. W is the weight as a matrix, one row for each output channel and a column for each
    weight that it has; so for a convolution sigma is that of this matrix, not of the map between images.

    The values, gradients and ``state_dict`` names are those of ``torch.nn.utils.parametrizations.spectral_norm``, but
    in three cases: sigma and the iteration are in at least float32, inside autocast too; a weight of zeros stays zero
    with finite gradients and is normalised as soon as it is something else, where PyTorch's is NaN for ever; and an
    assignment (``layer.weight = ...``, `ganblocks.layers.initialize`) starts the iteration anew, where PyTorch keeps
    the old vectors and, in evaluation mode, divides by a number that has nothing to do with the weight.

    Args:
        weight: What will be normalised, of two dimensions or more; the start vectors are drawn from the global
            generator of its device.
        dim: The dimension of the output channels.
        iterations: Steps of power iteration at each use in training mode, at least 1. In evaluation mode u and v stay.
        eps: Lengths up to this count as zero; above 0.

    Shape:
        Any weight to the same shape. Twice differentiable.

    Raises:
        ValueError: ``iterations`` or ``eps`` is out of range.
    """

    _u: Tensor
    _v: Tensor

    def __init__(self, weight: Tensor, dim: int = 0, *, iterations: int = 1, eps: float = 1e-12) -> None:
        super().__init__()
        require(iterations >= 1, "iterations", iterations, "at least 1")
        require(eps > 0, "eps", eps, "above 0")
        self.dim = dim
        self.iterations = iterations
        self.eps = eps
        with torch.no_grad():
            matrix = self._matrix(weight)
            for name, size in (("_u", matrix.shape[0]), ("_v", matrix.shape[1])):
                vector = matrix.new_empty(size).normal_()
                self.register_buffer(name, (vector / vector.norm().clamp(min=eps)).to(weight.dtype))

    def forward(self, weight: Tensor) -> Tensor:
        """Divide ``weight`` by its largest singular value."""
        matrix = self._matrix(weight)
        if self.training:
            self._iterate(matrix, self.iterations)
        u, v = self._u.to(matrix, copy=True), self._v.to(matrix, copy=True)  # two uses may precede one backward
        with torch.autocast(weight.device.type, enabled=False):
            sigma = torch.dot(u, torch.mv(matrix, v))
        sigma = torch.where(sigma.detach().abs() > self.eps, sigma, 1.0)
        return (weight.to(sigma.dtype) / sigma).to(weight.dtype)

    def right_inverse(self, weight: Tensor) -> Tensor:
        """Take an assigned weight as it is; from now on its singular value counts."""
        self._iterate(self._matrix(weight), _FIRST_ITERATIONS)
        return weight

    def extra_repr(self) -> str:
        """Every number that changes the result."""
        return f"dim={self.dim}, iterations={self.iterations}, eps={self.eps}"

    def _matrix(self, weight: Tensor) -> Tensor:
        """[output channels, all others], in at least float32."""
        return weight.movedim(self.dim, 0).flatten(1).to(torch.promote_types(weight.dtype, torch.float32))

    @torch.no_grad()
    def _iterate(self, matrix: Tensor, iterations: int) -> None:
        u, v = self._u.to(matrix), self._v.to(matrix)
        with torch.autocast(matrix.device.type, enabled=False):
            for _ in range(iterations):
                u = self._direction(torch.mv(matrix, v), u)
                v = self._direction(torch.mv(matrix.T, u), v)
        # Not copy_, which torch.func refuses inside a compiled penalty.
        torch.mul(u, 1.0, out=self._u)
        torch.mul(v, 1.0, out=self._v)

    def _direction(self, vector: Tensor, before: Tensor) -> Tensor:
        """The vector at length 1; where it has no direction, the one before, which may find its way later."""
        length = torch.linalg.vector_norm(vector)
        return torch.where(length > self.eps, vector / length.clamp(min=self.eps), before)


def spectral_norm(network: ModuleType, *, iterations: int = 1, eps: float = 1e-12) -> ModuleType:
    """Divide the weight of every convolution and linear layer by its largest singular value, in place.

    Miyato et al. 2018: each layer then has a Lipschitz constant near 1, as far as its matrix goes; see `SpectralNorm`,
    which is put on the weights as a parametrization. Biases stay. Parameters keep their identity, so an optimizer made
    before stays right, but their names change: ``conv.weight`` becomes ``conv.parametrizations.weight.original``, with
    the vectors beside it, in the state dict. `torch.nn.utils.parametrize.remove_parametrizations` takes one off.

    Treated are ``nn.Linear`` and all convolutions of ``torch.nn`` with their subclasses, those of this library too,
    in ``network`` and everything inside it; not embeddings.

    Args:
        network: The network, a discriminator as a rule, or one layer. A layer that occurs twice is treated once.
        iterations: Steps of power iteration at each use in training mode, at least 1; the paper's is 1. Every forward
            pass is a use.
        eps: Lengths up to this count as zero.

    Returns:
        The same object.

    Raises:
        TypeError: ``network`` is no module, or holds weight-scaled layers, whose constant would undo the norm.
        ValueError: There is no layer to treat, one has a spectral norm already or has no weight yet, or a number is
            out of range. Nothing is changed then.
    """
    require(isinstance(network, nn.Module), "network", network, "a torch.nn.Module", TypeError)
    require(iterations >= 1, "iterations", iterations, "at least 1")
    require(eps > 0, "eps", eps, "above 0")
    layers = {}
    for path, layer in network.named_modules():
        if isinstance(layer, WSConv2d | WSConvTranspose2d | WSLinear):
            raise TypeError(
                f"`network` holds a {type(layer).__name__} at {path!r}, which multiplies its weight by a constant at "
                "every use and would undo the norm; build the network with Conv2d, ConvTranspose2d and nn.Linear"
            )
        if isinstance(layer, nn.Linear | _ConvNd):
            _require_treatable(layer, path)
            layers[path] = layer
    require(bool(layers), "network", type(network).__name__, "a network with convolutions or linear layers")
    for layer in layers.values():
        dim = 1 if isinstance(layer, _ConvTransposeNd) else 0
        norm = SpectralNorm(layer.weight, dim, iterations=iterations, eps=eps)
        parametrize.register_parametrization(layer, "weight", norm)
    return network


def _require_treatable(layer: nn.Module, path: str) -> None:
    if parametrize.is_parametrized(layer, "weight"):
        chain = cast("parametrize.ParametrizationList", layer.parametrizations.weight)  # type: ignore[union-attr]
        if any(type(part).__name__ in ("SpectralNorm", "_SpectralNorm") for part in chain):  # ours and PyTorch's
            raise ValueError(f"`network` has a spectral norm at {path!r} already; call spectral_norm once")
    elif "weight" not in layer._parameters:
        raise ValueError(
            f"`network` computes the weight at {path!r} in a hook, as torch.nn.utils.spectral_norm and weight_norm do; "
            "remove it first"
        )
    elif isinstance(layer._parameters["weight"], UninitializedParameter):
        raise ValueError(f"`network` has no weight at {path!r} yet; run it once before")
