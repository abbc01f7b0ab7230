"""A classifier made of autoencoders: counts to the last parameter, layers taken over bit for bit, the formula."""

import copy
import itertools
import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from ganblocks.models.autoencoder import DenseAutoencoder
from ganblocks.models.stacked import (
    StackedClassifier,
    StackedClassifierConfig,
    Stacking,
    autoencoder_configs,
)
from tolerances import for_dtype

SMALL = StackedClassifierConfig(resolution=3, image_channels=2, num_classes=3, widths=(6, 5, 4))
BOTH = pytest.mark.parametrize("stacking", ["greedy", "latent_reuse"])


def parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def disturbed(module: nn.Module) -> nn.Module:
    """With biases that are not 0 any more."""
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.5)
    return module


def autoencoders(
    config: StackedClassifierConfig = SMALL, stacking: Stacking = "greedy", **options: bool
) -> list[DenseAutoencoder]:
    return [disturbed(DenseAutoencoder(part)) for part in autoencoder_configs(config, stacking, **options)]  # type: ignore[misc]


def images(count: int = 4, *, channels: int = 2, side: int = 3) -> Tensor:
    return torch.rand(count, channels, side, side) * 2 - 1


def test_the_classifier_of_the_course_text_to_the_last_parameter() -> None:
    layers = 100_480 + 8_256 + 2_080 + 528 + 170
    assert parameters(StackedClassifier(StackedClassifierConfig())) == layers == 111_514


def test_its_autoencoders_to_the_last_parameter() -> None:
    configs = autoencoder_configs(StackedClassifierConfig(), "latent_reuse")
    assert [config.widths for config in configs] == [(256, 128, 64), (128, 64, 32), (64, 32, 16)]
    assert all(config.input_shape == (1, 28, 28) for config in configs)
    first = 200_960 + 32_896 + 8_256 + 8_320 + 33_024 + 201_488
    second = 100_480 + 8_256 + 2_080 + 2_112 + 8_320 + 101_136
    third = 50_240 + 2_080 + 528 + 544 + 2_112 + 50_960
    assert (first, second, third) == (484_944, 222_384, 106_464)
    assert [parameters(DenseAutoencoder(config)) for config in configs] == [first, second, third]


def test_greedy_autoencoders_are_one_a_layer_and_tied_ones_have_each_weight_once() -> None:
    config = StackedClassifierConfig()
    chain = (784, 128, 64, 32, 16)
    pairs = list(itertools.pairwise(chain))
    for tied, matrices in ((False, 2), (True, 1)):
        stack = [DenseAutoencoder(part) for part in autoencoder_configs(config, tied=tied)]
        assert [parameters(part) for part in stack] == [matrices * a * b + a + b for a, b in pairs]
    shapes = [part.input_shape for part in autoencoder_configs(config)]
    assert shapes == [(1, 28, 28), (128,), (64,), (32,)]


def test_images_are_rebuilt_by_a_sigmoid_and_codes_which_have_no_upper_bound_by_a_linear_layer() -> None:
    assert [part.output_activation for part in autoencoder_configs(SMALL)] == ["sigmoid", "linear", "linear"]
    assert {part.output_activation for part in autoencoder_configs(SMALL, "latent_reuse")} == {"sigmoid"}


def test_names_of_the_weights_are_those_of_the_first_release() -> None:
    names = {f"encoders.{layer}.{name}" for layer in range(3) for name in ("weight", "bias")}
    names |= {f"normalizations.{layer}.{name}" for layer in range(3) for name in ("mean", "scale")}
    assert StackedClassifier(SMALL).state_dict().keys() == names | {"head.weight", "head.bias"}


