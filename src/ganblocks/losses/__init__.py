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
from ganblocks.losses.divergence import free_bits, kl_divergence, monte_carlo_kl
from ganblocks.losses.dragan import dragan_penalty
from ganblocks.losses.information import categorical_information, gaussian_information
from ganblocks.losses.penalties import (
    drift_penalty,
    gradient_penalty,
    input_gradients,
    r1_penalty,
    r2_penalty,
)
from ganblocks.losses.perceptual import content_loss, style_loss, total_variation
from ganblocks.losses.reconstruction import bernoulli, gaussian, squared_error
from ganblocks.losses.regularization import LeCam, consistency

__all__ = [
    "AdversarialLoss",
    "LeCam",
    "bernoulli",
    "by_name",
    "categorical_information",
    "consistency",
    "content_loss",
    "dragan_penalty",
    "drift_penalty",
    "free_bits",
    "gaussian",
    "gaussian_information",
    "gradient_penalty",
    "hinge",
    "input_gradients",
    "kl_divergence",
    "least_squares",
    "minimax",
    "monte_carlo_kl",
    "non_saturating",
    "r1_penalty",
    "r2_penalty",
    "relativistic",
    "squared_error",
    "style_loss",
    "total_variation",
    "wasserstein",
]
