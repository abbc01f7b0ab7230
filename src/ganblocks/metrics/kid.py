"""Kernel distance between two sets of features: the squared maximum mean discrepancy with a polynomial kernel.

With features of the Inception network this is the Kernel Inception Distance, KID (Binkowski et al. 2018, "Demystifying
MMD GANs", section 4). Unlike the Frechet distance its estimate has no bias: for two sets of one law it is 0 on average,
at any number of samples, and so it is below 0 about half of the time.
"""

import math
from typing import Any

import torch
from torch import Tensor

from ganblocks._checks import require
from ganblocks.errors import MetricError
from ganblocks.metrics.rows import as_row_pair
from ganblocks.metrics.score import Score

__all__ = ["kernel_distance", "kernel_distance_u_statistic", "squared_mmd"]

_TILE = 512  # rows and columns of the kernel matrix held at a time: 2 MB, of which symmetric matrices need half


@torch.no_grad()
def kernel_distance(
    real: Tensor,
    fake: Tensor,
    *,
    num_subsets: int = 100,
    subset_size: int = 1000,
    degree: int = 3,
    gamma: float | None = None,
    coef0: float = 1.0,
    unbiased: bool = True,
    seed: int = 0,
    extractor: str | None = None,
) -> Score:
    """Average :func:`squared_mmd` over random subsets of both sets (Binkowski et al. 2018, section 4 and appendix D).

    The defaults are those of the field: 100 subsets of 1,000, the cubic kernel ``(<x, y> / D + 1)^3``.

    Args:
        real: [N, ...] features of real images, flattened to rows of D values. Any real dtype; computed in float64.
        fake: [M, ...] the same of generated images, of equal D, on the device of ``real``. N and M may differ.
        num_subsets: how many pairs of subsets.
        subset_size: rows of each, drawn without replacement; at most the smaller of N and M.
        degree: of the polynomial, at least 1.
        gamma: factor of the inner product, above 0; None takes 1 / D.
        coef0: added to it, at least 0.
        unbiased: whether to leave out the pairs of a row with itself; see :func:`squared_mmd`.
        seed: of the subsets, which are drawn on the CPU; the global random state is neither used nor changed.
        extractor: fingerprint of the network that made the features, for the settings of the score.

    Returns:
        The mean over the subsets, with their standard deviation (divided by ``num_subsets``, not by one less) as the
        spread. The subsets overlap, so the spread is that of one subset, not the error of the mean.

    Raises:
        TypeError: a complex or boolean tensor.
        ValueError: an empty set, different dimensions or devices, an option out of range, or a subset larger than a
            set.
        MetricError: a value is NaN or infinite, or the kernel overflows.
    """
    real, fake = as_row_pair(real, fake)
    kernel = _checked_kernel(real.shape[1], degree, gamma, coef0)
    require(num_subsets >= 1, "num_subsets", num_subsets, "at least 1")
    smallest, largest = 2 if unbiased else 1, min(len(real), len(fake))
    require(subset_size >= smallest, "subset_size", subset_size, f"at least {smallest} with unbiased={unbiased}")
    if subset_size > largest:
        raise ValueError(
            f"`subset_size` is {subset_size}, but there are {len(real)} real and {len(fake)} fake rows: pass "
            f"subset_size={largest} or less, or use kernel_distance_u_statistic, which needs no subsets"
        )
    generator = torch.Generator().manual_seed(seed)
    distances = torch.tensor(
        [
            _squared_mmd(_subset(real, subset_size, generator), _subset(fake, subset_size, generator), kernel, unbiased)
            for _ in range(num_subsets)
        ],
        dtype=torch.float64,
    )
    return Score(
        "kernel_distance",
        float(distances.mean()),
        float(distances.std(correction=0)),
        counts={"real": len(real), "fake": len(fake)},
        settings={
            "estimator": "subsets",
            "num_subsets": num_subsets,
            "subset_size": subset_size,
            **kernel,
            "unbiased": unbiased,
            "seed": seed,
            "extractor": extractor,
        },
    )


@torch.no_grad()
def kernel_distance_u_statistic(
    real: Tensor,
    fake: Tensor,
    *,
    degree: int = 3,
    gamma: float | None = None,
    coef0: float = 1.0,
    extractor: str | None = None,
) -> Score:
    """Estimate the kernel distance without bias from all pairs of rows at once (Gretton et al. 2012, section 2.2).

    It has the expectation of :func:`kernel_distance`, the smallest variance of all unbiased estimates, and no random
    choice. The work grows with (N + M)^2, the memory does not.

    Args:
        real: [N, ...] with N >= 2, as in :func:`kernel_distance`.
        fake: [M, ...] with M >= 2.
        degree: of the polynomial, at least 1.
        gamma: factor of the inner product, above 0; None takes 1 / D.
        coef0: added to it, at least 0.
        extractor: fingerprint of the network that made the features, for the settings of the score.

    Returns:
        The score, without a spread. Its settings differ from those of :func:`kernel_distance`, so the two do not
        compare by mistake.

    Raises:
        TypeError: a complex or boolean tensor.
        ValueError: a set of fewer than two rows, different dimensions or devices, or an option out of range.
        MetricError: a value is NaN or infinite, or the kernel overflows.
    """
    real, fake = as_row_pair(real, fake)
    kernel = _checked_kernel(real.shape[1], degree, gamma, coef0)
    return Score(
        "kernel_distance",
        _squared_mmd(real, fake, kernel, unbiased=True),
        counts={"real": len(real), "fake": len(fake)},
        settings={"estimator": "u_statistic", **kernel, "extractor": extractor},
    )


