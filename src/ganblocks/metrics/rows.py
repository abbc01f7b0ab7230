"""The one check of what goes into a metric: real, finite numbers in float64, one sample a row; or their moments."""

import torch
from torch import Tensor

from ganblocks._checks import require, require_rank
from ganblocks.errors import MetricError

__all__ = ["as_moments", "as_row_pair", "as_rows", "require_finite"]

_ROUNDING = 1e-6  # of the largest entry: a covariance may have been computed in float32


def as_moments(mean: Tensor, cov: Tensor, mean_name: str, cov_name: str) -> tuple[Tensor, Tensor]:
    """Check a mean ``[D]`` and a covariance ``[D, D]``; both in float64, detached, on the device of the mean.

    Args:
        mean: Of any real dtype.
        cov: Likewise; asymmetric by at most 1e-6 of its largest entry.
        mean_name: Of the argument, for the messages.
        cov_name: Likewise.

    Raises:
        TypeError: Not a tensor, or a complex or boolean one.
        ValueError: Another shape, or not symmetric.
        MetricError: A value is NaN or infinite.
    """
    require_rank(mean, mean_name, 1, 1)
    require_rank(cov, cov_name, 2, 2)
    size = len(mean)
    require(tuple(cov.shape) == (size, size), f"{cov_name}.shape", tuple(cov.shape), f"[D, D] for a mean of D = {size}")
    mean, cov = as_rows(mean, mean_name)[:, 0], as_rows(cov, cov_name)
    cov = cov.to(mean.device)
    if not torch.equal(cov, cov.T):
        difference = float((cov - cov.T).abs().max())
        expected = f"symmetric, but entries that should be equal differ by up to {difference:.3g}"
        require(difference <= _ROUNDING * float(cov.abs().max()), cov_name, f"[{size}, {size}]", expected)
    return mean, cov


def as_row_pair(real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
    """Check two sets of samples, as `as_rows` does, and that they go together.

    Args:
        real: [N, ...].
        fake: [M, ...] with as many values a sample, on the same device.

    Returns:
        [N, D] and [M, D].

    Raises:
        TypeError: as for `as_rows`.
        ValueError: as there; or different dimensions or devices.
        MetricError: as there.
    """
    real, fake = as_rows(real, "real"), as_rows(fake, "fake")
    require(fake.shape[1] == real.shape[1], "fake", tuple(fake.shape), f"rows of {real.shape[1]} values, as `real`")
    require(fake.device == real.device, "fake.device", str(fake.device), f"{real.device}, that of `real`")
    return real, fake


def as_rows(samples: Tensor, name: str) -> Tensor:
    """Check one set of samples and flatten it to rows in float64.

    Args:
        samples: [N, ...] with N >= 1 and at least one value a sample; [N] counts as N samples of one value. Any real
            dtype, whole numbers too.
        name: of the argument, for the messages.

    Returns:
        [N, D] in float64, detached from any graph, on the device of ``samples``; a device without float64 (MPS) gives
        rows on the CPU. The rows share memory with ``samples`` where nothing had to be converted: do not write to them.

    Raises:
        TypeError: not a tensor, or a complex or boolean one.
        ValueError: no dimension, or no value.
        MetricError: values that are NaN or infinite; the message counts them.
    """
    require_rank(samples, name, 1)
    real = not samples.is_complex() and samples.dtype != torch.bool
    require(real, f"{name}.dtype", samples.dtype, "a real number", TypeError)
    require(samples.numel() > 0, f"{name}.shape", tuple(samples.shape), "at least one sample of at least one value")
    samples = samples.detach()
    if samples.device.type == "mps":
        samples = samples.cpu()
    rows = samples.reshape(len(samples), -1).to(torch.float64)
    require_finite(rows, name)
    return rows


def require_finite(values: Tensor, name: str) -> None:
    """Raise MetricError with the number of values that are NaN or infinite, if there are any.

    Args:
        values: of any shape and dtype.
        name: of the argument, for the message.

    Raises:
        MetricError: as said.
    """
    finite = values.isfinite()
    if not bool(finite.all()):
        raise MetricError(f"`{name}` holds {int((~finite).sum())} of {values.numel()} values that are NaN or infinite")
