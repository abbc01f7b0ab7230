"""Autoencoders: their parameters to the last one, their formulas written out, what their configurations refuse."""

import copy

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from ganblocks.models.autoencoder import AutoencoderConfig, ConvDenoiser, ConvDenoiserConfig, DenseAutoencoder
from tolerances import for_dtype, named

SMALL = AutoencoderConfig(input_shape=(2, 2, 3), widths=(5, 3))
DENOISER = ConvDenoiserConfig(resolution=8, channels=(3, 2))


def parameters(model: nn.Module) -> list[int]:
    """Of each layer that has some, weight and bias together."""
    counts = [sum(p.numel() for p in layer.parameters(recurse=False)) for layer in model.modules()]
    return [count for count in counts if count]


def randomized(model: nn.Module) -> nn.Module:
    """float64 with biases other than 0."""
    for name, parameter in model.double().named_parameters():
        if name.endswith("bias"):
            nn.init.normal_(parameter)
    return model


@pytest.mark.parametrize(
    ("widths", "layers", "total"),
    [
        ((64,), [50_240, 50_960], 101_200),
        ((256, 128, 64), [200_960, 32_896, 8_256, 8_320, 33_024, 201_488], 484_944),
        ((128, 64, 32), [100_480, 8_256, 2_080, 2_112, 8_320, 101_136], 222_384),
        ((64, 32, 16), [50_240, 2_080, 528, 544, 2_112, 50_960], 106_464),
    ],
)
def test_number_of_parameters_of_the_dense_networks(widths: tuple[int, ...], layers: list[int], total: int) -> None:
    model = DenseAutoencoder(AutoencoderConfig(widths=widths))
    assert parameters(model) == layers
    assert sum(layers) == total


def test_number_of_parameters_of_the_denoiser() -> None:
    model = ConvDenoiser(ConvDenoiserConfig())
    assert parameters(model) == [160, 1_160, 584, 1_168, 145]
    assert (sum(parameters(model.encoder)), sum(parameters(model.decoder))) == (1_320, 1_897)
    assert sum(parameters(model)) == 3_217


def test_shapes_of_every_layer_of_the_denoiser() -> None:
    model = ConvDenoiser(ConvDenoiserConfig())
    seen: list[tuple[int, ...]] = []
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            layer.register_forward_hook(lambda layer, given, result: seen.append(tuple(result.shape[1:])))
    images = model(torch.rand(2, 1, 28, 28))
    assert seen == [(16, 14, 14), (8, 7, 7), (8, 14, 14), (16, 28, 28), (1, 28, 28)]
    assert images.shape == (2, 1, 28, 28)
    assert model.code_shape == (8, 7, 7)


def test_names_of_the_weights_are_those_of_the_first_release() -> None:
    def names(*places: str) -> set[str]:
        return {f"{place}.{kind}" for place in places for kind in ("weight", "bias")}

    dense = names("encoder.1", "encoder.3", "decoder.0", "decoder.2")
    assert DenseAutoencoder(SMALL).state_dict().keys() == dense
    tied = dense - {"decoder.0.weight", "decoder.2.weight"}
    assert DenseAutoencoder(SMALL.replace(tied=True)).state_dict().keys() == tied
    conv = names("encoder.0", "encoder.2", "decoder.0", "decoder.2", "decoder.4")
    assert ConvDenoiser(DENOISER).state_dict().keys() == conv


@pytest.mark.parametrize("tied", [False, True])
def test_the_dense_formula_written_out(tied: bool) -> None:
    model = randomized(DenseAutoencoder(SMALL.replace(tied=tied, activation="tanh", code_activation="linear")))
    state = {name: value.numpy() for name, value in model.state_dict().items()}
    images = torch.rand(4, 2, 2, 3, dtype=torch.float64)
    hidden = np.tanh(images.reshape(4, 12).numpy() @ state["encoder.1.weight"].T + state["encoder.1.bias"])
    codes = hidden @ state["encoder.3.weight"].T + state["encoder.3.bias"]
    back = [state["encoder.3.weight"].T, state["encoder.1.weight"].T]
    weights = back if tied else [state["decoder.0.weight"], state["decoder.2.weight"]]
    hidden = np.tanh(codes @ weights[0].T + state["decoder.0.bias"])
    logits = (hidden @ weights[1].T + state["decoder.2.bias"]).reshape(4, 2, 2, 3)
    double = for_dtype(torch.float64)
    with torch.no_grad():
        np.testing.assert_allclose(model.encode(images), codes, **double)
        np.testing.assert_allclose(model.logits(images), logits, **double)
        np.testing.assert_allclose(model(images), 1 / (1 + np.exp(-logits)), **double)