@torch.no_grad()
def squared_mmd(
    real: Tensor,
    fake: Tensor,
    *,
    degree: int = 3,
    gamma: float | None = None,
    coef0: float = 1.0,
    unbiased: bool = True,
) -> float:
    """Squared maximum mean discrepancy between two sets of rows under ``k(x, y) = (gamma <x, y> + coef0)^degree``.

    It is ``mean k(x, x') + mean k(y, y') - 2 mean k(x, y)`` over the rows x of ``real`` and y of ``fake``. The unbiased
    form (Gretton et al. 2012, equation 3) leaves out the pairs of a row with itself, x = x' and y = y'; the biased one
    (equation 5) keeps them and is never below 0, but for rounding. The kernel does not ignore a shift common to both
    sets, and large ones cost digits: subtract a constant first if features are far from 0.

    Args:
        real: [N, ...], flattened to rows of D values. Any real dtype; computed in float64, in tiles of bounded size.
        fake: [M, ...] of equal D, on the device of ``real``. N and M may differ.
        degree: of the polynomial, at least 1.
        gamma: factor of the inner product, above 0; None takes 1 / D.
        coef0: added to it, at least 0.
        unbiased: which of the two forms; the unbiased one needs two rows in each set.

    Raises:
        TypeError: a complex or boolean tensor.
        ValueError: too few rows, different dimensions or devices, or an option out of range.
        MetricError: a value is NaN or infinite, or the kernel overflows.
    """
    real, fake = as_row_pair(real, fake)
    return _squared_mmd(real, fake, _checked_kernel(real.shape[1], degree, gamma, coef0), unbiased)


def _checked_kernel(dimension: int, degree: int, gamma: float | None, coef0: float) -> dict[str, Any]:
    """The options of the kernel by name, as the settings of a score hold them."""
    require(isinstance(degree, int) and degree >= 1, "degree", degree, "a whole number of at least 1")
    require(gamma is None or 0 < gamma < math.inf, "gamma", gamma, "None or a finite number above 0")
    require(0 <= coef0 < math.inf, "coef0", coef0, "a finite number of at least 0")
    return {"degree": degree, "gamma": 1 / dimension if gamma is None else float(gamma), "coef0": float(coef0)}


def _subset(rows: Tensor, size: int, generator: torch.Generator) -> Tensor:
    return rows[torch.randperm(len(rows), generator=generator)[:size].to(rows.device)]


def _squared_mmd(real: Tensor, fake: Tensor, kernel: dict[str, Any], unbiased: bool) -> float:
    """:func:`squared_mmd` on checked rows in float64."""
    for rows, name in (real, "real"), (fake, "fake"):
        require(len(rows) >= 2 or not unbiased, name, tuple(rows.shape), "at least 2 rows for the unbiased form")
    within = _mean_within(real, kernel, unbiased) + _mean_within(fake, kernel, unbiased)
    distance = float(within - 2 * _mean_between(real, fake, kernel))
    if not math.isfinite(distance):
        raise MetricError(f"the squared discrepancy is {distance}: values too large for degree {kernel['degree']}")
    return distance


def _mean_within(rows: Tensor, kernel: dict[str, Any], unbiased: bool) -> Tensor:
    """Mean of the kernel over the pairs of one set; the pairs of a row with itself count in the biased form only."""
    diagonal, above = [], []
    tiles = torch.split(rows, _TILE)
    for i, tile in enumerate(tiles):
        block = _kernel(tile, tile, kernel)
        diagonal.append(block.diagonal().sum())
        above.append(block.fill_diagonal_(0).sum() / 2)  # filled, not subtracted: it may exceed the rest by far
        above += [_kernel(tile, other, kernel).sum() for other in tiles[i + 1 :]]
    pairs = 2 * torch.stack(above).sum()
    if unbiased:
        return pairs / (len(rows) * (len(rows) - 1))
    return (pairs + torch.stack(diagonal).sum()) / len(rows) ** 2


def _mean_between(real: Tensor, fake: Tensor, kernel: dict[str, Any]) -> Tensor:
    sums = [_kernel(a, b, kernel).sum() for a in torch.split(real, _TILE) for b in torch.split(fake, _TILE)]
    return torch.stack(sums).sum() / (len(real) * len(fake))


def _kernel(a: Tensor, b: Tensor, kernel: dict[str, Any]) -> Tensor:
    """``(gamma <a, b> + coef0)^degree`` for all pairs of rows; overwrites nothing but its own result."""
    return (a @ b.T).mul_(kernel["gamma"]).add_(kernel["coef0"]).pow_(kernel["degree"])
