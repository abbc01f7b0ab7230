"""A convolution and what stands behind it: the same numbers with kernels and without, to second order."""

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import gradcheck, gradgradcheck

from ganblocks import functional, losses
from ganblocks.layers import Conv2d, ConvTranspose2d, WSConv2d, WSConvTranspose2d, activated
from ganblocks.models import progan, r3gan, wgan_gp
from ganblocks.ops import _switch, backend
from ganblocks.ops.kernels import is_interpreted, why_missing
from tolerances import for_dtype, named

float64 = torch.float64
Layer = Conv2d | ConvTranspose2d | WSConv2d | WSConvTranspose2d
LAYERS: dict[str, Callable[[], Layer]] = {
    "Conv2d": lambda: Conv2d(3, 4, 3, padding=1),
    "Conv2d that reflects": lambda: Conv2d(3, 4, 3, padding=1, padding_mode="reflect"),
    "Conv2d without bias": lambda: Conv2d(3, 4, 1, bias=False),
    "ConvTranspose2d": lambda: ConvTranspose2d(3, 4, 4, stride=2, padding=1),
    "WSConv2d": lambda: WSConv2d(3, 4, 3, stride=2, padding=1),
    "WSConv2d without bias": lambda: WSConv2d(3, 4, 3, bias=False, gain=1.0),
    "WSConvTranspose2d": lambda: WSConvTranspose2d(3, 4, 3, stride=2, output_padding=1),
}
each_layer = pytest.mark.parametrize("make", LAYERS.values(), ids=LAYERS)
each_ending = pytest.mark.parametrize("normalize", [False, True], ids=["activated", "normalized"])


