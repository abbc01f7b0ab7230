"""The Frechet distance between two sets of features, squared, as in the FID (Heusel et al. 2017). Lower is better.

Both sets are taken as Gaussian. Dowson and Landau (1982) give the squared distance of two Gaussians in closed form::

    |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2))

It is also their squared 2-Wasserstein distance. With C1 = R R^T, the trace of the root is the sum of the roots of the
eigenvalues of the symmetric R^T C2 R: real numbers from a backward-stable routine, where a general matrix root is slow
and leaves imaginary parts to be thrown away.
"""

import math
import warnings

import torch
from torch import Tensor

from ganblocks._checks import require
from ganblocks.errors import FingerprintMismatchError, MetricError, SmallSampleWarning
from ganblocks.metrics.frechet_bias import estimated_bias
from ganblocks.metrics.rows import as_moments, as_rows
from ganblocks.metrics.score import Score
from ganblocks.metrics.statistics import RunningStatistics, Statistics

__all__ = ["expected_bias", "frechet_distance", "frechet_distance_from_features", "frechet_distance_from_moments"]

_ROWS_A_DIMENSION = 10  # from which on sampling noise is not warned about
_NEGATIVE = 1e-4  # of the largest eigenvalue: more than any rounding, float32 included


def frechet_distance(a: Statistics, b: Statistics, *, allow_mismatch: bool = False) -> Score:
    """Squared Frechet distance between real and generated features: the FID, if Inception's 2015 network made them.

    It is biased upwards by the sampling noise of both sets; compare only distances from equal counts. Below ten rows a
    dimension that noise is large enough to be told: see `estimated_bias`.

    Args:
        a: Of the real features.
        b: Of the generated ones.
        allow_mismatch: Whether to go on although extractor or ``ddof`` differ; the score's settings then name both.

    Returns:
        ``frechet_distance``, at least 0, in squared units of the features. Counts ``real`` and ``fake``, settings
        ``ddof`` and ``extractor``. With fewer than ten rows a dimension on a side, the details hold ``expected_bias``:
        the distance that two such sets of one law would have, by `estimated_bias`.

    Raises:
        ValueError: Features of different dimensions.
        FingerprintMismatchError: The two were made in different ways, and it is not allowed.
        MetricError: A covariance has clearly negative eigenvalues, or the distance overflows.

    Warns:
        SmallSampleWarning: A side has fewer than ten rows a dimension.

    Source:
        Heusel et al. 2017, "GANs trained by a two time-scale update rule", equation 6; Dowson and Landau 1982.
    """
    require(a.dimension == b.dimension, "b", b, f"of {a.dimension} dimensions, as `a`")
    made = {"ddof": (a.ddof, b.ddof), "extractor": (a.fingerprint, b.fingerprint)}
    differing = {name: pair for name, pair in made.items() if pair[0] != pair[1]}
    if differing and not allow_mismatch:
        lines = "; ".join(f"{name} {one!r} against {other!r}" for name, (one, other) in differing.items())
        raise FingerprintMismatchError(
            f"two sets of features were made in different ways and do not compare: {lines}. Measure both in one way, "
            "or say allow_mismatch=True"
        )
    if b.count < a.count:  # the distance is symmetric; the factor is that of the covariance of lower rank
        value = _distance(b.mean, b.cov, a.mean, a.cov, b.count - 1)
    else:
        value = _distance(a.mean, a.cov, b.mean, b.cov, a.count - 1)
    details = {}
    enough = _ROWS_A_DIMENSION * a.dimension
    if min(a.count, b.count) < enough:
        details["expected_bias"] = estimated_bias(a, b)
        least = f"at least {a.dimension}, better " if min(a.count, b.count) < a.dimension else ""
        warnings.warn(
            f"{a.count} real and {b.count} fake rows are few for {a.dimension} dimensions: two such sets of one law "
            f"have a Frechet distance of about {details['expected_bias']:.4g}, not 0. Take {least}{enough} of "
            "each",
            SmallSampleWarning,
            stacklevel=2,
        )
    settings = {name: list(pair) if name in differing else pair[0] for name, pair in made.items()}
    counts = {"real": a.count, "fake": b.count}
    return Score("frechet_distance", value, counts=counts, settings=settings, details=details)


