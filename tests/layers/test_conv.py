"""Conv2d and ConvTranspose2d as layers, and the swap that puts them into an existing network."""

import copy
import io
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import spectral_norm, weight_norm
from torch.utils._python_dispatch import TorchDispatchMode

from ganblocks.layers.conv import Conv2d, ConvTranspose2d, swap_convolutions
from strategies import fill
from tolerances import for_dtype, named

PAIRS: list[tuple[type[nn.Module], type[nn.Module]]] = [(Conv2d, nn.Conv2d), (ConvTranspose2d, nn.ConvTranspose2d)]
each = pytest.mark.parametrize(("ours", "native"), PAIRS, ids=["conv", "transposed"])
exact = named("exact")


class Windows(TorchDispatchMode):
    """Writes down the windows of all convolutions; PyTorch's second order uses an image-sized one, ours never."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: set[tuple[int, ...]] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.overloadpacket is torch.ops.aten.convolution:
            self.sizes.add(tuple(args[1].shape[2:]))
        return func(*args, **(kwargs or {}))


def windows(network: nn.Module, images: Tensor) -> set[tuple[int, ...]]:
    """The windows that run while a gradient penalty is trained with."""
    images = images.detach().requires_grad_()
    with Windows() as seen:
        (inner,) = torch.autograd.grad(network(images).square().sum(), images, create_graph=True)
        inner.square().sum().backward()
    return seen.sizes


def gradients(network: nn.Module, images: Tensor) -> list[Tensor]:
    """Value and penalty gradients of a network, in float64."""
    images = images.detach().requires_grad_()
    output = network(images)
    (inner,) = torch.autograd.grad(output.square().sum(), images, create_graph=True)
    return [output, inner, *torch.autograd.grad(inner.square().sum(), list(network.parameters()), allow_unused=True)]


# The layers


SHARED: list[dict[str, Any]] = [
    {},
    {"stride": 2, "padding": 1},
    {"padding": (0, 2), "dilation": 2, "groups": 2, "bias": False},
]
ONE_WAY: list[dict[str, Any]] = [
    {"padding_mode": "reflect", "padding": 1},
    {"padding_mode": "circular", "padding": (1, 2)},
    {"padding_mode": "replicate", "padding": "same", "dilation": (1, 2)},
    {"padding": "same"},
    {"padding": "valid"},
]
OTHER_WAY: list[dict[str, Any]] = [{"stride": 3, "output_padding": (1, 2)}]


@pytest.mark.parametrize(
    ("ours", "native", "options"),
    [(*PAIRS[0], options) for options in SHARED + ONE_WAY] + [(*PAIRS[1], options) for options in SHARED + OTHER_WAY],
    ids=lambda value: str(value) if isinstance(value, dict) else value.__name__,
)
def test_values_state_and_second_order_are_those_of_pytorch(
    ours: type[nn.Module], native: type[nn.Module], options: dict[str, Any]
) -> None:
    reference = native(4, 6, 3, **options, dtype=torch.float64)
    layer = ours(4, 6, 3, **options, dtype=torch.float64)
    assert list(layer.state_dict()) == list(reference.state_dict())
    layer.load_state_dict(reference.state_dict())
    images = fill((2, 4, 6, 7), "normal", seed=0)
    torch.testing.assert_close(gradients(layer, images), gradients(reference, images), **for_dtype(torch.float64))
    assert windows(layer, images) == {(3, 3)}


@each
def test_one_seed_gives_the_initial_values_of_pytorch(ours: type[nn.Module], native: type[nn.Module]) -> None:
    torch.manual_seed(3)
    layer = ours(2, 4, 3)
    torch.manual_seed(3)
    for mine, theirs in zip(layer.parameters(), native(2, 4, 3).parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, **exact)


@each
def test_one_image_without_a_batch_dimension(ours: type[nn.Module], native: type[nn.Module]) -> None:
    layer = ours(2, 3, 3)
    image = fill((2, 5, 5), "normal", seed=0, dtype=torch.float32)
    torch.testing.assert_close(layer(image), layer(image[None])[0], **for_dtype(torch.float32))


@pytest.mark.parametrize("output_size", [(8, 7), (2, 3, 7, 8), (6, 6)])
def test_a_transposed_convolution_hits_the_size_it_is_asked_for(output_size: tuple[int, ...]) -> None:
    layer = ConvTranspose2d(2, 3, 3, stride=3)
    reference = nn.ConvTranspose2d(2, 3, 3, stride=3)
    reference.load_state_dict(layer.state_dict())
    images = fill((2, 2, 2, 2), "normal", seed=0, dtype=torch.float32)
    torch.testing.assert_close(layer(images, output_size), reference(images, output_size), **for_dtype(torch.float32))
    assert layer(images, output_size).shape[2:] == output_size[-2:]


def test_a_size_out_of_reach_and_a_padding_mode_of_the_transposed_layer_are_refused() -> None:
    with pytest.raises(ValueError, match="requested an output size"):
        ConvTranspose2d(1, 1, 3, stride=2)(torch.zeros(1, 1, 2, 2), output_size=(50, 50))
    with pytest.raises(ValueError, match="zeros"):
        ConvTranspose2d(1, 1, 3, padding_mode="reflect")
    with pytest.raises(ValueError, match="padding_mode"):
        Conv2d(1, 1, 3, padding_mode="mirror")


@each
def test_a_wrong_number_of_channels_is_refused(ours: type[nn.Module], native: type[nn.Module]) -> None:
    with pytest.raises(RuntimeError, match="channels"):
        ours(2, 3, 3)(torch.zeros(1, 5, 6, 6))


# The swap


def critic() -> nn.Sequential:
    """A user's own network, in float64."""
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1),
        nn.LeakyReLU(0.2),
        nn.Sequential(nn.ConvTranspose2d(4, 4, 3, stride=2), nn.Tanh()),
        nn.Conv2d(4, 1, 3, stride=2, padding_mode="reflect", padding=1),
    ).double()


