"""The information of codes: against densities written out, and with gradients that reach both networks."""

import math
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.autograd import gradcheck, gradgradcheck
from torch.distributions import Categorical, Normal

from ganblocks.losses.information import categorical_information, gaussian_information
from tolerances import for_dtype, named

FLOAT64 = for_dtype(torch.float64)


def drawn(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def indices(count: int, classes: int, seed: int = 0) -> Tensor:
    return torch.randint(classes, (count,), generator=torch.Generator().manual_seed(seed))


# --- values ---


@given(
    N=st.integers(1, 5),
    K=st.integers(1, 6),
    size=st.sampled_from([1e-3, 1.0, 300.0]),
    dtype=st.sampled_from([torch.float64, torch.float32]),
    seed=st.integers(0, 99),
)
def test_a_categorical_code_has_the_log_probability_written_out(
    N: int, K: int, size: float, dtype: torch.dtype, seed: int
) -> None:
    logits, codes = (size * drawn(N, K, seed=seed)).to(dtype), indices(N, K, seed)
    each = []
    for row, code in zip(logits.double().numpy(), codes.tolist(), strict=True):
        shifted = row - row.max()
        each.append(shifted[code] - math.log(sum(math.exp(value) for value in shifted)))
    result = categorical_information(logits, codes, reduction="none")
    assert result.shape == (N,)
    assert result.dtype == dtype
    np.testing.assert_allclose(result.double().numpy(), np.array(each), **for_dtype(dtype))
    np.testing.assert_allclose(categorical_information(logits, codes).item(), np.mean(each), **for_dtype(dtype))
    one_hot = nn.functional.one_hot(codes, K).to(dtype)
    torch.testing.assert_close(categorical_information(logits, one_hot, reduction="none"), result, **for_dtype(dtype))


@given(
    N=st.integers(1, 5),
    shape=st.lists(st.integers(0, 3), min_size=1, max_size=2).map(tuple),
    dtype=st.sampled_from([torch.float64, torch.float32]),
    seed=st.integers(0, 99),
)
def test_continuous_codes_have_the_log_density_of_torch_distributions(
    N: int, shape: tuple[int, ...], dtype: torch.dtype, seed: int
) -> None:
    mean, log_var, codes = (drawn(N, *shape, seed=3 * seed + i, dtype=dtype) for i in range(3))
    density = Normal(mean.double(), (log_var.double() / 2).exp()).log_prob(codes.double())
    each = density.flatten(1).sum(1)
    result = gaussian_information(mean, log_var, codes, reduction="none")
    assert result.shape == (N,)
    torch.testing.assert_close(result.double(), each, **for_dtype(dtype))
    torch.testing.assert_close(gaussian_information(mean, log_var, codes).double(), each.mean(), **for_dtype(dtype))


def test_by_hand() -> None:
    quarter = torch.log(torch.tensor([[0.25, 0.75]], dtype=torch.float64))
    assert categorical_information(quarter, torch.tensor([0])).item() == pytest.approx(math.log(0.25))
    soft = torch.tensor([[0.5, 0.5]], dtype=torch.float64)
    expected = 0.5 * math.log(0.25) + 0.5 * math.log(0.75)
    assert categorical_information(quarter, soft).item() == pytest.approx(expected)
    # One part 2 off at variance 4, one right at variance 1.
    mean, log_var = torch.tensor([[1.0, 5.0]]), torch.tensor([[math.log(4.0), 0.0]])
    value = gaussian_information(mean, log_var, torch.tensor([[3.0, 5.0]])).item()
    assert value == pytest.approx(-(2 * math.log(2 * math.pi) + math.log(4.0) + 1) / 2)


def test_the_entropy_turns_it_into_a_bound_on_the_information_in_nats() -> None:
    K, codes = 5, indices(6, 5)
    blind = torch.zeros(6, K, dtype=torch.float64)
    knowing = 1e3 * nn.functional.one_hot(codes, K).double()
    bound = partial(categorical_information, codes=codes, entropy=math.log(K))
    torch.testing.assert_close(bound(blind).item(), 0.0, **FLOAT64)  # nothing is known
    torch.testing.assert_close(bound(knowing).item(), math.log(K), **FLOAT64)  # all of H(c) is known
    mean = drawn(6, 2)
    call = partial(gaussian_information, mean, drawn(6, 2, seed=1), drawn(6, 2, seed=2))
    torch.testing.assert_close(call(entropy=0.7) - 0.7, call(), **FLOAT64)
    torch.testing.assert_close(call(entropy=0.7, reduction="none") - 0.7, call(reduction="none"), **FLOAT64)


def test_it_never_exceeds_the_information_that_there_is() -> None:
    """A noisy channel of known mutual information: the bound is reached by its posterior, and by nothing else."""
    channel = torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.3, 0.3, 0.4]], dtype=torch.float64)  # P(x | c)
    joint = channel / 3
    posterior = joint / joint.sum(0)  # P(c | x)
    information = sum(
        joint[c, x].item() * math.log(joint[c, x].item() / (joint[:, x].sum().item() / 3))
        for c in range(3)
        for x in range(3)
    )

    def bound(guess: Tensor) -> float:  # guess [c, x]; every pair (c, x) once, weighted by its probability
        c, x = torch.arange(9) // 3, torch.arange(9) % 3
        each = categorical_information(guess.log()[:, x].T, c, entropy=math.log(3), reduction="none")
        return float((joint[c, x] * each).sum())

    torch.testing.assert_close(bound(posterior), information, **FLOAT64)
    others = torch.softmax(drawn(20, 3, 3, seed=1), dim=1)
    assert all(bound(guess) < information for guess in others)
    assert all(math.isfinite(bound(guess)) for guess in others)
    assert Categorical(probs=torch.ones(3)).entropy().item() == pytest.approx(math.log(3))


