"""Spectral normalisation against NumPy's singular values and PyTorch's own parametrization."""

import copy
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.autograd import gradcheck, gradgradcheck
from torch.nn.utils import parametrizations, parametrize

from ganblocks.layers.attention import SelfAttention
from ganblocks.layers.conv import Conv2d, ConvTranspose2d, swap_convolutions
from ganblocks.layers.initialization import initialize
from ganblocks.layers.projection import ProjectionHead
from ganblocks.layers.same_padding import SameConv2d
from ganblocks.layers.spectral_norm import SpectralNorm, spectral_norm
from ganblocks.layers.weight_scale import WSConv2d, WSConvTranspose2d, WSLinear
from ganblocks.losses.penalties import gradient_penalty, r1_penalty
from ganblocks.training.ema import ExponentialMovingAverage
from ganblocks.training.weights import load_weights, plain_weights
from tolerances import for_dtype, named

FLOAT64 = for_dtype(torch.float64)
LAYERS: list[tuple[type[nn.Module], tuple[Any, ...], dict[str, Any], int]] = [
    (nn.Linear, (5, 3), {}, 0),
    (nn.Conv2d, (4, 6, 3), {"groups": 2, "bias": False}, 0),
    (Conv2d, (3, 5, (1, 2)), {}, 0),
    (SameConv2d, (2, 3, 3), {"stride": 2}, 0),
    (nn.ConvTranspose2d, (4, 6, 3), {"groups": 2}, 1),
    (ConvTranspose2d, (3, 2, 4), {}, 1),
    (nn.Conv1d, (2, 3, 3), {}, 0),
]
each_layer = pytest.mark.parametrize(
    ("kind", "sizes", "options", "dim"), LAYERS, ids=lambda x: getattr(x, "__name__", "")
)


def critic(dtype: torch.dtype = torch.float64) -> nn.Sequential:
    """Images [N, 2, 4, 4] to scores [N], smooth."""
    parts = (
        Conv2d(2, 3, 3, padding=1),
        nn.Tanh(),
        nn.Flatten(),
        nn.Linear(48, 4),
        nn.Tanh(),
        nn.Linear(4, 1),
        nn.Flatten(0),
    )
    return nn.Sequential(*parts).to(dtype)