def test_the_swap_changes_the_classes_and_nothing_else() -> None:
    network = critic().eval()
    network[0].weight.requires_grad_(False)
    calls: list[str] = []
    network[0].register_forward_hook(lambda *_: calls.append("forward"))
    network[3].register_forward_pre_hook(lambda *_: calls.append("before"))
    before = dict(network.named_parameters())
    state = copy.deepcopy(network.state_dict())
    images = fill((2, 2, 6, 6), "normal", seed=0)
    expected = network(images)
    calls.clear()

    assert swap_convolutions(network) is network

    assert [type(layer) for layer in (network[0], network[2][0], network[3])] == [Conv2d, ConvTranspose2d, Conv2d]
    assert isinstance(network[1], nn.LeakyReLU)
    assert all(parameter is before[name] for name, parameter in network.named_parameters())
    assert list(network.state_dict()) == list(state)
    assert not network[0].weight.requires_grad
    assert not network[0].training
    torch.testing.assert_close(network(images), expected, **for_dtype(torch.float64))
    assert calls == ["forward", "before"]


def test_the_swapped_network_has_pytorchs_penalty_gradient_by_other_kernels() -> None:
    network, images = critic(), fill((2, 2, 7, 7), "normal", seed=0)
    swapped = swap_convolutions(copy.deepcopy(network))
    torch.testing.assert_close(gradients(swapped, images), gradients(network, images), **for_dtype(torch.float64))
    assert windows(swapped, images) == {(3, 3)}
    assert windows(network, images) != {(3, 3)}


def test_swapping_twice_is_swapping_once() -> None:
    network = swap_convolutions(critic())
    classes = [type(layer) for layer in network.modules()]
    assert [type(layer) for layer in swap_convolutions(network).modules()] == classes


@each
def test_the_root_itself_may_be_the_convolution(ours: type[nn.Module], native: type[nn.Module]) -> None:
    layer = native(2, 2, 3)
    assert swap_convolutions(layer) is layer
    assert type(layer) is ours


def test_a_layer_in_two_places_stays_one_layer() -> None:
    shared = nn.Conv2d(2, 2, 3)
    network = swap_convolutions(nn.Sequential(shared, shared))
    assert network[0] is network[1] is shared
    assert type(shared) is Conv2d


def test_subclasses_and_other_dimensions_are_left_alone() -> None:
    class Doubled(nn.Conv2d):
        def forward(self, input: Tensor) -> Tensor:
            return 2 * super().forward(input)

    layers = [Doubled(2, 2, 3), nn.LazyConv2d(2, 3), nn.Conv1d(2, 2, 3), nn.Conv3d(2, 2, 3), nn.Linear(2, 2)]
    network = swap_convolutions(nn.Sequential(*layers))
    assert [type(layer) for layer in network] == [Doubled, nn.LazyConv2d, nn.Conv1d, nn.Conv3d, nn.Linear]


def test_a_lazy_layer_is_swapped_once_it_knows_its_shape() -> None:
    lazy = nn.LazyConv2d(2, 3)
    lazy(torch.zeros(1, 3, 4, 4))
    assert type(swap_convolutions(lazy)) is Conv2d


@each
@pytest.mark.parametrize("normalise", [spectral_norm, weight_norm])
def test_a_parametrized_layer_is_swapped_and_keeps_its_parametrization(
    ours: type[nn.Module], native: type[nn.Module], normalise: Any
) -> None:
    layer = normalise(native(2, 2, 3, padding=1, dtype=torch.float64)).eval()
    images = fill((2, 2, 7, 7), "normal", seed=0)
    untouched = copy.deepcopy(layer)
    swap_convolutions(layer)
    assert isinstance(layer, ours)
    assert not isinstance(untouched, ours)
    assert list(layer.state_dict()) == list(untouched.state_dict())
    torch.testing.assert_close(layer(images), untouched(images), **for_dtype(torch.float64))
    assert windows(layer, images) == {(3, 3)}
    assert type(swap_convolutions(layer)) is type(layer)
    torch.testing.assert_close(copy.deepcopy(layer)(images), layer(images), **exact)
    parametrize.remove_parametrizations(layer, "weight")
    assert type(layer) is ours


def test_an_optimizer_made_before_the_swap_still_trains_the_network() -> None:
    network = critic()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    start = network[0].weight.detach().clone()
    swap_convolutions(network)(fill((2, 2, 6, 6), "normal", seed=0)).square().sum().backward()
    optimizer.step()
    assert not torch.equal(network[0].weight, start)


def test_weights_travel_between_a_swapped_and_a_plain_network() -> None:
    swapped, plain = swap_convolutions(critic()), critic()
    file = io.BytesIO()
    torch.save(swapped.state_dict(), file)
    file.seek(0)
    plain.load_state_dict(torch.load(file, weights_only=True))
    images = fill((2, 2, 6, 6), "normal", seed=0)
    torch.testing.assert_close(plain(images), swapped(images), **for_dtype(torch.float64))


def test_what_is_no_network_is_refused() -> None:
    with pytest.raises(TypeError, match=r"`module` is 3, but must be a torch\.nn\.Module"):
        swap_convolutions(3)  # type: ignore[type-var]