# --- gradients ---


class Pair(nn.Module):
    """A generator and a recogniser of three classes and two continuous codes."""

    def __init__(self) -> None:
        super().__init__()
        self.generator = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 5))
        self.recogniser = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 3 + 2 + 2))

    def loss(self, noise: Tensor, classes: Tensor, codes: Tensor) -> Tensor:
        inputs = torch.cat([noise, nn.functional.one_hot(classes, 3).to(noise), codes], dim=1)
        logits, mean, log_var = self.recogniser(self.generator(inputs)).split([3, 2, 2], dim=1)
        return -categorical_information(logits, classes) - 0.1 * gaussian_information(mean, log_var, codes)


def test_the_gradient_reaches_the_generator_through_the_images_and_the_recogniser() -> None:
    networks = Pair().double()
    batch = drawn(4, 1), indices(4, 3), drawn(4, 2, seed=1)
    networks.loss(*batch).backward()
    step = 1e-6
    for name, parameter in networks.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 1e-4, name
        entry = int(parameter.grad.abs().argmax())
        flat = parameter.data.view(-1)
        original = flat[entry].item()
        values = []
        for moved in (original + step, original - step):
            flat[entry] = moved
            values.append(networks.loss(*batch).item())
        flat[entry] = original
        difference = (values[0] - values[1]) / (2 * step)
        torch.testing.assert_close(parameter.grad.view(-1)[entry].item(), difference, **named("finite_difference"))


def test_descent_on_its_negative_makes_the_code_readable() -> None:
    networks = Pair()
    noise, classes, codes = drawn(32, 1, dtype=torch.float32), indices(32, 3), drawn(32, 2, seed=1, dtype=torch.float32)
    optimizer = torch.optim.Adam(networks.parameters(), 0.02)
    first = networks.loss(noise, classes, codes).item()
    for _ in range(60):
        optimizer.zero_grad()
        networks.loss(noise, classes, codes).backward()
        optimizer.step()
    assert networks.loss(noise, classes, codes).item() < first / 2


def test_codes_that_are_learnt_have_a_gradient_too() -> None:
    codes = drawn(3, 2).requires_grad_()
    gaussian_information(torch.zeros(3, 2), torch.zeros(3, 2), codes).backward()
    torch.testing.assert_close(codes.grad, -codes.detach() / 3, **FLOAT64)


