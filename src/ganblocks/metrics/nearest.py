"""Nearest neighbours, exactly, and whether generated images lie too near to the images trained on.

The test for copying is that of Meehan, Chaudhuri and Dasgupta 2020, "A non-parametric test to detect data-copying in
generative models", in its global form (without cells).
"""

import math

import numpy as np
import torch
from torch import Tensor

from ganblocks._checks import require, require_rank
from ganblocks.errors import MetricError
from ganblocks.metrics.rows import as_rows
from ganblocks.metrics.score import Score

__all__ = ["memorisation", "nearest_neighbors"]

_BLOCK_ELEMENTS = 2**23  # values held at a time: 64 MB in float64
_LARGEST_CHUNK = 2048
_NEAR_QUANTILE = 0.01


def nearest_neighbors(
    queries: Tensor, references: Tensor, *, count: int = 1, chunk: int | None = None
) -> tuple[Tensor, Tensor]:
    """Find the nearest references of each query by Euclidean distance, exactly.

    A matrix product in float64 gives every squared distance with a bound of its rounding error; all references which
    that bound cannot rule out are then measured by the root of the sum of squared differences. So the result is that of
    measuring all pairs, equal samples have distance exactly 0, and equal distances go to the lower index.

    Args:
        queries: [N, ...] with N >= 1: images or features; each sample is flattened. Any real dtype.
        references: [M, ...] with as many values a sample, on the device of ``queries``. Both are bytes or neither is:
            bytes and values in [-1, 1] do not compare.
        count: Neighbours of each query, from 1 to M.
        chunk: Rows of either set that are compared at a time; ``None`` keeps them below 64 MB, at most 2048. It changes
            the memory needed, not the result beyond rounding. Besides a few chunks and tables of their pairs, nothing
            but the result is held.

    Returns:
        Distances [N, count] in float64, ascending, in the unit of the samples, and the indices [N, count] (int64) of
        the references.

    Raises:
        TypeError: Not tensors of real numbers, or bytes against other numbers.
        ValueError: An empty set, different sizes of samples, or an option out of range.
        MetricError: A value is NaN or infinite, or so large that its square is.
    """
    return _search(queries, references, count, chunk, ("queries", "references"))