@pytest.fixture
def kernels(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Kernels run on the CPU, in float64 too, so that differences show mistakes."""
    if why_missing() is not None or not is_interpreted():
        pytest.skip("Triton's interpreter is not switched on")
    monkeypatch.setattr(_switch, "DTYPES", frozenset({torch.float16, torch.float32, float64}))
    with backend("triton"):
        yield


def layer_of(make: Callable[[], nn.Module], dtype: torch.dtype = float64) -> nn.Module:
    torch.manual_seed(0)
    layer = make().to(dtype)
    for parameter in layer.parameters():
        nn.init.normal_(parameter)  # biases among them
    return layer


def separate(layer: nn.Module, x: Tensor, slope: float, normalize: bool) -> Tensor:
    y = nn.functional.leaky_relu(layer(x), slope)
    return functional.pixel_norm(y) if normalize else y


def with_gradients(y: Tensor, layer: nn.Module, x: Tensor) -> list[Tensor]:
    """The result, its gradients, and those of a penalty on the gradient by ``x``."""
    parameters = list(layer.parameters())
    generator = torch.Generator().manual_seed(1)
    g = torch.randn(y.shape, generator=generator, dtype=y.dtype)
    first = torch.autograd.grad(y, [x, *parameters], g, create_graph=True)
    second = torch.autograd.grad(first[0].square().sum(), [x, *parameters], materialize_grads=True, allow_unused=True)
    return [y, *first, *second]


@each_layer
@each_ending
def test_is_the_layer_then_the_activation_then_the_normalisation(make: Callable[[], Layer], normalize: bool) -> None:
    layer, x = layer_of(make), torch.randn(2, 3, 5, 4, dtype=float64, requires_grad=True)
    found = with_gradients(activated(layer, x, slope=0.3, normalize=normalize), layer, x)  # type: ignore[arg-type]
    expected = with_gradients(separate(layer, x, 0.3, normalize), layer, x)
    torch.testing.assert_close(found, expected, **named("transformed"))


@each_layer
@each_ending
@pytest.mark.usefixtures("kernels")
def test_is_the_same_by_kernels(make: Callable[[], Layer], normalize: bool) -> None:
    layer, x = layer_of(make), torch.randn(2, 3, 5, 4, dtype=float64, requires_grad=True)
    found = with_gradients(activated(layer, x, slope=0.3, normalize=normalize), layer, x)  # type: ignore[arg-type]
    with backend("reference"):
        expected = with_gradients(separate(layer, x, 0.3, normalize), layer, x)
    torch.testing.assert_close(found, expected, **named("transformed"))


@each_ending
@pytest.mark.usefixtures("kernels")
def test_gradients_by_kernels_are_those_of_finite_differences(normalize: bool) -> None:
    layer = layer_of(lambda: WSConv2d(2, 3, 3, padding=1))
    x = torch.randn(2, 2, 3, 2, dtype=float64, requires_grad=True)

    def block(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        parameters = {"layer.weight": weight, "layer.bias": bias}
        result: Tensor = torch.func.functional_call(Block(layer, normalize), parameters, (x,))
        return result

    assert gradcheck(block, (x, layer.weight, layer.bias), fast_mode=True)
    assert gradgradcheck(block, (x, layer.weight, layer.bias), fast_mode=True)


class Block(nn.Module):
    """`activated` as a module, so that its parameters can be replaced."""

    def __init__(self, layer: nn.Module, normalize: bool) -> None:
        super().__init__()
        self.layer, self.normalize = layer, normalize

    def forward(self, x: Tensor) -> Tensor:
        return activated(self.layer, x, normalize=self.normalize)  # type: ignore[arg-type]


@pytest.mark.usefixtures("kernels")
@pytest.mark.parametrize("register", ["register_forward_hook", "register_forward_pre_hook"])
def test_a_hook_sees_what_the_layer_gives(register: str) -> None:
    layer, x = layer_of(lambda: WSConv2d(3, 4, 3)), torch.randn(2, 3, 5, 4, dtype=float64)
    called = []
    getattr(layer, register)(lambda module, *_: called.append(module))
    torch.testing.assert_close(activated(layer, x), separate(layer, x, 0.2, False), **for_dtype(float64))  # type: ignore[arg-type]
    assert called == [layer, layer]


@pytest.mark.usefixtures("kernels")
def test_in_float16_the_weight_is_scaled_before_its_products_are_summed() -> None:
    """The sum of 4,608 products of 80 is beyond float16; scaled before, it is 7,680."""
    torch.manual_seed(0)
    layer = WSConv2d(512, 1, 3).half()
    nn.init.constant_(layer.weight, 10.0)
    y = activated(layer, torch.full((1, 512, 3, 3), 8.0, dtype=torch.float16))
    torch.testing.assert_close(y.double(), torch.full((1, 1, 1, 1), 7680.0, dtype=float64), **for_dtype(torch.float16))


def test_in_other_types_the_factor_is_left_to_what_follows() -> None:
    layer, x = layer_of(lambda: WSConv2d(3, 4, 3)), torch.randn(1, 3, 5, 5, dtype=float64)
    features, scale = layer.without_bias(x)  # type: ignore[operator]
    assert scale == layer.scale == (2 / 27) ** 0.5
    torch.testing.assert_close(features, nn.functional.conv2d(x, layer.weight), **for_dtype(float64))  # type: ignore[arg-type]


def test_refuses_a_slope_beyond_one() -> None:
    with pytest.raises(ValueError, match=r"`slope` is 1\.5"):
        activated(Conv2d(3, 4, 3), torch.zeros(1, 3, 3, 3), slope=1.5)


def critics() -> dict[str, tuple[nn.Module, int]]:
    small = {"max_channels": 4, "base_channels": 16}
    return {
        "progan": (progan.Discriminator(progan.ProGANConfig.karras2018(8, **small)), 8),
        "r3gan": (r3gan.Discriminator(r3gan.R3GANConfig(resolution=8, widths=(4, 4), group_size=4)), 8),
        "wgan_gp": (wgan_gp.Critic(wgan_gp.WGANGPConfig(resolution=16, base_channels=4)), 16),
    }


@pytest.mark.parametrize("name", ["progan", "r3gan", "wgan_gp"])
@pytest.mark.usefixtures("kernels")
def test_a_critic_learns_the_same_by_kernels(name: str) -> None:
    torch.manual_seed(0)
    critic, side = critics()[name]
    critic.to(float64).eval()
    real, fake = torch.randn(2, 4, 3, side, side, dtype=float64)
    mixing = torch.rand(4, dtype=float64)

    def gradients() -> tuple[Tensor, ...]:
        loss = losses.wasserstein.discriminator_loss(critic(real), critic(fake))
        loss = loss + 10 * losses.gradient_penalty(critic, real, fake, mixing=mixing)
        return torch.autograd.grad(loss, list(critic.parameters()), allow_unused=True, materialize_grads=True)

    found = gradients()
    with backend("reference"):
        expected = gradients()
    torch.testing.assert_close(found, expected, **named("transformed"))