def test_they_are_differentiable_twice() -> None:
    logits, codes = drawn(3, 4).requires_grad_(), indices(3, 4)
    by_index = partial(categorical_information, codes=codes, reduction="none")
    assert gradcheck(by_index, (logits,))
    assert gradgradcheck(by_index, (logits,))
    soft = torch.softmax(drawn(3, 4, seed=1), 1).requires_grad_()
    by_probability = partial(categorical_information, reduction="none")
    assert gradcheck(by_probability, (logits, soft))
    assert gradgradcheck(by_probability, (logits, soft))
    inputs = tuple(drawn(3, 2, seed=seed).requires_grad_() for seed in range(3))
    assert gradcheck(partial(gaussian_information, reduction="none"), inputs)
    assert gradgradcheck(partial(gaussian_information, reduction="none"), inputs)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_low_precision_is_computed_in_float32(dtype: torch.dtype) -> None:
    logits, mean, log_var, codes = (drawn(4, 50, seed=seed, dtype=dtype) for seed in range(4))
    result = categorical_information(logits, indices(4, 50))
    assert result.dtype == torch.float32
    torch.testing.assert_close(result, categorical_information(logits.float(), indices(4, 50)), **named("exact"))
    result = gaussian_information(mean, log_var, codes)
    assert result.dtype == torch.float32
    wide = gaussian_information(mean.float(), log_var.float(), codes.float())
    torch.testing.assert_close(result, wide, **named("exact"))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64])
def test_indices_of_every_integer_type(dtype: torch.dtype) -> None:
    logits, codes = drawn(4, 3), indices(4, 3)
    expected = categorical_information(logits, codes)
    torch.testing.assert_close(categorical_information(logits, codes.to(dtype)), expected, **named("exact"))


# --- what does not fit ---


def test_wrong_categorical_codes_are_told() -> None:
    logits = drawn(3, 4)
    with pytest.raises(ValueError, match=r"`codes` is 4, but must be from 0 to 3"):
        categorical_information(logits, torch.tensor([0, 4, 1]))
    for ignored in (-1, -100):  # some losses leave out -100 without a word
        with pytest.raises(ValueError, match=rf"`codes` is {ignored}, but must be from 0 to 3"):
            categorical_information(logits, torch.tensor([0, 3, ignored]))
    with pytest.raises(ValueError, match=r"`codes` is \(2,\).*\[3\], one index an image"):
        categorical_information(logits, torch.tensor([0, 1]))
    with pytest.raises(ValueError, match=r"`codes` is \(3, 4\)"):
        categorical_information(logits, torch.zeros(3, 4, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"`logits` has shape \(3, 4\) and `codes` has shape \(3,\)"):
        categorical_information(logits, torch.zeros(3))
    with pytest.raises(TypeError, match=r"`codes` is torch.bool"):
        categorical_information(logits, torch.zeros(3, dtype=torch.bool))
    with pytest.raises(TypeError, match=r"`codes` is a list"):
        categorical_information(logits, [0, 1, 2])  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"`logits` is torch.int64"):
        categorical_information(torch.zeros(3, 4, dtype=torch.int64), indices(3, 4))
    with pytest.raises(ValueError, match=r"`logits` has shape \(3, 4, 1\)"):
        categorical_information(logits[..., None], indices(3, 4))


def test_wrong_continuous_codes_are_told() -> None:
    mean = drawn(3, 2)
    for position, name in ((1, "log_var"), (2, "codes")):
        arguments = [mean, mean, mean]
        arguments[position] = mean[:, :1]
        with pytest.raises(ValueError, match=rf"`mean` has shape \(3, 2\) and `{name}` has shape \(3, 1\)"):
            gaussian_information(*arguments)
        arguments[position] = mean.long()
        with pytest.raises(TypeError, match=rf"`{name}` is torch.int64"):
            gaussian_information(*arguments)
    with pytest.raises(ValueError, match=r"`mean` has shape \(3,\)"):
        gaussian_information(mean[:, 0], mean[:, 0], mean[:, 0])
    with pytest.raises(TypeError, match=r"`log_var` is a float"):
        gaussian_information(mean, 0.0, mean)  # type: ignore[arg-type]


def test_no_image_has_no_mean_and_reductions_are_known() -> None:
    empty, none = drawn(0, 3), indices(0, 3)
    assert categorical_information(empty, none, reduction="none").shape == (0,)
    assert gaussian_information(empty, empty, empty, reduction="none").shape == (0,)
    with pytest.raises(ValueError, match="of at least one image"):
        categorical_information(empty, none)
    with pytest.raises(ValueError, match="of at least one image"):
        gaussian_information(empty, empty, empty)
    for call in (
        partial(categorical_information, drawn(2, 3), indices(2, 3)),
        partial(gaussian_information, empty, empty, empty),
    ):
        with pytest.raises(ValueError, match="`reduction` is 'sum'"):
            call(reduction="sum")  # type: ignore[arg-type]