def memorisation(
    fake: Tensor, train: Tensor, held_out: Tensor, *, extractor: str | None = None, chunk: int | None = None
) -> Score:
    """Test whether generated images lie nearer to the training set than other real images do.

    With d(x) the distance of x to its nearest training sample, the value is the z-score of the Mann-Whitney statistic U
    of d(fake) against d(held_out), ties counted half: ``(U - m n / 2) / std``, where the variance is
    ``m n (m + n + 1) / 12``, less the usual correction for ties. If fakes and held-out samples follow one law, it is
    standard normal. **Below about -3 the fakes are copies or near-copies of training samples; far above 0 they lie far
    from the data.** It grows with the root of the counts: compare scores of equal counts. Held-out samples must come
    from the law of the training samples. Below some 20 samples of either kind the normal law is a rough guide.

    Args:
        fake: [N, ...] images or features.
        train: [M, ...] what the model was trained on: all of it, or the copies of the rest go unseen.
        held_out: [K, ...] real samples that the model has not seen.
        extractor: The fingerprint of what made the features; ``None`` = pixels, or unknown.
        chunk: See `nearest_neighbors`.

    Returns:
        "memorisation". Details: ``p_value`` of copying (one-sided); ``fake_median`` and ``held_out_median`` of the
        distances; ``share_near``, the fakes nearer than the 1 % quantile of the held-out distances (0.01 expected
        without copying, given 99 held-out samples); ``share_nearer_train``, the fakes nearer to a training sample than
        to any held-out one, of as many of each (evenly spaced in the larger set; equal distances count half): 0.5
        expected without copying, however far from the data the fakes lie; ``exact_copies``, the fakes at distance 0,
        and ``held_out_copies``, the same of the held-out samples: doubles between the real sets, which weaken the test.

    Raises:
        TypeError: As `nearest_neighbors`.
        ValueError: As `nearest_neighbors`.
        MetricError: As `nearest_neighbors`.

    Source:
        Meehan, Chaudhuri and Dasgupta 2020 (the statistic Z_U); ties as in Lehmann 1975, chapter 1.
    """
    near_fake, near_held_out = (
        _nearest(samples, train, chunk, (name, "train")) for samples, name in ((fake, "fake"), (held_out, "held_out"))
    )
    z = _rank_z_score(near_fake, near_held_out)
    size = min(len(train), len(held_out))
    to_train = near_fake if len(train) == size else _nearest(fake, _evenly(train, size), chunk, ("fake", "train"))
    to_held_out = _nearest(fake, _evenly(held_out, size), chunk, ("fake", "held_out"))
    nearer = np.where(to_train == to_held_out, 0.5, to_train < to_held_out)
    # The quantile whose expected rank is exact: a new draw lies below it with probability 0.01.
    threshold = np.quantile(near_held_out, _NEAR_QUANTILE, method="weibull")
    return Score(
        "memorisation",
        z,
        counts={"train": len(train), "held_out": len(held_out), "fake": len(fake)},
        settings={"extractor": extractor, "distance": "euclidean", "near_quantile": _NEAR_QUANTILE},
        details={
            "p_value": math.erfc(-z / math.sqrt(2)) / 2,  # of the normal distribution, from below
            "fake_median": float(np.median(near_fake)),
            "held_out_median": float(np.median(near_held_out)),
            "share_near": float((near_fake < threshold).mean()),
            "share_nearer_train": float(nearer.mean()),
            "exact_copies": int((near_fake == 0).sum()),
            "held_out_copies": int((near_held_out == 0).sum()),
        },
    )