def test_the_formula_written_out() -> None:
    stack = autoencoders()
    normalizations = [(torch.rand(6), 3.0), None, (torch.rand(4), 0.5)]
    model = StackedClassifier.assemble(SMALL, stack, normalizations=normalizations).double()
    x = images().double()
    values = (x.numpy().reshape(4, -1) + 1) / 2
    for autoencoder, normalization in zip(stack, normalizations, strict=True):
        weight, bias = (getattr(autoencoder.encoder[1], name).detach().double().numpy() for name in ("weight", "bias"))
        values = np.maximum(values @ weight.T + bias, 0)
        assert np.count_nonzero(values) not in (0, values.size)  # ReLU had something to do
        if normalization is not None:
            values = (values - normalization[0].double().numpy()) / normalization[1]
    np.testing.assert_allclose(model.features(x).detach().numpy(), values, **for_dtype(torch.float64))
    head = model.head
    logits = values @ head.weight.detach().numpy().T + head.bias.detach().numpy()
    np.testing.assert_allclose(model(x).detach().numpy(), logits, **for_dtype(torch.float64))


@BOTH
def test_layers_are_taken_over_bit_for_bit_and_are_copies(stacking: Stacking) -> None:
    stack = autoencoders(stacking=stacking)
    before = [copy.deepcopy(part.state_dict()) for part in stack]
    model = StackedClassifier.assemble(SMALL, stack, stacking=stacking)
    if stacking == "greedy":
        pairs = [(own, part.encoder[1]) for own, part in zip(model.encoders, stack, strict=True)]
    else:
        assert parameters(model.encoders[0]) == 18 * 6 + 6
        pairs = [(own, part.encoder[5]) for own, part in zip(list(model.encoders)[1:], stack, strict=True)]
    for own, source in pairs:
        assert torch.equal(own.weight, source.weight)
        assert torch.equal(own.bias, source.bias)
    for parameter in model.parameters():
        assert parameter.requires_grad
        nn.init.zeros_(parameter)
    for part, state in zip(stack, before, strict=True):
        assert all(torch.equal(value, state[name]) for name, value in part.state_dict().items())


def test_encoders_of_several_layers_come_in_a_row() -> None:
    config = StackedClassifierConfig(resolution=3, widths=(8, 6, 4))
    first, second = autoencoders(StackedClassifierConfig(resolution=3, widths=(8, 4)))
    deep = disturbed(DenseAutoencoder(first.config.replace(widths=(8, 6))))
    last = disturbed(DenseAutoencoder(second.config.replace(input_shape=(6,))))
    mean = torch.rand(6)
    model = StackedClassifier.assemble(config, [deep, last], normalizations=[(mean, 2.0), None])  # type: ignore[list-item]
    assert [float(part.scale) for part in model.normalizations] == [1.0, 2.0, 1.0]  # type: ignore[arg-type]
    x = torch.rand(5, 1, 3, 3)
    expected = last.encode((deep.encode(x) - mean) / 2)  # type: ignore[operator]
    torch.testing.assert_close(model.features(2 * x - 1), expected, **for_dtype(torch.float32))


def test_frozen_layers_take_no_gradient_but_new_ones_do() -> None:
    model = StackedClassifier.assemble(SMALL, autoencoders(), freeze=True)
    assert {name for name, p in model.named_parameters() if p.requires_grad} == {"head.weight", "head.bias"}
    stack = autoencoders(stacking="latent_reuse")
    assert all(p.requires_grad for part in stack for p in part.parameters())
    model = StackedClassifier.assemble(SMALL, stack, stacking="latent_reuse", freeze=True)
    trained = {name.rpartition(".")[0] for name, p in model.named_parameters() if p.requires_grad}
    assert trained == {"encoders.0", "head"}


@given(
    resolution=st.integers(1, 4),
    image_channels=st.integers(1, 3),
    widths=st.lists(st.integers(1, 4), min_size=1, max_size=3),
    N=st.integers(0, 3),
)
def test_head_of_the_features_is_the_forward_pass_at_any_shape(
    resolution: int, image_channels: int, widths: list[int], N: int
) -> None:
    config = StackedClassifierConfig(resolution, image_channels, 4, tuple(widths))
    model = StackedClassifier.assemble(config, autoencoders(config))
    x = images(N, channels=image_channels, side=resolution)
    features = model.features(x)
    assert features.shape == (N, widths[-1])
    assert torch.equal(model.head(features), model(x))
    assert torch.equal(model(x.to(memory_format=torch.channels_last)), model(x))