def frechet_distance_from_moments(mean1: Tensor, cov1: Tensor, mean2: Tensor, cov2: Tensor) -> float:
    """Squared Frechet distance between two Gaussians, in float64.

    If both covariances are singular, rounding of the zero eigenvalues costs some 1e-8 of the largest one for each;
    `frechet_distance` and `frechet_distance_from_features`, which know the counts, have no such loss.

    Args:
        mean1: ``[D]``, any real dtype.
        cov1: ``[D, D]``, symmetric and positive semidefinite; may be singular.
        mean2: ``[D]``.
        cov2: ``[D, D]``.

    Returns:
        The distance, at least 0.

    Raises:
        TypeError: Not tensors of real numbers.
        ValueError: Shapes that do not fit, or a covariance that is not symmetric within rounding.
        MetricError: NaN or infinity, clearly negative eigenvalues, or an overflow.

    Source:
        Dowson and Landau 1982, "The Frechet distance between multivariate normal distributions".
    """
    mean1, cov1 = as_moments(mean1, cov1, "mean1", "cov1")
    mean2, cov2 = as_moments(mean2, cov2, "mean2", "cov2")
    require(len(mean1) == len(mean2), "mean2.shape", tuple(mean2.shape), f"{tuple(mean1.shape)}, as that of `mean1`")
    return _distance(mean1, cov1, mean2, cov2, len(mean1))


def frechet_distance_from_features(real: Tensor, fake: Tensor, *, ddof: int = 1) -> float:
    """Squared Frechet distance between two sets of features, in float64.

    With fewer rows than dimensions the covariances are never formed: for centred rows X and Y, the trace of the root is
    the nuclear norm of X Y^T over sqrt((n - ddof) (m - ddof)), exact for singular covariances too.

    Args:
        real: ``[N, D]``, N >= 2, any real dtype.
        fake: ``[M, D]``, M >= 2; on the device of ``real``.
        ddof: Covariances are divided by the count minus this.

    Returns:
        The distance, at least 0.

    Raises:
        TypeError: Not tensors of real numbers.
        ValueError: Fewer than 2 rows, different dimensions, or ``ddof`` out of range.
        MetricError: NaN, infinity or an overflow.
    """
    real, fake = as_rows(real, "real"), as_rows(fake, "fake")
    count, dimension = real.shape
    require(fake.shape[1] == dimension, "fake.shape", tuple(fake.shape), f"rows of {dimension} values, as `real`")
    for name, rows in (("real", real), ("fake", fake)):
        require(len(rows) >= 2, f"{name}.shape", tuple(rows.shape), "at least 2 rows")
        require(0 <= ddof < len(rows), "ddof", ddof, f"at least 0 and below the {len(rows)} rows of `{name}`")
    if min(count, len(fake)) > dimension:
        running = [RunningStatistics(dimension, device=rows.device).update(rows) for rows in (real, fake)]
        first, second = (moments.compute(ddof=ddof) for moments in running)
        return _distance(first.mean, first.cov, second.mean, second.cov, dimension)
    mean1, mean2 = real.mean(dim=0), fake.mean(dim=0)
    factor1, factor2 = (real - mean1) / math.sqrt(count - ddof), (fake - mean2) / math.sqrt(len(fake) - ddof)
    spread = factor1.square().sum() + factor2.square().sum()
    if not bool(spread.isfinite()):
        raise MetricError(f"the sum of all variances is {float(spread)}: values too large for float64")
    factor1, factor2 = _shortened(factor1), _shortened(factor2)
    root = torch.linalg.svdvals(factor1 @ factor2.T).sum()
    return _checked((mean1 - mean2).square().sum() + spread - 2 * root)


def expected_bias(spectrum: Tensor | Statistics, n: int, m: int) -> float:
    """What the squared Frechet distance of two samples of ONE law is expected to be, to first order in 1/n and 1/m.

    With l the eigenvalues of the law's covariance::

        (1/n + 1/m) (sum_i l_i + 1/2 sum_ij l_i l_j (1 + delta_ij) / (l_i + l_j))

    The first sum is the scatter of the means. The second is that of the covariances, of entries with variance
    l_i l_j (1 + delta_ij) / n (Wishart 1928), through the second derivative of the distance at equal covariances,
    ``1/2 sum_ij |E_ij|^2 / (l_i + l_j)`` for a difference E.

    It holds for counts well above the D dimensions. Below D the true expectation is smaller, for unit eigenvalues 0.87
    of this at D / 2 and 0.38 at D / 8; and the eigenvalues of samples so small are not those of their law: a
    covariance of D / 8 rows makes this number 0.4 of the truth. `estimated_bias` has neither fault.

    Args:
        spectrum: The eigenvalues ``[D]``, or statistics from whose covariance they are computed.
        n: Rows of one sample.
        m: Rows of the other.

    Returns:
        The expectation for Gaussians; for d unit eigenvalues ``(1/n + 1/m) (d + d (d + 1) / 4)``.

    Raises:
        ValueError: A count below 1, or negative eigenvalues.
        MetricError: NaN or infinity.
    """
    require(n >= 1, "n", n, "at least 1")
    require(m >= 1, "m", m, "at least 1")
    if isinstance(spectrum, Statistics):
        values = torch.linalg.eigvalsh(_symmetric(spectrum.cov)).clamp(min=0)
    else:
        values = as_rows(spectrum, "spectrum").flatten()
        require(bool((values >= 0).all()), "spectrum", float(values.min()), "eigenvalues of at least 0")
    harmonic = 1 / (1 / values[:, None] + 1 / values)  # l_i l_j / (l_i + l_j), and 0 where one is 0
    return float((1 / n + 1 / m) * (values.sum() + (harmonic.sum() + harmonic.diagonal().sum()) / 2))


