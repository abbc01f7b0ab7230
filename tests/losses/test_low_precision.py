"""The gradient that a penalty trains with, in bfloat16 against float32, for whole critics.

On CPUs with AMX, PyTorch's own double backward returns garbage here for even batches up to 12, with no warning, while
the value of the penalty looks fine. So the direction of the gradient is compared, parameter by parameter.
"""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from ganblocks.layers import Conv2d, swap_convolutions
from ganblocks.losses import gradient_penalty, r1_penalty
from ganblocks.models.progan import Discriminator, ProGANConfig
from tolerances import named


class FlatScore(nn.Module):
    """A DCGAN-style critic: 4x4 convolutions of stride 2 down to 4 pixels, then one logit."""

    def __init__(self, resolution: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels, width = 3, 16
        while resolution > 4:
            layers += [nn.Conv2d(channels, width, 4, 2, 1), nn.LeakyReLU(0.2)]
            layers += [nn.Conv2d(width, width, 3, 1, 1), nn.LeakyReLU(0.2)]
            channels, width, resolution = width, 2 * width, resolution // 2
        layers.append(nn.Conv2d(channels, 1, 4))
        self.layers = swap_convolutions(nn.Sequential(*layers))

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(images).flatten()


def progan_critic(resolution: int, channels: int = 64) -> nn.Module:
    return Discriminator(ProGANConfig.karras2018(resolution, max_channels=channels))


def penalty_gradients(critic: nn.Module, penalty: Callable[[], Tensor], low: bool) -> dict[str, Tensor]:
    critic.zero_grad(set_to_none=True)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=low):
        value = penalty()
    assert value.dtype == torch.float32
    value.backward()
    return {name: p.grad.flatten().double() for name, p in critic.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("make", [progan_critic, FlatScore], ids=["progan", "dcgan"])
@pytest.mark.parametrize("resolution", [8, 16, 32])
@pytest.mark.parametrize("batch", [2, 4, 8, 12, 16])
def test_direction_of_the_penalty_s_gradient(make: Callable[[int], nn.Module], resolution: int, batch: int) -> None:
    critic = make(resolution).to(memory_format=torch.channels_last)
    real, fake = torch.randn(2, batch, 3, resolution, resolution)
    weights = torch.rand(batch)

    def penalty() -> Tensor:
        return gradient_penalty(critic, real, fake, mixing=weights)

    truth, low = penalty_gradients(critic, penalty, False), penalty_gradients(critic, penalty, True)
    assert truth.keys() == low.keys()
    assert cosines_below(truth, low, [name for name in truth if name.endswith("weight")]) == {}


@pytest.mark.parametrize("resolution", [8, 16])
def test_direction_for_biases(resolution: int) -> None:
    """A piecewise linear critic has no such gradient at all but through the minibatch standard deviation.

    There it is small and badly conditioned, the more so the fewer samples a group has and the narrower the network: in
    a pair, the curvature of sqrt(d^2 + 1e-8) is a needle at d = 0, which no low precision can hit. Hence 8 samples and
    128 channels here.
    """
    critic = progan_critic(resolution, 128).to(memory_format=torch.channels_last)
    real, fake = torch.randn(2, 8, 3, resolution, resolution)
    weights = torch.rand(8)

    def penalty() -> Tensor:
        return gradient_penalty(critic, real, fake, mixing=weights)

    truth, low = penalty_gradients(critic, penalty, False), penalty_gradients(critic, penalty, True)
    assert cosines_below(truth, low, list(truth)) == {}


def cosines_below(truth: dict[str, Tensor], low: dict[str, Tensor], names: list[str]) -> dict[str, float]:
    """Parameters whose direction is further from the truth than allowed; one without gradient must have none."""
    assert truth.keys() == low.keys()
    assert names
    bad = {}
    for name in names:
        expected, found = truth[name], low[name]
        if expected.norm() == 0:
            assert found.norm() == 0, name
            continue
        cosine = (torch.dot(expected, found) / (expected.norm() * found.norm())).item()
        if not cosine > 1 - named("bfloat16 direction")["atol"]:
            bad[name] = cosine
    return bad


def test_every_convolution_of_the_critics_is_ours() -> None:
    """A plain convolution in a critic would bring PyTorch's double backward back."""
    assert {type(m) for m in FlatScore(8).modules() if isinstance(m, nn.Conv2d)} == {Conv2d}
    assert not any(type(m) is nn.Conv2d for m in progan_critic(8).modules())


def test_r1_in_low_precision_has_the_right_direction_too() -> None:
    critic = progan_critic(16)
    images = torch.randn(8, 3, 16, 16)
    truth = penalty_gradients(critic, lambda: r1_penalty(critic, images), False)
    low = penalty_gradients(critic, lambda: r1_penalty(critic, images), True)
    assert cosines_below(truth, low, [name for name in truth if name.endswith("weight")]) == {}
