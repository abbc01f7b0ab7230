"""Latent vectors: drawing them, walking between them, and drawing them from an encoder's output.

Everything random takes a ``torch.Generator``. The draw happens on the generator's device and the result is moved, so a
generator on the CPU gives the same numbers for every device.
"""

import math

import torch
from torch import Tensor

from ganblocks._checks import require, require_same_shape
from ganblocks.functional.draws import draw

__all__ = ["lerp", "normal_latents", "reparameterize", "slerp", "truncated_normal_latents"]


def normal_latents(
    count: int,
    latent_dim: int,
    *,
    seed: int | None = None,
    generator: torch.Generator | None = None,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """Draw ``count`` latents from N(0, 1).

    Args:
        count: N, at least 0.
        latent_dim: Z, at least 1.
        seed: Shorthand for a fresh CPU generator with this seed: the same latents on every device.
        generator: Where the numbers come from. Without it and without ``seed``: torch's global generator of ``device``.
        device: Of the result; None is torch's default device.
        dtype: Of the result; None is torch's default dtype. Types of 16 bits are float32 draws, rounded.

    Returns:
        [N, Z].

    Raises:
        ValueError: a size too small, or both ``seed`` and ``generator``.
    """
    _require_sizes(count, latent_dim)
    generator = _generator(seed, generator)
    return _randn((count, latent_dim), generator, torch.get_default_device() if device is None else device, dtype)


def truncated_normal_latents(
    count: int,
    latent_dim: int,
    *,
    truncation: float = 0.7,
    seed: int | None = None,
    generator: torch.Generator | None = None,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """Draw ``count`` latents from N(0, 1) conditioned on every component lying in [-truncation, truncation].

    The "truncation trick" of Brock et al. 2019 (BigGAN), section 3.1: values outside are drawn anew, not clipped. Here
    by the inverse of the distribution function, in float64: ``x = sqrt(2) erfinv(u erf(truncation / sqrt(2)))`` with u
    uniform on [-1, 1). The scale stays 1: the standard deviation of the result is less than that of N(0, 1).

    Args:
        count: N, at least 0.
        latent_dim: Z, at least 1.
        truncation: The bound, positive and finite. Smaller: more typical and more alike samples.
        seed: As in :func:`normal_latents`.
        generator: As in :func:`normal_latents`.
        device: As in :func:`normal_latents`.
        dtype: As in :func:`normal_latents`; all are float64 draws, rounded.

    Returns:
        [N, Z].

    Raises:
        ValueError: a size too small, a bad ``truncation``, or both ``seed`` and ``generator``.
    """
    _require_sizes(count, latent_dim)
    require(truncation > 0 and math.isfinite(truncation), "truncation", truncation, "positive and finite")
    generator = _generator(seed, generator)
    target = torch.get_default_device() if device is None else torch.device(device)
    source = target if generator is None else generator.device
    uniform = draw(torch.rand, (count, latent_dim), generator, device=source, dtype=torch.float64).mul_(2).sub_(1)
    latents = math.sqrt(2) * torch.erfinv(uniform * math.erf(truncation / math.sqrt(2)))
    return latents.clamp_(-truncation, truncation).to(target, dtype or torch.get_default_dtype())


def lerp(start: Tensor, end: Tensor, t: float | Tensor) -> Tensor:
    """Straight line from ``start`` (t = 0) to ``end`` (t = 1), both reached exactly; twice differentiable.

    Args:
        start: Any shape, say [N, Z].
        end: The shape and dtype of ``start``.
        t: A number, or a tensor of any shape; every entry gives a whole result. Values outside [0, 1] extrapolate.

    Returns:
        ``t.shape + start.shape``: [N, Z] for a number, [T, N, Z] for ``t`` of shape [T].

    Raises:
        ValueError: the two shapes differ.
        TypeError: the two dtypes differ, or are not floating-point.
    """
    return torch.lerp(start, end, _position(start, end, t))


def slerp(start: Tensor, end: Tensor, t: float | Tensor) -> Tensor:
    """Arc from ``start`` (t = 0) to ``end`` (t = 1), both reached exactly; twice differentiable.

    Shoemake 1985, section 3.3; for latents White 2016, "Sampling Generative Networks", section 2.1. With omega the
    angle between a row of ``start`` and the row of ``end``:
    ``sin((1 - t) omega) / sin(omega) * start + sin(t omega) / sin(omega) * end``.
    Rows of one length keep that length on the way. Rows without an arc of their own (parallel, opposite, or zero) take
    the straight line of :func:`lerp`; for opposite rows it passes through zero.

    Args:
        start: [..., Z]; the last dimension is the vector.
        end: The shape and dtype of ``start``.
        t: A number, or a tensor of any shape; every entry gives a whole result. Values outside [0, 1] extrapolate.

    Returns:
        ``t.shape + start.shape``: [N, Z] for a number, [T, N, Z] for ``t`` of shape [T].

    Raises:
        ValueError: the two shapes differ, or there is no vector (no dimension, or Z = 0).
        TypeError: the two dtypes differ, or are not floating-point.
    """
    position = _position(start, end, t)
    require(start.dim() > 0 and start.shape[-1] > 0, "start", tuple(start.shape), "of shape [..., Z] with Z > 0")
    straight = torch.lerp(start, end, position)
    if start.dtype.itemsize < 4:
        start, end, position = start.float(), end.float(), position.float()

    start_unit, end_unit = _direction(start), _direction(end)
    # omega = 2 atan2(|u - v|, |u + v|): precise at every angle, where acos(<u, v>) loses half the digits near 0 and pi.
    difference = (start_unit - end_unit).square().sum(-1, keepdim=True)
    total = (start_unit + end_unit).square().sum(-1, keepdim=True)
    tiny = 4 * torch.finfo(start.dtype).eps
    is_zero = (start_unit == 0).all(-1, keepdim=True) | (end_unit == 0).all(-1, keepdim=True)
    no_arc = is_zero | (difference <= tiny) | (total <= tiny)
    # Rows without an arc compute with a right angle, so that no infinity enters their gradient.
    omega = 2 * torch.atan2(difference.where(~no_arc, 2.0).sqrt(), total.where(~no_arc, 2.0).sqrt())
    start_weight = torch.sin((1 - position) * omega) / torch.sin(omega)
    end_weight = torch.sin(position * omega) / torch.sin(omega)
    arc = start_weight * start + end_weight * end
    return torch.where(no_arc, straight, arc.to(straight.dtype))


def reparameterize(
    mean: Tensor,
    log_var: Tensor,
    *,
    epsilon_std: float = 1.0,
    noise: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Draw from N(mean, exp(log_var)) so that gradients reach both parameters.

    ``z = mean + exp(log_var / 2) * epsilon_std * noise`` (Kingma & Welling 2014, section 2.4). Differentiable any
    number of times.

    Args:
        mean: [N, Z], or any shape.
        log_var: Logarithm of the variance, not of the standard deviation; the shape of ``mean``.
        epsilon_std: Standard deviation of the noise that is added; 1 is the paper's.
        noise: The standard normal numbers, of the shape of ``mean``; None draws them.
        generator: Where drawn noise comes from; None is torch's global generator of the device of ``mean``.

    Returns:
        The shape of ``mean``.

    Raises:
        ValueError: unequal shapes, or both ``noise`` and ``generator``.
    """
    require_same_shape(mean, log_var, "mean", "log_var")
    if noise is None:
        noise = _randn(tuple(mean.shape), generator, mean.device, mean.dtype)
    else:
        require(generator is None, "generator", generator, "None when `noise` is given")
        require_same_shape(mean, noise, "mean", "noise")
    return mean + torch.exp(log_var / 2) * epsilon_std * noise


def _direction(vectors: Tensor) -> Tensor:
    """Rows of length 1 (zero stays zero); scaled by the largest entry first, so that no square overflows."""
    largest = vectors.detach().abs().amax(-1, keepdim=True)
    scaled = vectors / largest.where(largest > 0, 1.0)
    square = scaled.square().sum(-1, keepdim=True)
    return scaled * square.where(largest > 0, 1.0).rsqrt()


def _randn(
    shape: tuple[int, ...],
    generator: torch.Generator | None,
    device: torch.device | str,
    dtype: torch.dtype | None,
) -> Tensor:
    dtype = dtype or torch.get_default_dtype()
    source = device if generator is None else generator.device
    draw_dtype = torch.float32 if dtype.itemsize < 4 else dtype
    return draw(torch.randn, shape, generator, device=source, dtype=draw_dtype).to(device, dtype)


def _generator(seed: int | None, generator: torch.Generator | None) -> torch.Generator | None:
    if seed is None:
        return generator
    require(generator is None, "generator", generator, "None when `seed` is given")
    return torch.Generator().manual_seed(seed)


def _require_sizes(count: int, latent_dim: int) -> None:
    require(count >= 0, "count", count, "at least 0")
    require(latent_dim >= 1, "latent_dim", latent_dim, "at least 1")


def _position(start: Tensor, end: Tensor, t: float | Tensor) -> Tensor:
    """Check the two ends; ``t`` as a tensor that broadcasts to ``t.shape + start.shape``."""
    require_same_shape(start, end, "start", "end")
    require(start.is_floating_point(), "start", start.dtype, "a floating-point tensor", TypeError)
    require(start.dtype == end.dtype, "end", end.dtype, f"of the dtype of `start`, {start.dtype}", TypeError)
    position = torch.as_tensor(t, dtype=start.dtype, device=start.device)
    return position.reshape(position.shape + (1,) * start.dim())