def images(count: int = 2, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(count, 2, 4, 4, generator=torch.Generator().manual_seed(7), dtype=torch.float64).to(dtype)


def norm_of(layer: nn.Module) -> SpectralNorm:
    norm = layer.parametrizations.weight[0]  # type: ignore[union-attr, index]
    assert isinstance(norm, SpectralNorm)
    return norm


def original(layer: nn.Module) -> Tensor:
    return layer.parametrizations.weight.original  # type: ignore[union-attr, return-value]


def largest(weight: Tensor, dim: int = 0) -> float:
    """The largest singular value of a weight as a matrix, by NumPy."""
    matrix = np.moveaxis(weight.detach().double().numpy(), dim, 0)
    return float(np.linalg.svd(matrix.reshape(len(matrix), -1), compute_uv=False)[0])


def settle(network: nn.Module, steps: int = 300) -> None:
    """Iterate, in one use, until the vectors are the singular ones."""
    norms = [(module, module.iterations) for module in network.modules() if isinstance(module, SpectralNorm)]
    for norm, _ in norms:
        norm.iterations = steps
    for module in network.modules():
        if parametrize.is_parametrized(module):
            module.weight  # noqa: B018
    for norm, iterations in norms:
        norm.iterations = iterations


# --- what it computes ---


@each_layer
def test_the_weight_is_divided_by_its_largest_singular_value(
    kind: type[nn.Module], sizes: tuple[Any, ...], options: dict[str, Any], dim: int
) -> None:
    layer = kind(*sizes, **options, dtype=torch.float64)
    plain = layer.weight.detach().clone()  # type: ignore[operator]
    assert spectral_norm(layer) is layer
    settle(layer, 2000)
    expected = plain / largest(plain, dim)
    torch.testing.assert_close(layer.weight.detach(), expected, **FLOAT64)  # type: ignore[operator]
    assert torch.equal(original(layer).detach(), plain)


@given(
    rows=st.integers(1, 6), columns=st.integers(1, 6), size=st.sampled_from([1e-6, 1.0, 1e6]), seed=st.integers(0, 99)
)
def test_any_matrix_of_any_size_gets_a_singular_value_of_1(rows: int, columns: int, size: float, seed: int) -> None:
    torch.manual_seed(seed)
    layer = nn.Linear(columns, rows, dtype=torch.float64)
    nn.init.normal_(layer.weight, std=size)
    settle(spectral_norm(layer), 1000)
    # Two values close to each other take long to be told apart; the quotient is then near 1 all the same.
    np.testing.assert_allclose(largest(layer.weight), 1.0, **named("sampled sigma"))


@pytest.mark.parametrize("iterations", [1, 3])
def test_values_gradients_and_names_are_those_of_pytorch(iterations: int) -> None:
    ours, theirs = spectral_norm(critic(), iterations=iterations), critic()
    for layer in theirs:
        if isinstance(layer, nn.Conv2d | nn.Linear):
            parametrizations.spectral_norm(layer, n_power_iterations=iterations)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    torch.manual_seed(1)
    for parameter in theirs.parameters():
        nn.init.normal_(parameter)
    load_weights(ours, plain_weights(theirs))
    x = images()
    for _ in range(3):
        results = []
        for network in (ours, theirs):
            value = network(x).square().sum() + r1_penalty(network, x)
            results.append([value, *torch.autograd.grad(value, list(network.parameters()), allow_unused=True)])
        torch.testing.assert_close(*results, **FLOAT64)
    torch.testing.assert_close(plain_weights(ours), plain_weights(theirs), **FLOAT64)


def test_only_the_weights_of_convolutions_and_linear_layers_change() -> None:
    network = nn.Sequential(Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.Embedding(4, 5), nn.LayerNorm(3))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    after = spectral_norm(network).state_dict()
    added = {f"0.parametrizations.weight.{name}" for name in ("original", "0._u", "0._v")}
    assert after.keys() - before.keys() == added
    assert before.keys() - after.keys() == {"0.weight"}
    assert all(torch.equal(before[name], after[name]) for name in before.keys() & after.keys())


def test_attention_and_projection_are_reached() -> None:
    attention, head = spectral_norm(SelfAttention(8).double()), spectral_norm(ProjectionHead(5, 3).double())
    settle(attention)
    settle(head)
    assert head.classes is not None
    for layer in (attention.query, attention.key, attention.value, attention.output, head.linear, head.classes):
        torch.testing.assert_close(largest(layer.weight), 1.0, **named("sampled sigma"))
    assert head(torch.zeros(2, 5, dtype=torch.float64), torch.tensor([0, 2])).shape == (2,)


# --- training and evaluation ---


def test_training_moves_the_vectors_at_every_use_and_evaluation_never() -> None:
    network = spectral_norm(critic())
    for parameter in network.parameters():
        nn.init.normal_(parameter)  # the vectors do not know yet
    vectors = lambda: {name: value.clone() for name, value in network.named_buffers()}  # noqa: E731
    network.eval()
    before = vectors()
    first = network(images())
    assert torch.equal(network(images()), first)
    assert all(torch.equal(before[name], value) for name, value in vectors().items())
    network.train()
    network(images())
    assert not any(torch.equal(before[name], value) for name, value in vectors().items() if "3." in name)
    for value in vectors().values():
        torch.testing.assert_close(value.norm().item(), 1.0, **FLOAT64)


@pytest.mark.parametrize("training", [True, False])
def test_each_norm_starts_in_the_mode_of_its_layer(training: bool) -> None:
    network = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)).train(training)
    network[1].eval()
    spectral_norm(network)
    assert [norm_of(layer).training for layer in network] == [training, False]


def test_more_iterations_a_use_are_more_uses() -> None:
    torch.manual_seed(0)
    slow = spectral_norm(nn.Linear(6, 5))
    fast = copy.deepcopy(slow)
    norm_of(fast).iterations = 4
    with torch.no_grad():
        for layer in (slow, fast):
            original(layer).copy_(torch.arange(30.0).view(5, 6).sin())
    for _ in range(4):
        slow.weight  # noqa: B018
    fast.weight  # noqa: B018
    torch.testing.assert_close(norm_of(slow)._u, norm_of(fast)._u, **for_dtype(torch.float32))


def test_two_uses_may_come_before_one_backward() -> None:
    network = spectral_norm(critic())
    real, fake = images(), images() + 1
    (network(fake).mean() - network(real).mean() + gradient_penalty(network, real, fake)).backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_an_optimizer_made_before_trains_the_weights() -> None:
    network = critic()
    parameters = list(network.parameters())
    optimizer = torch.optim.SGD(parameters, 0.1)
    spectral_norm(network)
    assert {id(p) for p in network.parameters()} == {id(p) for p in parameters}
    before = original(network[0]).detach().clone()
    network(images()).sum().backward()
    optimizer.step()
    assert not torch.equal(original(network[0]), before)


def test_the_scale_of_a_weight_has_no_gradient() -> None:
    layer = spectral_norm(nn.Linear(4, 3, bias=False).double())
    settle(layer)
    layer.eval()
    layer(torch.randn(5, 4, dtype=torch.float64)).square().sum().backward()
    weight = original(layer)
    assert weight.grad is not None
    torch.testing.assert_close((weight.grad * weight).sum().item(), 0.0, **FLOAT64)
    assert weight.grad.abs().max() > 1e-3


