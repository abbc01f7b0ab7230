"""Initial weights: which layers, which distribution, which seed."""

import math

import pytest
import torch
from scipy import stats
from torch import nn
from torch.nn.utils import parametrizations

from ganblocks.layers.initialization import initialize
from tolerances import for_dtype

SIGNIFICANCE = 1e-3  # seeds are fixed, so the tests of distribution cannot flicker
SCHEMES = ["torch", "glorot_uniform", "he_normal", "dcgan", "normal01"]
# layer, fan_in and fan_out as Keras counts them, by hand
LAYERS = {
    "conv": (lambda: nn.Conv2d(32, 48, (3, 5)), 32 * 15, 48 * 15),
    "grouped conv": (lambda: nn.Conv2d(64, 48, 3, groups=2), 32 * 9, 48 * 9),
    "transposed conv": (lambda: nn.ConvTranspose2d(32, 48, 3), 48 * 9, 32 * 9),  # Keras kernel (k, k, out, in)
    "conv1d": (lambda: nn.Conv1d(64, 80, 3), 64 * 3, 80 * 3),
    "linear": (lambda: nn.Linear(100, 120), 100, 120),
}


def uniform(bound):
    return stats.uniform(-bound, 2 * bound)


def distribution(scheme, fan_in, fan_out):
    if scheme == "torch":
        return uniform(1 / math.sqrt(fan_in))
    if scheme == "glorot_uniform":
        return uniform(math.sqrt(6 / (fan_in + fan_out)))
    if scheme == "he_normal":
        std = math.sqrt(2 / fan_in) / stats.truncnorm(-2, 2).std()
        return stats.truncnorm(-2, 2, scale=std)
    return stats.norm(0, 0.02 if scheme == "dcgan" else 1.0)


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("scheme", SCHEMES)
def test_weights_follow_the_distribution_of_the_scheme(name, scheme):
    make, fan_in, fan_out = LAYERS[name]
    layer = make()
    nn.init.constant_(layer.weight, 7)
    nn.init.constant_(layer.bias, 7)
    assert initialize(layer, scheme, generator=torch.Generator().manual_seed(1)) is layer
    oracle = distribution(scheme, fan_in, fan_out)
    assert stats.kstest(layer.weight.detach().flatten().numpy(), oracle.cdf).pvalue > SIGNIFICANCE
    if scheme == "torch":
        assert stats.kstest(layer.bias.detach().numpy(), uniform(1 / math.sqrt(fan_in)).cdf).pvalue > SIGNIFICANCE
    else:
        assert torch.equal(layer.bias, torch.zeros_like(layer.bias))


@pytest.mark.parametrize("name", LAYERS)
def test_torch_scheme_draws_what_reset_parameters_draws(name):
    layer, reference = LAYERS[name][0](), LAYERS[name][0]()
    torch.manual_seed(5)
    initialize(layer, "torch")
    torch.manual_seed(5)
    reference.reset_parameters()
    torch.testing.assert_close(layer.weight, reference.weight, **for_dtype(torch.float32))
    torch.testing.assert_close(layer.bias, reference.bias, **for_dtype(torch.float32))


def network():
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Sequential(nn.ConvTranspose2d(8, 3, 4, bias=False)))


@pytest.mark.parametrize("scheme", SCHEMES)
def test_one_seed_gives_one_network(scheme):
    nets = [initialize(network(), scheme, generator=torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)]
    first, same, other = ([parameter.detach() for parameter in net.parameters()] for net in nets)
    assert all(torch.equal(a, b) for a, b in zip(first, same, strict=True))
    assert not any(torch.equal(first[i], other[i]) for i in (0, -1))


