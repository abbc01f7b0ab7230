"""Precision, recall, density and coverage: how much of the fakes is real-like, and how much of the reals is made.

A set of samples stands for the region that its balls cover: one around each sample, reaching to its k-th nearest
neighbour in the set. Precision and recall are of Kynkaanniemi et al. 2019, "Improved Precision and Recall Metric for
Assessing Generative Models"; density and coverage of Naeem et al. 2020, "Reliable Fidelity and Diversity Metrics for
Generative Models".

Whether a sample lies in a ball is decided exactly. Distances are first taken from one matrix product, which is fast but
wrong in the last digits; wherever these could matter, they are computed again from the differences, summed in one
fixed order. So equal rows are at distance 0, samples as far away as the neighbour that makes the radius tie with it,
and neither the memory available nor the number of threads changes a score.
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ganblocks._checks import require
from ganblocks.metrics.rows import as_row_pair
from ganblocks.metrics.score import Score

__all__ = ["prdc"]

_BLOCK_ELEMENTS = 2**23  # of distances, or of differences, held at a time: 64 MB, several times


@torch.no_grad()
def prdc(
    real: Tensor,
    fake: Tensor,
    *,
    nearest_k: int = 5,
    ties: Literal["strict", "inclusive"] = "strict",
    extractor: str | None = None,
) -> dict[str, Score]:
    """Compare two sets of features by the balls around their samples.

    - precision: share of the fakes that lie in the ball of any real;
    - recall: share of the reals that lie in the ball of any fake;
    - density: balls of reals that a fake lies in, averaged over the fakes and divided by ``nearest_k``; 1 on average
      for two sets of one law, and may exceed it;
    - coverage: share of the reals whose ball holds any fake.

    The numbers depend on N and M; those published with coverage have 10,000 of each.

    Args:
        real: [N, ...] features of real images, flattened to rows. Any real dtype; compared in float64.
        fake: [M, ...] the same of generated images, on the device of ``real``. N and M may differ.
        nearest_k: which neighbour, other than the sample itself, the radius reaches to; below N and M. Density and
            coverage are published with 5, precision and recall with 3.
        ties: whether a ball holds what lies exactly on its surface. "strict" (distance < radius) is the definition of
            the code published with density and coverage, "inclusive" (distance <= radius) that of precision and recall.
            It matters where samples repeat: ``nearest_k`` further copies of a sample make its radius 0, and a strict
            ball of radius 0 is empty.
        extractor: fingerprint of the network that made the features, for the settings of the scores.

    Returns:
        Scores by name, in the order above. Their details hold ``duplicates_real`` and ``duplicates_fake``: rows that
        repeat an earlier row of their set. Where these are many, look at the data before the scores.

    Raises:
        TypeError: a complex or boolean tensor.
        ValueError: an empty set, different dimensions or devices, an unknown ``ties``, or ``nearest_k`` out of range.
        MetricError: a value is NaN or infinite.
    """
    real, fake = as_row_pair(real, fake)
    fewest = min(len(real), len(fake))
    expected = f"at least 1 and below the number of rows, {len(real)} real and {len(fake)} fake"
    require(1 <= nearest_k < fewest, "nearest_k", nearest_k, expected)
    require(ties in ("strict", "inclusive"), "ties", ties, '"strict" or "inclusive"')

    counts = {"real": len(real), "fake": len(fake)}
    unit = _power_of_two(real, fake)
    real_points, fake_points = _Points.of(real * unit), _Points.of(fake * unit)
    del real, fake  # up to a gigabyte each
    holds = _count_held(
        real_points,
        fake_points,
        _squared_radii(real_points, nearest_k),
        _squared_radii(fake_points, nearest_k),
        inclusive=ties == "inclusive",
    )
    values = {
        "precision": _share(holds.real_balls_around_fake > 0, fake_points),
        "recall": _share(holds.fake_balls_around_real > 0, real_points),
        "density": float(fake_points.copies @ holds.real_balls_around_fake) / (nearest_k * counts["fake"]),
        "coverage": _share(holds.fakes_in_real_ball > 0, real_points),
    }
    details = {
        "duplicates_real": counts["real"] - len(real_points.rows),
        "duplicates_fake": counts["fake"] - len(fake_points.rows),
    }
    settings = {"nearest_k": nearest_k, "ties": ties, "extractor": extractor}
    return {
        name: Score(name, value, counts=counts, settings=settings, details=details) for name, value in values.items()
    }


@dataclass(frozen=True)
class _Points:
    """The different rows of a set [U, D] and the number of copies of each [U], in float64, where counts are exact."""

    rows: Tensor
    copies: Tensor

    @classmethod
    def of(cls, rows: Tensor) -> "_Points":
        different, copies = torch.unique(rows, dim=0, return_counts=True)
        return cls(different, copies.to(torch.float64))


@dataclass(frozen=True)
class _Holds:
    """How many balls hold a point, and how many samples a ball holds; copies count."""

    real_balls_around_fake: Tensor  # one number for each different fake
    fake_balls_around_real: Tensor  # for each different real
    fakes_in_real_ball: Tensor  # likewise


def _share(chosen: Tensor, points: _Points) -> float:
    """Share of the samples, copies counted, that are chosen."""
    return float(points.copies @ chosen.to(torch.float64)) / float(points.copies.sum())


def _power_of_two(real: Tensor, fake: Tensor) -> float:
    """The factor that brings the largest value to about 1 without rounding, so that no square overflows."""
    largest = max(float(real.abs().max()), float(fake.abs().max()))
    return 2.0 ** min(1000, -math.frexp(largest)[1])


def _squared_radii(points: _Points, nearest_k: int) -> Tensor:
    """Squared distance [U] of each point to its ``nearest_k``-th nearest other sample, copies counted."""
    rows, copies = points.rows, points.copies
    radii = rows.new_zeros(len(rows))
    if len(rows) == 1:
        return radii
    ranks = nearest_k - (copies - 1)  # the other copies of a point are its nearest samples, at distance 0
    centred = rows - rows.mean(dim=0)
    for part in _parts(len(rows), len(rows)):
        squares, error = _approximate_squares(centred[part], centred)
        squares.diagonal(part.start).fill_(math.inf)  # a point is no neighbour of itself
        # The neighbour sought is no farther than the nearest_k-th least upper bound.
        reach = (squares + error).topk(min(nearest_k, len(rows) - 1), largest=False).values[:, -1:]
        i, j = (squares.sub_(error) <= reach).nonzero(as_tuple=True)
        radii[part] = _weighted_rank(i, _exact_squares(rows[part], rows, i, j), copies[j], ranks[part])
    return radii


def _weighted_rank(groups: Tensor, values: Tensor, weights: Tensor, ranks: Tensor) -> Tensor:
    """In each group, the smallest value at which the weights up to it reach the rank; 0 for a rank of 0 or less.

    Args:
        groups: [P] numbers from 0 to G - 1, each at least once.
        values: [P].
        weights: [P], above 0.
        ranks: [G], at most the weight of the group.
    """
    order = values.argsort()
    order = order[groups[order].argsort(stable=True)]
    groups, values, weights = groups[order], values[order], weights[order]
    sums = weights.cumsum(dim=0)
    sizes = groups.bincount(minlength=len(ranks))
    first = sizes.cumsum(dim=0) - sizes
    reached = sums - (sums - weights)[first][groups] >= ranks[groups]
    found = torch.full_like(ranks, math.inf).scatter_reduce(0, groups, values.masked_fill(~reached, math.inf), "amin")
    return found.masked_fill(ranks <= 0, 0)


def _count_held(
    real: _Points, fake: _Points, real_squared_radii: Tensor, fake_squared_radii: Tensor, *, inclusive: bool
) -> _Holds:
    centre = (real.rows.mean(dim=0) + fake.rows.mean(dim=0)) / 2
    centred_real, centred_fake = real.rows - centre, fake.rows - centre
    real_balls_around_fake = torch.zeros_like(fake.copies)
    fake_balls_around_real, fakes_in_real_ball = [], []
    for part in _parts(len(real.rows), len(fake.rows)):
        some = real.rows[part]
        squares, error = _approximate_squares(centred_real[part], centred_fake)
        within = _within(some, fake.rows, squares, error, real_squared_radii[part, None], inclusive)
        real_balls_around_fake += real.copies[part] @ within
        fakes_in_real_ball.append(within @ fake.copies)
        within = _within(some, fake.rows, squares, error, fake_squared_radii[None, :], inclusive)
        fake_balls_around_real.append(within @ fake.copies)
    return _Holds(real_balls_around_fake, torch.cat(fake_balls_around_real), torch.cat(fakes_in_real_ball))


def _within(a: Tensor, b: Tensor, squares: Tensor, error: Tensor, radii: Tensor, inclusive: bool) -> Tensor:
    """1.0 for each pair of rows whose squared distance is below its limit, or equal to it if inclusive, else 0.0.

    Args:
        a: [A, D].
        b: [B, D].
        squares: [A, B] approximate squared distances.
        error: [A, B] what these may be wrong by.
        radii: [A, 1] or [1, B] squared.
        inclusive: as said.
    """
    gap = squares - radii
    within = (gap < 0).to(gap.dtype)
    i, j = (gap.abs_() <= error).nonzero(as_tuple=True)
    exact, limits = _exact_squares(a, b, i, j), radii.expand_as(gap)[i, j]
    within[i, j] = (exact <= limits if inclusive else exact < limits).to(gap.dtype)
    return within


def _approximate_squares(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Squared distances [A, B] of rows, by a matrix product, and a bound on how far `_exact_squares` may be from them.

    The rows are centred, on one point, as the error grows with their length. A sum of D products in any order is off
    by at most D eps / 2 times the sum of their sizes; there are three such sums and a dozen further roundings, and the
    bound is twice what they add up to.
    """
    a_squares, b_squares = a.square().sum(dim=1)[:, None], b.square().sum(dim=1)[None, :]
    lengths = a_squares + b_squares
    error = lengths * ((2 * a.shape[1] + 32) * torch.finfo(a.dtype).eps)
    return lengths.sub_(a @ b.T, alpha=2), error


def _exact_squares(a: Tensor, b: Tensor, i: Tensor, j: Tensor) -> Tensor:
    """Squared distances [P] between the rows a[i] and b[j], the same bits whichever other pairs are asked for."""
    pairs = max(1, _BLOCK_ELEMENTS // a.shape[1])
    parts = zip(torch.split(i, pairs), torch.split(j, pairs), strict=True)
    return torch.cat([_sum_in_halves((a[m] - b[n]).square_()) for m, n in parts])


def _sum_in_halves(terms: Tensor) -> Tensor:
    """Sum [P, D] over D by adding the second half to the first until one is left: an order that depends on D alone."""
    width = terms.shape[1]
    while width > 1:
        half = (width + 1) // 2
        terms[:, : width - half] += terms[:, half:width]
        width = half
    return terms[:, 0]


def _parts(count: int, width: int) -> list[slice]:
    """Cut ``count`` rows of ``width`` elements into slices of bounded size."""
    step = max(1, _BLOCK_ELEMENTS // width)
    return [slice(start, min(start + step, count)) for start in range(0, count, step)]