def test_it_is_differentiable_twice_in_the_images_and_every_weight() -> None:
    network = spectral_norm(nn.Sequential(Conv2d(1, 2, 2), nn.Tanh(), nn.Flatten(), nn.Linear(4, 2)).double()).eval()
    names, weights = zip(*network.named_parameters(), strict=True)

    def call(x: Tensor, *weights: Tensor) -> Tensor:
        return torch.func.functional_call(network, dict(zip(names, weights, strict=True)), (x,))

    inputs = (torch.randn(2, 1, 3, 2, dtype=torch.float64, requires_grad=True), *weights)
    assert gradcheck(call, inputs)
    assert gradgradcheck(call, inputs)


# --- where PyTorch's falls short ---


def test_a_weight_of_zeros_stays_zero_and_is_normalised_as_soon_as_it_is_not() -> None:
    layer = nn.Linear(4, 3, dtype=torch.float64)
    nn.init.zeros_(layer.weight)
    spectral_norm(layer)
    layer(torch.ones(2, 4, dtype=torch.float64)).sum().backward()
    weight = original(layer)
    assert torch.equal(layer.weight, torch.zeros(3, 4, dtype=torch.float64))
    assert weight.grad is not None
    assert weight.grad.tolist() == [[2.0] * 4] * 3
    with torch.no_grad():
        weight.sub_(0.1 * weight.grad)
    settle(layer)
    torch.testing.assert_close(largest(layer.weight), 1.0, **FLOAT64)


@pytest.mark.parametrize("training", [True, False])
def test_assigned_and_initialized_weights_are_normalised_at_once(training: bool) -> None:
    layer = spectral_norm(nn.Linear(8, 8, dtype=torch.float64)).train(training)
    weight = torch.diag(torch.tensor([4.0, *[1.0] * 7], dtype=torch.float64))
    layer.weight = weight  # type: ignore[assignment]
    torch.testing.assert_close(layer.weight.detach(), weight / 4, **FLOAT64)
    initialize(layer, "he_normal")
    np.testing.assert_allclose(largest(layer.weight), 1.0, **named("rough sigma"))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_norm_is_taken_in_float32_inside_autocast_and_for_low_precision_weights(dtype: torch.dtype) -> None:
    layer = spectral_norm(nn.Linear(32, 16))
    settle(layer)
    exact = layer.weight.detach().clone()
    with torch.autocast("cpu", dtype):
        assert layer(torch.randn(2, 32)).dtype == dtype
        torch.testing.assert_close(layer.weight.detach(), exact, **for_dtype(torch.float32))
    low = spectral_norm(nn.Linear(32, 16).to(dtype))
    settle(low)
    assert low.weight.dtype == dtype
    np.testing.assert_allclose(largest(low.weight), 1.0, **for_dtype(dtype))
    assert low(torch.randn(2, 32, dtype=dtype)).dtype == dtype


def test_singular_values_beyond_float16_are_no_obstacle_to_it() -> None:
    layer = nn.Linear(256, 256)
    nn.init.constant_(layer.weight, 300.0)  # sigma 76,800; float16 ends at 65,504
    spectral_norm(layer.half())
    torch.testing.assert_close(layer.weight.float(), torch.full((256, 256), 1 / 256), **for_dtype(torch.float16))


def test_a_compiled_penalty_is_the_eager_one_and_moves_the_vectors_alike() -> None:
    x, results = images(dtype=torch.float32), []
    for compiled in (False, True):
        torch.manual_seed(0)
        network = spectral_norm(
            nn.Sequential(nn.Flatten(), nn.Linear(32, 4), nn.Tanh(), nn.Linear(4, 1), nn.Flatten(0))
        )

        def penalty(x: Tensor, network: nn.Module = network) -> Tensor:
            return r1_penalty(network, x)

        torch._dynamo.reset()
        call = torch.compile(penalty, backend="aot_eager", fullgraph=True) if compiled else penalty
        with torch.no_grad():
            original(network[1]).add_(0.1)  # the vectors have to move
        before = norm_of(network[1])._u.clone()
        value = call(x)
        value.backward()
        gradients = [parameter.grad for parameter in network.parameters() if parameter.grad is not None]
        results.append([value, norm_of(network[1])._u.clone(), *gradients])
        assert not torch.equal(norm_of(network[1])._u, before)
    torch.testing.assert_close(*results, **for_dtype(torch.float32))


# --- living with the rest ---


def test_weights_and_vectors_go_through_a_checkpoint() -> None:
    network, other = spectral_norm(critic()), spectral_norm(critic())
    network(images())
    load_weights(other, {f"module.{name}": value for name, value in plain_weights(network).items()})
    for mode in (False, True):
        network.train(mode)
        other.train(mode)
        for _ in range(2):
            assert torch.equal(network(images()), other(images()))


