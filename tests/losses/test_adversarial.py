"""Adversarial losses against NumPy, hand-computed numbers and each other."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.special import expit, log_expit
from torch import Tensor

from ganblocks import losses
from ganblocks.losses import AdversarialLoss
from tolerances import for_dtype, named

Array = NDArray[np.float64]

FAMILIES = [
    losses.hinge,
    losses.least_squares,
    losses.minimax,
    losses.non_saturating,
    losses.relativistic,
    losses.wasserstein,
]

ORACLES: dict[str, tuple[Callable[[Array, Array], float], Callable[[Array, Array], float]]] = {
    "hinge": (
        lambda real, fake: np.maximum(0, 1 - real).mean() + np.maximum(0, 1 + fake).mean(),
        lambda real, fake: -fake.mean(),
    ),
    "least_squares": (
        lambda real, fake: ((real - 1) ** 2).mean() / 2 + (fake**2).mean() / 2,
        lambda real, fake: ((fake - 1) ** 2).mean() / 2,
    ),
    "minimax": (
        lambda real, fake: -log_expit(real).mean() - log_expit(-fake).mean(),
        lambda real, fake: log_expit(-fake).mean(),
    ),
    "non_saturating": (
        lambda real, fake: -log_expit(real).mean() - log_expit(-fake).mean(),
        lambda real, fake: -log_expit(fake).mean(),
    ),
    "relativistic": (
        lambda real, fake: -log_expit(real - fake).mean(),
        lambda real, fake: -log_expit(fake - real).mean(),
    ),
    "wasserstein": (lambda real, fake: fake.mean() - real.mean(), lambda real, fake: -fake.mean()),
}

each_family = pytest.mark.parametrize("loss", FAMILIES, ids=lambda loss: loss.name)
logits = st.floats(-1e4, 1e4, allow_subnormal=False)


@each_family
@given(
    pairs=st.lists(st.tuples(logits, logits), min_size=1, max_size=9),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
def test_losses_equal_the_formulas_in_numpy(
    loss: AdversarialLoss, pairs: list[tuple[float, float]], dtype: torch.dtype
) -> None:
    real, fake = torch.tensor(pairs, dtype=dtype).unbind(dim=1)
    discriminator, generator = ORACLES[loss.name]
    real_array, fake_array = real.double().numpy(), fake.double().numpy()
    scale = 1 + max(abs(real_array).max(), abs(fake_array).max())  # means of large logits cancel
    bounds = for_dtype(dtype)
    bounds["atol"] *= scale
    for value, expected in (
        (loss.discriminator_loss(real, fake), discriminator(real_array, fake_array)),
        (loss.generator_loss(real, fake), generator(real_array, fake_array)),
    ):
        assert value.dtype == dtype
        assert value.shape == ()
        torch.testing.assert_close(value.double(), torch.tensor(expected, dtype=torch.float64), **bounds)


def test_losses_at_zero_logits_are_known_numbers() -> None:
    zero = torch.zeros(3, dtype=torch.float64)
    log_two = float(np.log(2))
    expected = {
        "hinge": (2.0, 0.0),
        "least_squares": (0.5, 0.5),
        "minimax": (2 * log_two, -log_two),
        "non_saturating": (2 * log_two, log_two),
        "relativistic": (log_two, log_two),
        "wasserstein": (0.0, 0.0),
    }
    for loss in FAMILIES:
        values = loss.discriminator_loss(zero, zero).item(), loss.generator_loss(zero, zero).item()
        assert values == pytest.approx(expected[loss.name], rel=for_dtype(torch.float64)["rtol"])


@each_family
def test_a_better_discriminator_has_a_smaller_loss_and_a_better_generator_too(loss: AdversarialLoss) -> None:
    low, high = torch.full((4,), -0.5), torch.full((4,), 0.5)
    assert loss.discriminator_loss(high, low) < loss.discriminator_loss(low, high)
    assert loss.generator_loss(low, high) < loss.generator_loss(high, low)


@each_family
def test_losses_pass_gradcheck_to_second_order(loss: AdversarialLoss) -> None:
    real = torch.tensor([0.3, -1.7, 2.1], dtype=torch.float64, requires_grad=True)
    fake = torch.tensor([-0.4, 0.2, -25.0], dtype=torch.float64, requires_grad=True)
    for function in (loss.discriminator_loss, loss.generator_loss):
        assert torch.autograd.gradcheck(function, (real, fake))
        assert torch.autograd.gradgradcheck(function, (real, fake))


@each_family
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_losses_and_gradients_are_finite_at_huge_logits(loss: AdversarialLoss, sign: float) -> None:
    for function in (loss.discriminator_loss, loss.generator_loss):
        real = torch.tensor([1e4, -1e4], requires_grad=True)
        fake = torch.tensor([sign * 1e4, -1e4], requires_grad=True)
        value = function(real, fake)
        gradients = torch.autograd.grad(value, (real, fake), allow_unused=True)
        assert value.isfinite()
        assert all(gradient is None or gradient.isfinite().all() for gradient in gradients)


@pytest.mark.parametrize("logit", [-10.0, -21.0])  # D(G(z)) = 4.5e-5 and 7.6e-10, as at the start of training
def test_minimax_generator_starves_where_the_discriminator_is_sure_and_non_saturating_does_not(logit: float) -> None:
    probability = float(expit(logit))
    gradients = {}
    for loss in (losses.minimax, losses.non_saturating):
        fake = torch.tensor([logit], dtype=torch.float64, requires_grad=True)
        (gradients[loss.name],) = torch.autograd.grad(loss.generator_loss(None, fake), fake)
    # d/df log(1 - sigmoid(f)) = -sigmoid(f); d/df -log sigmoid(f) = sigmoid(f) - 1
    torch.testing.assert_close(gradients["minimax"].item(), -probability, **for_dtype(torch.float64))
    torch.testing.assert_close(gradients["non_saturating"].item(), probability - 1, **for_dtype(torch.float64))


def test_relativistic_pairs_samples_and_so_depends_on_their_order() -> None:
    real, fake = torch.tensor([3.0, -3.0]), torch.tensor([1.0, -1.0])
    loss = losses.relativistic
    assert not torch.isclose(loss.discriminator_loss(real, fake), loss.discriminator_loss(real.flip(0), fake))
    shifted = loss.discriminator_loss(real + 5, fake + 5)
    torch.testing.assert_close(shifted, loss.discriminator_loss(real, fake), **for_dtype(torch.float32))


@each_family
def test_generator_loss_needs_real_logits_only_where_the_formula_has_them(loss: AdversarialLoss) -> None:
    fake = torch.tensor([0.5, -2.0])
    if loss is losses.relativistic:
        with pytest.raises(ValueError, match=r"`real_logits` is None.*relativistic"):
            loss.generator_loss(None, fake)
    else:
        real = torch.tensor([float("nan"), 7.0])  # must not be looked at
        torch.testing.assert_close(loss.generator_loss(None, fake), loss.generator_loss(real, fake), **named("exact"))


@each_family
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_low_precision_logits_are_averaged_in_float32(loss: AdversarialLoss, dtype: torch.dtype) -> None:
    real, fake = (torch.randn(64) * 30).to(dtype), (torch.randn(64) * 30).to(dtype)
    for low, wide in (
        (loss.discriminator_loss(real, fake), loss.discriminator_loss(real.float(), fake.float())),
        (loss.generator_loss(real, fake), loss.generator_loss(real.float(), fake.float())),
    ):
        assert low.dtype == torch.float32
        torch.testing.assert_close(low, wide, **named("exact"))


@each_family
@pytest.mark.parametrize(
    ("real", "fake"),
    [
        (torch.zeros(4), torch.zeros(3)),
        (torch.zeros(4), torch.zeros(1)),
        (torch.zeros(4, 1), torch.zeros(4)),
        (torch.zeros(4), torch.zeros(4, 1)),
        (torch.zeros(4, 1), torch.zeros(4, 1)),
        (torch.zeros(()), torch.zeros(())),
        (torch.zeros(0), torch.zeros(0)),
    ],
    ids=lambda logits: "x".join(map(str, logits.shape)) or "scalar",
)
def test_nothing_is_broadcast_and_every_other_shape_raises(loss: AdversarialLoss, real: Tensor, fake: Tensor) -> None:
    for function in (loss.discriminator_loss, loss.generator_loss):
        with pytest.raises(ValueError, match="_logits` has shape"):
            function(real, fake)


@each_family
def test_logits_that_are_no_floating_point_tensors_raise(loss: AdversarialLoss) -> None:
    good = torch.zeros(2)
    with pytest.raises(TypeError, match=r"`real_logits` has dtype torch.int64"):
        loss.discriminator_loss(torch.zeros(2, dtype=torch.int64), good)
    with pytest.raises(TypeError, match="`fake_logits` is a list"):
        loss.generator_loss(good, [0.0, 0.0])  # type: ignore[arg-type]


def test_losses_are_found_by_name_and_an_unknown_name_lists_them() -> None:
    for loss in FAMILIES:
        assert losses.by_name(loss.name) is loss
        assert getattr(losses, loss.name) is loss
    with pytest.raises(ValueError, match=r"`name` is 'wgan'.*hinge.*minimax.*wasserstein"):
        losses.by_name("wgan")
