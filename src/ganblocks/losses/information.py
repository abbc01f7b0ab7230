"""How much of a latent code can be read off the image made from it: InfoGAN's bound on the mutual information.

The generator is given a code c besides its noise, and a recogniser Q guesses the code from the image. The bound
(Chen et al. 2016, equation 5), in nats,

``L_I = E[log Q(c | G(z, c))] + H(c) <= I(c; G(z, c))``

is *maximised* by the generator and the recogniser together: a step adds ``-weight * L_I`` to a loss that both minimise
(equation 6). Each function here is one kind of code; a code of several parts is the sum of its terms. The gradient
reaches Q through its outputs, and the generator through the images that Q looked at.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from ganblocks._checks import require, require_rank, require_same_shape
from ganblocks.losses.reconstruction import Reduction, gaussian

__all__ = ["categorical_information", "gaussian_information"]

_INDICES = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)


def categorical_information(
    logits: Tensor, codes: Tensor, *, entropy: float = 0.0, reduction: Reduction = "mean"
) -> Tensor:
    """The bound for a categorical code: ``log softmax(logits)[code]``, plus the entropy of the code.

    Never above ``entropy``, which it reaches where Q is sure and right.

    Args:
        logits: ``[N, K]``, floating-point: what Q says of each image, no softmax applied.
        codes: What the images were made from: class indices ``[N]``, integers from 0 to K - 1, or probabilities
            ``[N, K]``, floating-point (one-hot as a rule). Indices are looked at on a CPU only; elsewhere it would make
            the host wait.
        entropy: H(c), a constant in nats: ``log(K)`` for equally likely classes. 0 leaves it out, which changes no
            gradient.
        reduction: ``"mean"`` over the images, or ``"none"``.

    Returns:
        A scalar, or ``[N]``; at least float32. Twice differentiable in ``logits`` and in probabilities.

    Raises:
        TypeError: The logits are not floating-point, or the codes neither that nor integers.
        ValueError: The shapes do not fit, an index is out of range, there is no image to take the mean of, or the
            reduction is unknown.
    """
    require_rank(logits, "logits", 2, 2)
    require(logits.is_floating_point(), "logits", logits.dtype, "a floating-point tensor", TypeError)
    log_probabilities = F.log_softmax(logits.to(torch.promote_types(logits.dtype, torch.float32)), dim=1)  # [N, K]
    return _reduced(_chosen(log_probabilities, codes), entropy, reduction)


def gaussian_information(
    mean: Tensor, log_var: Tensor, codes: Tensor, *, entropy: float = 0.0, reduction: Reduction = "mean"
) -> Tensor:
    """The bound for continuous codes: ``log N(codes; mean, exp(log_var))``, plus the entropy of the codes.

    ``-1/2 sum(log(2 pi) + log_var + (codes - mean)^2 exp(-log_var))`` over all dimensions but the first: Q is a
    Gaussian with independent components (Chen et al. 2016, section 6). It has no upper limit: where Q comes close to
    the codes, log_var falls with the squared error. ``torch.zeros_like(mean)`` as ``log_var`` keeps the variance at 1.

    Args:
        mean: ``[N, Z]``, or ``[N, ...]``, floating-point: Q's guess.
        log_var: Logarithm of Q's variance, not of the standard deviation; the shape of ``mean``.
        codes: What the images were made from; the shape of ``mean``.
        entropy: H(c), a constant in nats: ``Z * log(b - a)`` for codes uniform on [a, b]. 0 leaves it out, which
            changes no gradient.
        reduction: ``"mean"`` over the images, or ``"none"``.

    Returns:
        A scalar, or ``[N]``; at least float32. Twice differentiable in all three.

    Raises:
        TypeError: An argument is no floating-point tensor.
        ValueError: The shapes differ, there is no image to take the mean of, or the reduction is unknown.
    """
    require_rank(mean, "mean", 2)
    for tensor, argument in ((log_var, "log_var"), (codes, "codes")):
        require_rank(tensor, argument, 2)
        require_same_shape(mean, tensor, "mean", argument)
    for tensor, argument in ((mean, "mean"), (log_var, "log_var"), (codes, "codes")):
        require(tensor.is_floating_point(), argument, tensor.dtype, "a floating-point tensor", TypeError)
    return _reduced(-gaussian(mean, codes, log_var=log_var, reduction="none"), entropy, reduction)


def _chosen(log_probabilities: Tensor, codes: Tensor) -> Tensor:
    """The log-probability of each code, ``[N]``."""
    N, K = log_probabilities.shape
    require_rank(codes, "codes", 1, 2)
    if codes.is_floating_point():
        require_same_shape(log_probabilities, codes, "logits", "codes")
        return (codes * log_probabilities).sum(1)
    require(codes.dtype in _INDICES, "codes", codes.dtype, "integers, or floating-point probabilities", TypeError)
    require(codes.shape == (N,), "codes", tuple(codes.shape), f"[{N}], one index an image")
    if codes.device.type == "cpu" and N and not torch.compiler.is_compiling():
        lowest, highest = int(codes.min()), int(codes.max())
        wrong = lowest if lowest < 0 else highest
        require(0 <= wrong < K, "codes", wrong, f"from 0 to {K - 1}, as there are {K} logits an image")
    return log_probabilities.gather(1, codes.to(log_probabilities.device, torch.int64)[:, None])[:, 0]


def _reduced(values: Tensor, entropy: float, reduction: Reduction) -> Tensor:
    require(reduction in ("mean", "none"), "reduction", reduction, "'mean' or 'none'")
    values = values + entropy
    if reduction == "none":
        return values
    require(len(values) >= 1, "codes", tuple(values.shape), "of at least one image, for a mean")
    return values.mean()
