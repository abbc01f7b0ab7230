"""The most similar images of a collection, by the angle between feature vectors, and how many of them fit."""

import torch
from torch import Tensor

from ganblocks._checks import require, require_rank
from ganblocks.metrics.rows import as_rows
from ganblocks.metrics.score import Score

__all__ = ["most_similar", "precision_at_k"]

_ROWS = 512  # queries compared at a time


@torch.no_grad()
def most_similar(queries: Tensor, references: Tensor | None = None, *, count: int = 5) -> tuple[Tensor, Tensor]:
    """Find the references whose features point in nearly the same direction as those of each query.

    The cosine of the angle does not depend on the lengths of the vectors, which in a classifier say how sure it is
    rather than what it sees. A vector of zeros has no direction; its cosine with every other is 0 here.

    Args:
        queries: [N, ...] features, each sample flattened. Any real dtype.
        references: [M, ...] with as many values a sample, on the same device. ``None``: the queries themselves, among
            which none is its own neighbour.
        count: Neighbours of each query, 1 to M (without ``references`` 1 to N - 1).

    Returns:
        Cosines [N, count] in float64, descending, -1 to 1, and the indices [N, count] (int64) of the references, of
        which equal ones come in their order. Each reference is there at most once for a query.

    Raises:
        TypeError: Not tensors of real numbers.
        ValueError: An empty set, different sizes of samples, different devices, or ``count`` out of range.
        MetricError: A value is NaN or infinite.
    """
    among_themselves = references is None
    rows = _directions(queries, "queries")
    others = rows if references is None else _directions(references, "references")
    same = rows.shape[1] == others.shape[1]
    require(same, "references", f"samples of {others.shape[1]} values", f"of {rows.shape[1]}, as the queries")
    require(rows.device == others.device, "references.device", str(others.device), f"{rows.device}, as the queries")
    most = len(others) - among_themselves
    require(1 <= count <= most, "count", count, f"1 to {most}, the number of references")
    found = []
    for start in range(0, len(rows), _ROWS):
        cosines = rows[start : start + _ROWS] @ others.T
        if among_themselves:
            own = torch.arange(len(cosines), device=rows.device)
            cosines[own, start + own] = -torch.inf
        cosines, order = cosines.sort(dim=1, descending=True, stable=True)
        found.append((cosines[:, :count].clamp(-1, 1), order[:, :count]))
    return torch.cat([cosines for cosines, _ in found]), torch.cat([order for _, order in found])


def precision_at_k(labels: Tensor, found: Tensor) -> Score:
    """The share of the images that were found which have a label of the image they were found for.

    Args:
        labels: Of the queries: class indices [N]; or bool [N, A], one column an attribute, where images fit that have
            an attribute in common.
        found: Of the k images found for each query, in the same form: [N, k], or [N, k, A].

    Returns:
        "precision_at_k": the mean over the queries of the share that fits, 0 to 1. Details: ``at_1`` to ``at_k``, the
        same of the first ones alone, and ``any``, the share of the queries for which at least one fits.

    Raises:
        TypeError: Labels neither whole numbers nor bool, or two different kinds.
        ValueError: An empty set, or shapes that do not fit.

    Source:
        Manning, Raghavan and Schütze 2008, "Introduction to Information Retrieval", section 8.4 (precision at k).
    """
    attributes = labels.dtype == torch.bool
    whole = not (attributes or labels.is_floating_point() or labels.is_complex())
    require(attributes or whole, "labels.dtype", labels.dtype, "whole numbers or bool", TypeError)
    alike = (found.dtype == torch.bool) == attributes and not (found.is_floating_point() or found.is_complex())
    require(alike, "found.dtype", found.dtype, f"{'bool' if attributes else 'whole numbers'}, as `labels`", TypeError)
    require_rank(labels, "labels", 1 + attributes, 1 + attributes)
    require_rank(found, "found", 2 + attributes, 2 + attributes)
    N, k = tuple(found.shape[:2])
    fits = tuple(found.shape) == (len(labels), k, *labels.shape[1:]) and N > 0 and k > 0
    require(fits, "found", tuple(found.shape), f"[N, k, ...] for labels {tuple(labels.shape)}, N and k at least 1")
    relevant = (found & labels[:, None]).any(2) if attributes else found == labels[:, None]
    shares = relevant.double().cumsum(1).mean(0) / torch.arange(1, k + 1, device=relevant.device)
    return Score(
        "precision_at_k",
        float(shares[-1]),
        counts={"queries": N},
        settings={"k": k, "labels": "attributes" if attributes else "classes"},
        details={
            **{f"at_{place}": float(share) for place, share in enumerate(shares, start=1)},
            "any": float(relevant.any(1).double().mean()),
        },
    )


def _directions(samples: Tensor, name: str) -> Tensor:
    """Rows of length 1, or 0, in float64."""
    rows = as_rows(samples, name)
    rows = rows / rows.abs().amax(1, keepdim=True).clamp(min=torch.finfo(rows.dtype).tiny)  # squares stay in range
    lengths = rows.square().sum(1, keepdim=True).sqrt()
    return rows / torch.where(lengths > 0, lengths, 1.0)