@pytest.mark.parametrize("scheme", SCHEMES)
def test_batch_normalization_starts_afresh(scheme):
    norm = nn.BatchNorm2d(3000)
    norm(torch.randn(4, 3000, 1, 1))
    nn.init.constant_(norm.weight, 7)
    nn.init.constant_(norm.bias, 7)
    initialize(norm, scheme, generator=torch.Generator().manual_seed(1))
    if scheme == "dcgan":
        assert stats.kstest(norm.weight.detach().numpy(), stats.norm(1, 0.02).cdf).pvalue > SIGNIFICANCE
    else:
        assert norm.weight.eq(1).all()
    assert norm.bias.eq(0).all()
    assert norm.running_mean.eq(0).all()
    assert norm.running_var.eq(1).all()
    initialize(nn.BatchNorm2d(3, affine=False), scheme)


class Foreign(nn.Module):
    """A layer that owns a weight and is no subclass of a torch layer."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.full((4, 4), 7.0))
        self.bias = nn.Parameter(torch.full((4,), 7.0))


@pytest.mark.parametrize("scheme", SCHEMES)
def test_other_layers_are_left_alone(scheme):
    others = nn.ModuleList([Foreign(), nn.Embedding(3, 3), nn.GroupNorm(1, 4), nn.InstanceNorm2d(4, affine=True)])
    for parameter in others.parameters():
        nn.init.constant_(parameter, 7)
    initialize(others, scheme)
    assert all(parameter.eq(7).all() for parameter in others.parameters())


def test_subclasses_are_touched():
    class Subclass(nn.Conv2d):
        pass

    layer = Subclass(1, 1, 3)
    nn.init.constant_(layer.weight, 7)
    initialize(layer, "dcgan")
    assert layer.weight.abs().max() < 1


@pytest.mark.parametrize("wrap", [parametrizations.spectral_norm, parametrizations.weight_norm])
def test_parametrized_weights_are_set_behind_the_parametrization(wrap):
    layer, plain = wrap(nn.Linear(5, 6)), nn.Linear(5, 6)
    initialize(layer, "normal01", generator=torch.Generator().manual_seed(1))
    initialize(plain, "normal01", generator=torch.Generator().manual_seed(1))
    nn.utils.parametrize.remove_parametrizations(
        layer, "weight", leave_parametrized=wrap is parametrizations.weight_norm
    )
    torch.testing.assert_close(layer.weight, plain.weight, **for_dtype(torch.float32))


def test_a_cpu_generator_serves_every_device_and_dtype():
    layer = nn.Linear(3, 4, device="meta")
    initialize(layer, "he_normal", generator=torch.Generator().manual_seed(1))
    assert layer.weight.is_meta
    half = nn.Linear(3, 4, dtype=torch.bfloat16)
    for scheme in SCHEMES:
        assert initialize(half, scheme).weight.dtype == torch.bfloat16


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_cpu_generator_gives_the_same_weights_on_a_gpu(scheme):
    on_cpu = initialize(network(), scheme, generator=torch.Generator().manual_seed(1))
    on_gpu = initialize(network().cuda(), scheme, generator=torch.Generator().manual_seed(1))
    for first, second in zip(on_cpu.parameters(), on_gpu.parameters(), strict=True):
        assert torch.equal(first, second.cpu())


@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")  # from torch's own constructors
@pytest.mark.parametrize("scheme", SCHEMES)
def test_layers_without_weights_pass(scheme):
    initialize(nn.ModuleList([nn.Linear(0, 3), nn.Linear(3, 0), nn.ReLU()]), scheme)


def test_parameters_stay_trainable_leaves():
    layer = initialize(nn.Linear(3, 4), "glorot_uniform")
    weight = layer.weight
    initialize(layer, "dcgan")
    assert layer.weight is weight
    assert weight.requires_grad
    assert weight.is_leaf


def test_an_unknown_scheme_lists_the_known_ones():
    with pytest.raises(ValueError, match=r"`scheme` is 'xavier'.*torch.*glorot_uniform.*he_normal.*dcgan.*normal01"):
        initialize(nn.Linear(1, 1), "xavier")