def test_bytes_and_floats_are_the_same_images() -> None:
    model = disturbed(StackedClassifier(SMALL))
    x = torch.randint(0, 256, (4, 2, 3, 3), dtype=torch.uint8)
    torch.testing.assert_close(model(x), model(x.float() / 127.5 - 1), **for_dtype(torch.float32))


def test_first_and_second_derivatives() -> None:
    model = disturbed(StackedClassifier(SMALL)).double()
    x = images(2).double().requires_grad_()
    parts = [parameter.detach().requires_grad_() for parameter in model.parameters()]
    names = [name for name, _ in model.named_parameters()]

    def call(x: Tensor, *values: Tensor) -> Tensor:
        return torch.func.functional_call(model, dict(zip(names, values, strict=True)), (x,))

    assert torch.autograd.gradcheck(call, (x, *parts))
    assert torch.autograd.gradgradcheck(call, (x, *parts), fast_mode=True)


@pytest.mark.parametrize("shape", [(2, 2, 3, 4), (2, 1, 3, 3), (2, 18), (2, 2, 6, 6)])
def test_images_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"`images` is .* must be \[N, 2, 3, 3\]"):
        StackedClassifier(SMALL)(torch.zeros(shape))


def test_without_places_for_normalisation_the_function_is_the_same_and_none_can_be_set() -> None:
    bare = SMALL.replace(normalized=False)
    torch.manual_seed(0)
    with_places = disturbed(StackedClassifier(SMALL))
    without = StackedClassifier(bare)
    weights = {name: value for name, value in with_places.state_dict().items() if "normalizations" not in name}
    without.load_state_dict(weights)  # strict: there is nothing else
    images = torch.rand(4, 2, 3, 3) * 2 - 1
    assert torch.equal(without(images), with_places(images))
    assert parameters(without) == parameters(with_places)
    given = [(torch.zeros(6), 2.0), None, None]
    with pytest.raises(ValueError, match="normalized"):
        StackedClassifier.assemble(bare, autoencoders(), normalizations=given)
    StackedClassifier.assemble(bare, autoencoders(), normalizations=[None, None, None])


def test_autoencoders_that_do_not_fit_are_refused() -> None:
    stack = autoencoders()
    with pytest.raises(ValueError, match=r"`autoencoders` is \[\(18, 6\), \(6, 5\)\], but must be encoders whose"):
        StackedClassifier.assemble(SMALL, stack[:2])
    with pytest.raises(ValueError, match=r"`autoencoders` is \[\(6, 5\), \(18, 6\), \(5, 4\)\]"):
        StackedClassifier.assemble(SMALL, [stack[1], stack[0], stack[2]])
    with pytest.raises(ValueError, match=r"`autoencoders` is \[None, \(18, 6\)"):
        StackedClassifier.assemble(SMALL, stack, stacking="latent_reuse")
    with pytest.raises(ValueError, match="`stacking` is 'none'"):
        StackedClassifier.assemble(SMALL, stack, stacking="none")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="`normalizations` is 2, but must be 3, one for each autoencoder"):
        StackedClassifier.assemble(SMALL, stack, normalizations=[None, None])
    with pytest.raises(ValueError, match=r"`mean` is \(5,\), but must be of shape \(6,\)"):
        StackedClassifier.assemble(SMALL, stack, normalizations=[(torch.zeros(5), 1.0), None, None])


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("resolution", 0),
        ("resolution", 1025),
        ("image_channels", 1.0),
        ("num_classes", 0),
        ("widths", ()),
        ("widths", (4, 0)),
        ("normalized", 1),
        ("initialization", "best"),
    ],
)
def test_fields_out_of_range_are_named(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"`{field}`"):
        StackedClassifierConfig(**{field: value})  # type: ignore[arg-type]


def test_stackings_that_there_are_not() -> None:
    with pytest.raises(ValueError, match="`stacking` is 'tower', but must be one of greedy, latent_reuse"):
        autoencoder_configs(SMALL, "tower")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"`widths` is \(6,\), but must be at least two"):
        autoencoder_configs(SMALL.replace(widths=(6,)), "latent_reuse")


def test_json_round_trip() -> None:
    assert StackedClassifierConfig.from_json(SMALL.to_json()) == SMALL
    assert json.loads(SMALL.to_json())["widths"] == [6, 5, 4]
