"""The inception score: how sure a classifier is of each image, and how much its verdicts differ among them.

Salimans et al. 2016, "Improved Techniques for Training GANs", section 4. It looks at generated images alone.
"""

import math
from itertools import pairwise

import torch
from torch import Tensor

from ganblocks._checks import require, require_rank
from ganblocks.metrics.rows import as_rows
from ganblocks.metrics.score import Score

__all__ = ["inception_score"]


@torch.no_grad()
def inception_score(
    logits: Tensor,
    *,
    splits: int = 10,
    shuffle_seed: int | None = 0,
    extractor: str | None = None,
) -> Score:
    """Compute ``exp(mean_x KL(p(y|x) || p(y)))`` in each of several parts of the images, and average.

    p(y|x) is the softmax of one row of logits and p(y) its mean over the part. The score lies between 1, when all rows
    agree or all are unsure, and the smaller of K and the rows of a part.

    Fewer rows a part give a lower score, so compare only scores of equal counts; ``10`` parts of 5,000 images are the
    custom. Published numbers use the logits of the 2015 Inception network **without** the bias of its last layer.

    Args:
        logits: [N, K] for N images and K classes. Any real dtype; computed in float64.
        splits: parts, between 1 and N. Part i holds the rows from ``floor(i N / splits)`` to ``floor((i + 1) N /
            splits)``: all rows are used, and the sizes differ by one at most.
        shuffle_seed: of the order in which rows are dealt out, drawn on the CPU; None keeps the order as it is, which
            biases the score of images sorted by class. The global random state is neither used nor changed.
        extractor: fingerprint of the network that made the logits, for the settings of the score.

    Returns:
        The mean over the parts, with their standard deviation (divided by ``splits``, not by one less) as the spread.

    Raises:
        TypeError: a complex or boolean tensor.
        ValueError: a wrong shape, no value, or ``splits`` out of range.
        MetricError: a logit is NaN or infinite.
    """
    require_rank(logits, "logits", 2, 2)
    rows = as_rows(logits, "logits")
    count, classes = rows.shape
    require(1 <= splits <= count, "splits", splits, f"at least 1 and at most {count}, the rows of `logits`")
    if shuffle_seed is not None:
        order = torch.randperm(count, generator=torch.Generator().manual_seed(shuffle_seed))
        rows = rows[order.to(rows.device)]
    bounds = [part * count // splits for part in range(splits + 1)]
    scores = torch.stack([_score(rows[start:end]) for start, end in pairwise(bounds)])
    return Score(
        "inception_score",
        float(scores.mean()),
        float(scores.std(correction=0)),
        counts={"fake": count},
        settings={"splits": splits, "shuffle_seed": shuffle_seed, "extractor": extractor},
        details={"classes": classes},
    )


def _score(logits: Tensor) -> Tensor:
    """exp(mean KL) of one part [n, K] in float64, with logarithms throughout: no probability is ever divided by."""
    log_p = logits.log_softmax(dim=1)
    log_mean = log_p.logsumexp(dim=0) - math.log(len(logits))  # [K]
    p = log_p.exp()
    terms = (p * (log_p - log_mean)).masked_fill(p == 0, 0)  # p log p tends to 0 where p underflows
    return terms.sum(dim=1).mean().exp()