def test_copies_averages_and_swapped_convolutions_work() -> None:
    network = nn.Sequential(nn.Conv2d(2, 3, 3), nn.Flatten(), nn.Linear(12, 1))
    spectral_norm(network)
    duplicate = copy.deepcopy(network)
    average = ExponentialMovingAverage(network, decay=0.0)
    x = images(dtype=torch.float32)
    swap_convolutions(network)
    assert isinstance(network[0], Conv2d)
    network(x)
    assert not torch.equal(norm_of(duplicate[2])._u, norm_of(network[2])._u) or len(norm_of(network[2])._u) == 1
    average.update(network)
    assert torch.equal(average.module(x), network.eval()(x))


def test_it_can_be_taken_off() -> None:
    network = spectral_norm(critic()).eval()
    expected = network(images())
    for layer in network:
        if parametrize.is_parametrized(layer):
            parametrize.remove_parametrizations(layer, "weight")
    assert network.state_dict().keys() == critic().state_dict().keys()
    torch.testing.assert_close(network(images()), expected, **FLOAT64)


def test_it_goes_on_top_of_another_parametrization() -> None:
    layer = spectral_norm(parametrizations.weight_norm(nn.Linear(4, 3, dtype=torch.float64)))
    settle(layer)
    torch.testing.assert_close(largest(layer.weight), 1.0, **FLOAT64)


def test_a_layer_that_occurs_twice_is_treated_once() -> None:
    layer = nn.Linear(3, 3)
    network = spectral_norm(nn.Sequential(layer, nn.Tanh(), layer))
    assert len(layer.parametrizations.weight) == 1  # type: ignore[union-attr, arg-type]
    network(torch.zeros(1, 3))


def test_the_printout_shows_its_numbers() -> None:
    shown = repr(spectral_norm(nn.ConvTranspose2d(2, 3, 2), iterations=2))
    assert "SpectralNorm(dim=1, iterations=2, eps=1e-12)" in shown


# --- what does not fit ---


@pytest.mark.parametrize(
    "layer", [WSConv2d(2, 3, 1), WSConvTranspose2d(2, 3, 1), WSLinear(2, 3)], ids=lambda x: type(x).__name__
)
def test_weight_scaled_layers_are_refused_and_nothing_is_changed(layer: nn.Module) -> None:
    network = nn.Sequential(nn.Linear(2, 2), nn.Sequential(layer))
    with pytest.raises(TypeError, match=rf"holds a {type(layer).__name__} at '1.0'.*would undo the norm"):
        spectral_norm(network)
    assert not parametrize.is_parametrized(network[0])


def test_a_second_norm_is_refused_whoever_put_the_first() -> None:
    by_pytorch = nn.Sequential(nn.Linear(2, 2), parametrizations.spectral_norm(nn.Linear(2, 2)))
    with pytest.raises(ValueError, match=r"has a spectral norm at '1' already"):
        spectral_norm(by_pytorch)
    assert not parametrize.is_parametrized(by_pytorch[0])
    network = spectral_norm(critic())
    with pytest.raises(ValueError, match=r"has a spectral norm at '0' already"):
        spectral_norm(network)
    assert len(network[0].parametrizations.weight) == 1


def test_weights_that_are_not_there_are_told() -> None:
    hooked = nn.Linear(2, 2)
    hooked.register_parameter("weight_orig", hooked._parameters.pop("weight"))
    hooked.weight = hooked.weight_orig.detach()  # as the hooks of torch.nn.utils leave it
    with pytest.raises(ValueError, match=r"computes the weight at '1' in a hook"):
        spectral_norm(nn.Sequential(nn.Linear(2, 2), hooked))
    with pytest.raises(ValueError, match=r"has no weight at '0' yet; run it once before"):
        spectral_norm(nn.Sequential(nn.LazyLinear(2)))
    with pytest.raises(ValueError, match=r"`network` is 'Sequential', but must be a network with convolutions or"):
        spectral_norm(nn.Sequential(nn.Tanh()))
    with pytest.raises(TypeError, match=r"`network` is .* must be a torch.nn.Module"):
        spectral_norm(torch.zeros(2))  # type: ignore[type-var]


def test_wrong_numbers_are_told() -> None:
    network = critic()
    for iterations in (0, -1):
        with pytest.raises(ValueError, match="`iterations` is"):
            spectral_norm(network, iterations=iterations)
    for eps in (0.0, -1.0):
        with pytest.raises(ValueError, match="`eps` is"):
            spectral_norm(network, eps=eps)
    assert not any(parametrize.is_parametrized(layer) for layer in network)
    with pytest.raises(ValueError, match="`iterations` is 0"):
        SpectralNorm(torch.ones(2, 2), iterations=0)