def test_the_denoiser_is_kerass_geometry_written_out() -> None:
    """Rows are added after the image in the encoder, and dropped after it in the decoder; kernels are kept turned."""
    model = randomized(ConvDenoiser(DENOISER))
    state = {name: value.flip(2, 3) if value.dim() == 4 else value for name, value in model.state_dict().items()}
    images = torch.rand(3, 1, 8, 8, dtype=torch.float64)
    x = images
    for name in ("encoder.0", "encoder.2"):
        x = F.conv2d(F.pad(x, (0, 1, 0, 1)), state[f"{name}.weight"], state[f"{name}.bias"], stride=2).relu()
    torch.testing.assert_close(model.encode(images), x, **for_dtype(torch.float64))
    codes = x
    for name in ("decoder.0", "decoder.2"):
        x = F.conv_transpose2d(x, state[f"{name}.weight"], state[f"{name}.bias"], stride=2)[..., :-1, :-1].relu()
    logits = F.conv2d(x, state["decoder.4.weight"], state["decoder.4.bias"], padding=1)
    torch.testing.assert_close(model.logits(images), logits, **for_dtype(torch.float64))
    torch.testing.assert_close(model.decode_logits(codes), logits, **for_dtype(torch.float64))
    torch.testing.assert_close(model(images), 1 / (1 + (-logits).exp()), **for_dtype(torch.float64))


@given(
    shape=st.lists(st.integers(1, 4), min_size=1, max_size=3).map(tuple),
    widths=st.lists(st.integers(1, 5), min_size=1, max_size=3).map(tuple),
    tied=st.booleans(),
    N=st.integers(0, 3),
)
def test_dense_shapes_and_range_at_any_size(
    shape: tuple[int, ...], widths: tuple[int, ...], tied: bool, N: int
) -> None:
    model = DenseAutoencoder(AutoencoderConfig(shape, widths, tied=tied))
    images = torch.rand(N, *shape)
    codes, rebuilt = model.encode(images), model(images)
    assert codes.shape == (N, widths[-1])
    assert (codes >= 0).all()  # ReLU
    assert rebuilt.shape == images.shape
    assert ((rebuilt >= 0) & (rebuilt <= 1)).all()
    assert torch.equal(rebuilt, model.decode(codes))
    assert torch.equal(rebuilt, model.logits(images).sigmoid())


@given(
    folds=st.integers(1, 3), times=st.integers(1, 3), channels=st.integers(1, 3), width=st.integers(1, 3),
    N=st.integers(0, 3),
)  # fmt: skip
def test_denoiser_shapes_and_range_at_any_size(folds: int, times: int, channels: int, width: int, N: int) -> None:
    side = times * 2**folds
    model = ConvDenoiser(ConvDenoiserConfig(side, channels, (width,) * folds))
    images = torch.rand(N, channels, side, side)
    rebuilt = model(images)
    assert model.encode(images).shape == (N, *model.code_shape) == (N, width, times, times)
    assert rebuilt.shape == images.shape
    assert ((rebuilt >= 0) & (rebuilt <= 1)).all()
    assert torch.equal(rebuilt, model.logits(images).sigmoid())


@pytest.mark.parametrize(
    "model",
    [
        DenseAutoencoder(SMALL.replace(activation="tanh")),
        DenseAutoencoder(SMALL.replace(activation="leaky_relu", tied=True, output_activation="linear")),
        ConvDenoiser(ConvDenoiserConfig(resolution=4, channels=(2,))),
    ],
    ids=["dense", "tied", "conv"],
)
def test_first_and_second_derivatives(model: nn.Module) -> None:
    model = randomized(copy.deepcopy(model))
    config = model.config
    shape = getattr(config, "input_shape", (1, 4, 4))
    images = torch.rand(2, *shape, dtype=torch.float64, requires_grad=True)
    names = [name for name, _ in model.named_parameters()]
    values = [p.detach().requires_grad_() for p in model.parameters()]

    def call(images: Tensor, *values: Tensor) -> Tensor:
        return torch.func.functional_call(model, dict(zip(names, values, strict=True)), (images,))

    assert torch.autograd.gradcheck(call, (images, *values), fast_mode=True)
    assert torch.autograd.gradgradcheck(call, (images, *values), fast_mode=True)


def test_tied_weights_stay_tied_in_copies_and_on_loading() -> None:
    config = SMALL.replace(tied=True, activation="tanh")  # no unit is dead
    model = DenseAutoencoder(config)
    twin = copy.deepcopy(model)
    images = torch.rand(3, 2, 2, 3)
    assert torch.equal(model(images), twin(images))
    nn.init.zeros_(twin.encoder[1].weight)
    nn.init.zeros_(twin.encoder[3].weight)
    assert torch.equal(twin.logits(images), torch.zeros(3, 2, 2, 3))  # the copy's decoder reads the copy's encoder
    assert model.logits(images).any()
    twin.load_state_dict(model.state_dict())
    assert torch.equal(model(images), twin(images))
    assert sum(p.numel() for p in model.parameters()) == 12 * 5 + 5 * 3 + (5 + 3) + (5 + 12)


