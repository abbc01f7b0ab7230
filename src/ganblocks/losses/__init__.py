"""What networks minimise: adversarial games and the penalties that keep them in order."""

from ganblocks.losses.adversarial import (
    AdversarialLoss,
    by_name,
    hinge,
    least_squares,
    minimax,
    non_saturating,
    relativistic,
    wasserstein,
)
from ganblocks.losses.penalties import (
    drift_penalty,
    gradient_penalty,
    input_gradients,
    r1_penalty,
    r2_penalty,
)

__all__ = [
    "AdversarialLoss",
    "by_name",
    "drift_penalty",
    "gradient_penalty",
    "hinge",
    "input_gradients",
    "least_squares",
    "minimax",
    "non_saturating",
    "r1_penalty",
    "r2_penalty",
    "relativistic",
    "wasserstein",
]