def _distance(mean1: Tensor, cov1: Tensor, mean2: Tensor, cov2: Tensor, rank1: int) -> float:
    """The formula at the top, for checked moments; ``rank1`` is at least the rank of ``cov1``."""
    mean2, cov2 = mean2.to(mean1.device), cov2.to(mean1.device)
    root = _trace_of_root(_symmetric(cov1), _symmetric(cov2), rank1)
    return _checked((mean1 - mean2).square().sum() + cov1.trace() + cov2.trace() - 2 * root)


def _trace_of_root(cov1: Tensor, cov2: Tensor, rank1: int) -> Tensor:
    """tr((C1 C2)^(1/2)) of two covariances."""
    scale1, scale2 = _scale(cov1), _scale(cov2)
    cov1, cov2 = cov1 / scale1, cov2 / scale2
    scale = math.sqrt(scale1) * math.sqrt(scale2)
    if rank1 >= len(cov1):
        for one, other in ((cov1, cov2), (cov2, cov1)):
            factor, failure = torch.linalg.cholesky_ex(one)
            if int(failure) == 0:
                return scale * _sum_of_roots(factor, other)
    values, vectors = torch.linalg.eigh(cov1)  # ascending
    _require_no_negative(values)
    zeros = len(values) - rank1
    noise = len(values) * torch.finfo(values.dtype).eps * float(values[-1])
    if zeros > 0 and float(values[zeros - 1]) <= noise:  # the counts do not lie: leave out what is rounding only
        values, vectors = values[zeros:], vectors[:, zeros:]
    return scale * _sum_of_roots(vectors * values.clamp(min=0).sqrt(), cov2)


def _sum_of_roots(factor: Tensor, cov: Tensor) -> Tensor:
    """Sum of the roots of the eigenvalues of R^T C R, which are those of R R^T C and zeros."""
    values = torch.linalg.eigvalsh(factor.T @ cov @ factor)  # reads the lower triangle alone
    _require_no_negative(values)
    return values.clamp(min=0).sqrt().sum()


def _require_no_negative(values: Tensor) -> None:
    """Raise if ascending eigenvalues are negative beyond rounding: such a matrix is no covariance."""
    lowest, largest = float(values[0]), float(values.abs().max())
    if lowest < -_NEGATIVE * largest:
        raise MetricError(
            f"a covariance is not positive semidefinite: an eigenvalue is {lowest / largest:.3g} of the largest. "
            "Sums in float32 do that to features with a large mean"
        )


def _symmetric(matrix: Tensor) -> Tensor:
    """Without the rounding differences between entries that should be equal."""
    return matrix if torch.equal(matrix, matrix.T) else (matrix + matrix.T) / 2


def _scale(cov: Tensor) -> float:
    """A power of two near the largest entry, by which products of covariances neither overflow nor vanish."""
    largest = max(map(abs, map(float, cov.aminmax())))
    return math.ldexp(1.0, math.frexp(largest)[1] - 1) if largest > 0 else 1.0


def _shortened(factor: Tensor) -> Tensor:
    """At most D rows R' with R'^T R' = R^T R."""
    return torch.linalg.qr(factor, mode="r").R if len(factor) > factor.shape[1] else factor


def _checked(value: Tensor) -> float:
    """The distance as a number; rounding may have made it slightly negative."""
    distance = float(value)
    if not math.isfinite(distance):
        raise MetricError(f"the Frechet distance is {distance}: moments too large for float64")
    return max(distance, 0.0)