@torch.no_grad()
def _search(
    queries: Tensor, references: Tensor, count: int, chunk: int | None, names: tuple[str, str]
) -> tuple[Tensor, Tensor]:
    """`nearest_neighbors`, with the names of both sets for the messages."""
    dimension = _require_comparable(queries, references, *names)
    require(1 <= count <= len(references), "count", count, f"from 1 to {len(references)}, the number of references")
    require(chunk is None or chunk >= 1, "chunk", chunk, "None or at least 1")
    chunk = chunk or min(_LARGEST_CHUNK, max(1, _BLOCK_ELEMENTS // dimension))
    found = [_search_chunk(part, references, count, chunk, names) for part in torch.split(queries, chunk)]
    return torch.cat([squared for squared, _ in found]).sqrt(), torch.cat([indices for _, indices in found])


def _nearest(queries: Tensor, references: Tensor, chunk: int | None, names: tuple[str, str]) -> np.ndarray:
    """Distance [N] of each query to its nearest reference."""
    return _search(queries, references, 1, chunk, names)[0].flatten().cpu().numpy()


def _search_chunk(
    queries: Tensor, references: Tensor, count: int, chunk: int, names: tuple[str, str]
) -> tuple[Tensor, Tensor]:
    """Squared distances and indices for one chunk of queries [n, ...], walking over the references chunk by chunk."""
    rows = as_rows(queries, names[0])  # [n, D]
    squares = _squares(rows, names[0])
    best = rows.new_full((len(rows), count), math.inf)
    best_index = torch.full((len(rows), count), -1, device=rows.device)
    # 4 (D + 4) eps bounds the rounding of the product, of both squares and of the direct measurement, twice over.
    relative_error = 4 * (rows.shape[1] + 4) * torch.finfo(rows.dtype).eps
    for start in range(0, len(references), chunk):
        others = as_rows(references[start : start + chunk], names[1])  # [m, D]
        total = squares[:, None] + _squares(others, names[1])  # [n, m]
        estimate, error = total - 2 * (rows @ others.T), relative_error * total
        # An upper bound of the squared distance to the last neighbour that can still be in the result.
        highest = torch.cat([best, estimate + error], dim=1).kthvalue(count, dim=1, keepdim=True).values
        slack = relative_error * torch.where(highest.isfinite(), highest, 0.0)
        query, other = (estimate - error <= highest + slack).nonzero(as_tuple=True)  # by query, then by index
        measured = _measured(rows, others, query, other)

        # The candidates of each query side by side, after the neighbours so far, whose indices are all lower.
        numbers = query.bincount(minlength=len(rows))
        column = count + torch.arange(len(query), device=rows.device) - (numbers.cumsum(0) - numbers)[query]
        width = count + int(numbers.max())
        merged = rows.new_full((len(rows), width), math.inf)
        merged_index = torch.full((len(rows), width), -1, device=rows.device)
        merged[:, :count], merged_index[:, :count] = best, best_index
        merged[query, column], merged_index[query, column] = measured, start + other
        merged, order = merged.sort(dim=1, stable=True)
        best, best_index = merged[:, :count], merged_index.gather(1, order)[:, :count]
    return best.contiguous(), best_index.contiguous()


def _measured(rows: Tensor, others: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """Squared distances between the rows of the pairs (first, second): sums of squared differences, [P]."""
    length = max(1, _BLOCK_ELEMENTS // rows.shape[1])
    parts = [
        (rows[i] - others[j]).square().sum(1)
        for i, j in zip(torch.split(first, length), torch.split(second, length), strict=True)
    ]
    return torch.cat(parts)


def _squares(rows: Tensor, name: str) -> Tensor:
    """Squared lengths [n], small enough that twice the sum of two of them is finite."""
    squares = rows.square().sum(1)
    if not bool((squares < torch.finfo(rows.dtype).max / 8).all()):
        raise MetricError(f"`{name}` holds values too large for distances in float64, up to {float(rows.abs().max())}")
    return squares


def _evenly(samples: Tensor, count: int) -> Tensor:
    """So many of the samples, evenly spaced, as a set may be sorted by class."""
    if len(samples) == count:
        return samples  # not a copy
    return samples[torch.arange(count, device=samples.device) * len(samples) // count]


def _rank_z_score(first: np.ndarray, second: np.ndarray) -> float:
    """Standard deviations between the Mann-Whitney U of two samples and its mean; negative if the first is lower."""
    m, n = len(first), len(second)
    total = m + n
    _, places, counts = np.unique(np.concatenate([first, second]), return_inverse=True, return_counts=True)
    ranks = np.cumsum(counts) - (counts - 1) / 2  # of each value; those that are equal share the mean of theirs
    u = ranks[places[:m]].sum() - m * (m + 1) / 2
    ties = counts.astype(np.float64)
    variance = m * n / 12 * (total + 1 - (ties**3 - ties).sum() / (total * (total - 1)))
    return float((u - m * n / 2) / math.sqrt(variance)) if len(ties) > 1 else 0.0


def _require_comparable(first: Tensor, second: Tensor, first_name: str, second_name: str) -> int:
    """Check shapes and kinds of two sets; the number of values of a sample."""
    for samples, name in ((first, first_name), (second, second_name)):
        require_rank(samples, name, 1)
        require(samples.numel() > 0, f"{name}.shape", tuple(samples.shape), "at least one sample of at least one value")
    dimension = second[0].numel()
    same = first[0].numel() == dimension
    require(same, first_name, tuple(first.shape), f"samples of {dimension} values, as those of `{second_name}`")
    alike = (first.dtype == torch.uint8) == (second.dtype == torch.uint8)
    expected = "uint8" if second.dtype == torch.uint8 else "not uint8"
    require(alike, f"{first_name}.dtype", first.dtype, f"{expected}, as `{second_name}`", TypeError)
    return dimension
