"""How far apart two samples of one law are in the Frechet distance, told from the samples, however small they are.

The formula is that of random matrices, exact in the limit of many dimensions D with D / n fixed, for Gaussian rows. Let
C be the covariance of the law, l its eigenvalues, and N(s) = sum l^2 / (l^2 + s^2), which grows from 0 to D as s falls.
For sample covariances S1 and S2 of p and q degrees of freedom, the spectrum of S1 S2 is the free multiplicative
convolution of that of C^2 with two Marchenko-Pastur laws (Voiculescu 1987; Muller 2002), whose S-transforms 1 / (1 + D
w / p) turn into factors of the square, so that

    tr (S1 S2)^(1/2) = 2 / pi  integral  s sqrt((1 - N / p) (1 - N / q)) dN,  N from 0 to min(p, q, D)

Without the root this is tr C, and the difference of the two is (half) what sampling adds to the distance. The spectrum
of C is not known, and that of a small sample is far too wide; but N is the real part of tr C (C + i s)^-1, and such a
trace follows from the sample's own (Marchenko and Pastur 1967; Silverstein 1995): with the eigenvalues x of a
covariance of k degrees of freedom and T(u) = sum x / (x + u),

    tr C (C + c)^-1 = T(u)  for the u with  c (1 - T(u) / k) = u

To this is added the first term of order 1 / D, (1 / n + 1 / m) tr C / 4.
"""

import math

import numpy as np
import torch
from numpy.typing import NDArray

from ganblocks._checks import require
from ganblocks.errors import MetricError
from ganblocks.metrics.statistics import Statistics

__all__ = ["estimated_bias"]

_STEP = 10 ** (-1 / 20)  # from one s to the next
_WIDEST, _FINEST = 30.0, 1e-6  # s from and to, of the largest eigenvalue


def estimated_bias(a: Statistics, b: Statistics) -> float:
    """The squared Frechet distance to expect of two sets of these sizes if both are samples of ONE law.

    That law's covariance is taken to be what both sets show, weighted by their counts. Within 15 % of the mean over
    simulated Gaussians for counts from an eighth of the dimensions upwards, identical variances and spectra that fall
    by powers or geometrically alike; the variances of neural features fall so. It tells how much of a distance may be
    noise, and is nothing to subtract: the noise in the distance of two different laws is another.

    Args:
        a: Of one set.
        b: Of the other, of as many dimensions.

    Returns:
        The expectation, at least 0.

    Raises:
        ValueError: Different dimensions.
        MetricError: The covariances overflow.

    Source:
        The top of `ganblocks.metrics.frechet_bias`; for one scale and many more rows than dimensions it is
        `ganblocks.metrics.expected_bias`.
    """
    require(a.dimension == b.dimension, "b", b, f"of {a.dimension} dimensions, as `a`")
    free_a, free_b = a.count - 1, b.count - 1
    weight_a, weight_b = ((side.count - side.ddof) / (free_a + free_b) for side in (a, b))
    pooled = weight_a * a.cov + weight_b * b.cov.to(a.cov.device)
    if not bool(pooled.isfinite().all()):
        raise MetricError("the covariances are too large for float64")
    spectrum = torch.linalg.eigvalsh(pooled).clamp(min=0).cpu().numpy()
    largest = float(spectrum[-1])
    if largest == 0:
        return 0.0
    spectrum /= largest
    trace = float(spectrum.sum())
    lost = trace - _trace_of_root(spectrum, free_a + free_b, free_a, free_b)
    share_a, share_b = free_a / (a.count - a.ddof), free_b / (b.count - b.ddof)
    covariances = (math.sqrt(share_a) - math.sqrt(share_b)) ** 2 * trace + 2 * math.sqrt(share_a * share_b) * lost
    return largest * (covariances + 1.25 * (1 / a.count + 1 / b.count) * trace)


def _trace_of_root(sample: NDArray[np.float64], free: int, p: int, q: int) -> float:
    """The integral at the top, from the eigenvalues of a covariance of ``free`` degrees of freedom, the largest 1."""
    end, trace = min(p, q, len(sample)), float(sample.sum())
    kept = sample[sample > len(sample) * np.finfo(np.float64).eps]
    s, u, below, loss = _WIDEST, 1j * _WIDEST, 0.0, 0.0
    height = 3 * s  # N falls with the square of s: its part of the integral above s is 2 s N
    whole = lost = 0.0  # the integral without the root, and what the root takes from it
    while s > _FINEST:
        u = _solved(kept, free, s, u)
        reached = float((kept / (kept + u)).sum().real)
        if reached >= end:
            break
        now = s * (1 - math.sqrt((1 - reached / p) * (1 - reached / q)))
        whole += (reached - below) * (height + s) / 2
        lost += (reached - below) * (loss + now) / 2
        below, height, loss = reached, s, now
        s, u = s * _STEP, u * _STEP
    else:
        return trace - 2 / math.pi * lost  # what is left below the last s is nothing
    return 2 / math.pi * (whole - lost)


def _solved(sample: NDArray[np.float64], free: int, s: float, u: complex) -> complex:
    """Newton's iteration for the u with i s (1 - T(u) / k) = u, from the solution for the s before."""
    for _ in range(50):
        shares = sample / (sample + u)
        slope = 1 - 1j * s / free * complex((shares / (sample + u)).sum())
        step = (u - 1j * s * (1 - complex(shares.sum()) / free)) / slope
        u -= step
        if abs(step) <= 1e-7 * abs(u):
            break
    return u