def test_weights_begin_as_the_configuration_says() -> None:
    for model in (DenseAutoencoder(AutoencoderConfig()), ConvDenoiser(ConvDenoiserConfig())):
        for layer in model.modules():
            if isinstance(layer, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
                fans = layer.weight.shape[0] + layer.weight.shape[1]
                bound = (6 / (fans * layer.weight[0, 0].numel())) ** 0.5
                assert 0.8 * bound < layer.weight.abs().max() <= bound
                assert not layer.bias.any()
    model = DenseAutoencoder(AutoencoderConfig(initialization="normal01"))
    np.testing.assert_allclose(model.encoder[1].weight.std().item(), 1.0, **named("std_of_20000"))
    torch.manual_seed(1)
    first = DenseAutoencoder(SMALL).state_dict()
    torch.manual_seed(1)
    assert all(torch.equal(first[name], value) for name, value in DenseAutoencoder(SMALL).state_dict().items())


@pytest.mark.parametrize("model", [DenseAutoencoder(AutoencoderConfig((1, 8, 8), (4,))), ConvDenoiser(DENOISER)])
def test_in_low_precision_the_images_are_float32(model: nn.Module) -> None:
    images = torch.rand(2, 1, 8, 8)
    with torch.autocast("cpu", torch.bfloat16):
        assert model.logits(images).dtype == torch.bfloat16
        rebuilt = model(images)
    assert rebuilt.dtype == torch.float32
    torch.testing.assert_close(rebuilt, model(images), **for_dtype(torch.bfloat16))


def test_channels_last_gives_the_same() -> None:
    images = torch.rand(3, 2, 4, 4, dtype=torch.float64)
    for model in (
        DenseAutoencoder(AutoencoderConfig((2, 4, 4), (5,))).double(),
        ConvDenoiser(ConvDenoiserConfig(4, 2, (3,))).double(),
    ):
        last = copy.deepcopy(model).to(memory_format=torch.channels_last)
        rebuilt = last(images.to(memory_format=torch.channels_last))
        torch.testing.assert_close(rebuilt, model(images), **for_dtype(torch.float64))


@pytest.mark.parametrize("config", [SMALL.replace(tied=True, code_activation="linear"), DENOISER])
def test_configurations_survive_json(config: AutoencoderConfig | ConvDenoiserConfig) -> None:
    again = type(config).from_json(config.to_json())
    assert again == config
    assert hash(again) == hash(config)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"widths": ()}, "`widths`"),
        ({"widths": (3, 0)}, "`widths`"),
        ({"widths": (3.0,)}, "`widths`"),
        ({"input_shape": ()}, "`input_shape`"),
        ({"input_shape": (1, -2)}, "`input_shape`"),
        ({"activation": "swish"}, "`activation` is 'swish', but must be one of relu"),
        ({"activation": None}, "`activation` is None"),
        ({"code_activation": ""}, "`code_activation` is ''"),
        ({"output_activation": "softmax"}, "`output_activation`"),
        ({"initialization": "zeros"}, "`initialization` is 'zeros'"),
    ],
)
def test_dense_configurations_that_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AutoencoderConfig(**changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"resolution": 30}, "`resolution` is 30, but must be a multiple of 4"),
        ({"resolution": 0}, "`resolution`"),
        ({"image_channels": 0}, "`image_channels`"),
        ({"channels": ()}, "`channels`"),
        ({"channels": (4, 0)}, "`channels`"),
        ({"initialization": None}, "`initialization`"),
    ],
)
def test_denoiser_configurations_that_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ConvDenoiserConfig(**changes)  # type: ignore[arg-type]


def test_shapes_that_do_not_fit_are_refused() -> None:
    dense, conv = DenseAutoencoder(SMALL), ConvDenoiser(DENOISER)
    with pytest.raises(ValueError, match=r"`images` is \(4, 12\), but must be \[N, 2, 2, 3\]"):
        dense(torch.zeros(4, 12))
    with pytest.raises(ValueError, match=r"`codes` is \(4, 5\), but must be \[N, 3\]"):
        dense.decode(torch.zeros(4, 5))
    with pytest.raises(ValueError, match=r"`images` is \(4, 1, 8, 4\), but must be \[N, 1, 8, 8\]"):
        conv(torch.zeros(4, 1, 8, 4))
    with pytest.raises(ValueError, match=r"`codes` is \(4, 2, 4, 4\), but must be \[N, 2, 2, 2\]"):
        conv.decode(torch.zeros(4, 2, 4, 4))
