"""The networks that name painters: their parameters to the last one, their formulas, and what they refuse."""

import json
import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from ganblocks.models.config import ModelConfig
from ganblocks.models.painting_classifier import (
    PaintingCNN,
    PaintingCNNConfig,
    PaintingMLP,
    PaintingMLPConfig,
    TwoLayerPaintingCNN,
    TwoLayerPaintingCNNConfig,
)
from tolerances import for_dtype

CNN = PaintingCNNConfig(7, 2, 3, (2, 3), 4)
BETTER = CNN.replace(norm=True, pooling="average")
MLP = PaintingMLPConfig(3, 2, 3, 4)
TWO = TwoLayerPaintingCNNConfig(7, 2, 3, (2, 3), 4)
SMALL = [(PaintingCNN, CNN), (PaintingCNN, BETTER), (PaintingMLP, MLP), (TwoLayerPaintingCNN, TWO)]
KINDS = ["cnn", "better", "mlp", "two"]


def build(kind: type[nn.Module], config: ModelConfig) -> nn.Module:
    """In float64 and evaluation mode; biases and statistics of normalisation are drawn, so that they matter."""
    model = kind(config)
    for name, tensor in model.state_dict().items():
        if name.endswith("running_var"):
            nn.init.uniform_(tensor, 0.5, 2.0)
        elif name.endswith("bias"):
            nn.init.uniform_(tensor, 0.5, 1.5)  # so that the ReLU lets most of it through
        elif name.endswith("running_mean"):
            nn.init.normal_(tensor)
        elif name.endswith("norm.weight"):  # of either sign, which pooling would feel
            nn.init.uniform_(tensor, 0.5, 2.0)
            tensor[::2].neg_()
    return model.double().eval()


def images_for(config: Any, N: int = 4) -> Tensor:
    shape = (N, config.image_channels, config.resolution, config.resolution)
    return torch.rand(shape, dtype=torch.float64) * 2 - 1


def count(kind: type[nn.Module], config: ModelConfig) -> int:
    with torch.device("meta"):
        return sum(p.numel() for p in kind(config).parameters())


@pytest.mark.parametrize(
    ("kind", "config", "total"),
    [
        (PaintingCNN, PaintingCNNConfig(num_classes=49), 11_244_881),
        (PaintingCNN, PaintingCNNConfig(), 11_245_010),
        (PaintingCNN, PaintingCNNConfig(num_classes=51), 11_245_139),
        (PaintingMLP, PaintingMLPConfig(), 3_000_605),
        (PaintingMLP, PaintingMLPConfig(num_classes=10), 3_001_110),
        (PaintingMLP, PaintingMLPConfig(num_classes=50), 3_005_150),
        (PaintingMLP, PaintingMLPConfig(feature_dim=128), 3_840_773),
        (TwoLayerPaintingCNN, TwoLayerPaintingCNNConfig(), 47_207_237),
    ],
)
def test_the_published_totals(kind: type[nn.Module], config: ModelConfig, total: int) -> None:
    assert count(kind, config) == total


def test_layer_by_layer_as_published() -> None:
    with torch.device("meta"):
        model = PaintingCNN(PaintingCNNConfig(num_classes=49))
        two = TwoLayerPaintingCNN(TwoLayerPaintingCNNConfig())
    layers = [*[block.conv for block in model.blocks], model.dense, model.head]
    assert [sum(p.numel() for p in layer.parameters()) for layer in layers] == [448, 4_640, 18_496, 11_214_976, 6_321]
    assert model.dense.in_features == 87_616
    layers = [two.conv1, two.conv2, two.dense, two.head]
    assert [sum(p.numel() for p in layer.parameters()) for layer in layers] == [896, 18_496, 47_186_240, 1_605]


def test_normalisation_and_average_pooling_by_hand() -> None:
    first, second = 9 * 3 * 16 + 2 * 16, 9 * 16 * 32 + 2 * 32
    dense, head = 32 * 24 + 2 * 24, 24 * 10 + 10
    config = PaintingCNNConfig(64, 3, 10, (16, 32), 24, norm=True, pooling="average")
    assert count(PaintingCNN, config) == first + second + dense + head


def test_names_of_the_weights_are_those_of_the_first_release() -> None:
    both = ("weight", "bias")
    plain = {f"{layer}.{name}" for layer in ("blocks.0.conv", "blocks.1.conv", "dense", "head") for name in both}
    assert PaintingCNN(CNN).state_dict().keys() == plain
    assert PaintingMLP(MLP).state_dict().keys() == {f"{layer}.{name}" for layer in ("dense", "head") for name in both}
    names = {f"{layer}.{name}" for layer in ("conv1", "conv2", "dense", "head") for name in both}
    assert TwoLayerPaintingCNN(TWO).state_dict().keys() == names
    norm = ("bias", "num_batches_tracked", "running_mean", "running_var", "weight")
    names = {f"{place}.{name}" for place in ("blocks.0.norm", "blocks.1.norm", "norm") for name in norm}
    names |= {"blocks.0.conv.weight", "blocks.1.conv.weight", "dense.weight", "head.weight", "head.bias"}
    assert PaintingCNN(BETTER).state_dict().keys() == names


def test_weights_begin_as_in_keras() -> None:
    model = PaintingCNN(PaintingCNNConfig(16, 3, 10, (16, 32)))
    fans = {"blocks.0.conv": 9 * (3 + 16), "blocks.1.conv": 9 * (16 + 32), "dense": 512 + 128, "head": 138}
    state = model.state_dict()
    for name, fan in fans.items():
        assert not state[f"{name}.bias"].any()
        limit = math.sqrt(6 / fan)
        assert 0.95 * limit < float(state[f"{name}.weight"].abs().max()) <= limit


def normalised(x: Tensor, state: dict[str, Tensor], name: str) -> Tensor:
    if f"{name}.weight" not in state:
        return x
    keys = ("running_mean", "running_var", "weight", "bias")
    mean, variance, scale, shift = (state[f"{name}.{key}"].reshape(1, -1, *[1] * (x.dim() - 2)) for key in keys)
    return (x - mean) / (variance + 1e-5).sqrt() * scale + shift


def pooled(x: Tensor) -> Tensor:
    N, C, H, W = x.shape
    return x[..., : H // 2 * 2, : W // 2 * 2].reshape(N, C, H // 2, 2, W // 2, 2).amax(dim=(3, 5))


@pytest.mark.parametrize("norm", [False, True])
@pytest.mark.parametrize("pooling", ["flatten", "average"])
def test_the_painting_cnn_written_out(norm: bool, pooling: str) -> None:
    config = CNN.replace(norm=norm, pooling=pooling, resolution=9)
    model, images = build(PaintingCNN, config), images_for(config)
    state = model.state_dict()
    x = (images + 1) / 2  # the division by 255 of the source
    for block in ("blocks.0", "blocks.1"):
        x = F.conv2d(x, state[f"{block}.conv.weight"], state.get(f"{block}.conv.bias"), padding=1)
        if norm:  # pooling stands first, as a negative scale shows where the ReLU lets it through
            x = normalised(pooled(x), state, f"{block}.norm").clamp(min=0)
        else:
            x = pooled(x.clamp(min=0))  # the order of the source
        assert (x > 0).double().mean() > 0.3
    x = x.mean(dim=(2, 3)) if pooling == "average" else x.reshape(4, 12)
    x = normalised(x @ state["dense.weight"].T + state.get("dense.bias", 0.0), state, "norm").clamp(min=0)
    torch.testing.assert_close(model.features(images), x, **for_dtype(torch.float64))
    logits = x @ state["head.weight"].T + state["head.bias"]
    torch.testing.assert_close(model(images), logits, **for_dtype(torch.float64))


def test_the_other_two_written_out() -> None:
    model, images = build(PaintingMLP, MLP), images_for(MLP)
    state = model.state_dict()
    x = ((images + 1) / 2).reshape(4, 18)
    x = (x @ state["dense.weight"].T + state["dense.bias"]).clamp(min=0)
    logits = x @ state["head.weight"].T + state["head.bias"]
    torch.testing.assert_close(model(images), logits, **for_dtype(torch.float64))

    model, images = build(TwoLayerPaintingCNN, TWO), images_for(TWO)
    state = model.state_dict()
    x = F.conv2d((images + 1) / 2, state["conv1.weight"], state["conv1.bias"]).clamp(min=0)
    x = pooled(F.conv2d(x, state["conv2.weight"], state["conv2.bias"]).clamp(min=0)).reshape(4, 3)
    x = (x @ state["dense.weight"].T + state["dense.bias"]).clamp(min=0)
    logits = x @ state["head.weight"].T + state["head.bias"]
    torch.testing.assert_close(model(images), logits, **for_dtype(torch.float64))


@given(
    resolution=st.integers(4, 11),
    num_classes=st.integers(1, 4),
    channels=st.lists(st.integers(1, 3), min_size=1, max_size=2),
    norm=st.booleans(),
    pooling=st.sampled_from(["flatten", "average"]),
    N=st.integers(0, 3),
)
def test_head_of_the_features_is_the_forward_pass_at_any_shape(
    resolution: int, num_classes: int, channels: list[int], norm: bool, pooling: Any, N: int
) -> None:
    cnn = PaintingCNNConfig(resolution, 1, num_classes, tuple(channels), 5, norm=norm, pooling=pooling)
    mlp = PaintingMLPConfig(resolution, 1, num_classes, 5)
    two = TwoLayerPaintingCNNConfig(max(6, resolution), 1, num_classes, (1, 2), 5)
    for kind, config in ((PaintingCNN, cnn), (PaintingMLP, mlp), (TwoLayerPaintingCNN, two)):
        model, images = build(kind, config), images_for(config, N)
        features = model.features(images)
        assert features.shape == (N, 5)
        assert (features >= 0).all()
        assert model(images).shape == (N, num_classes)
        assert torch.equal(model.head(features), model(images))


@pytest.mark.parametrize(("kind", "config"), SMALL, ids=KINDS)
def test_an_image_is_classified_alone_as_in_a_batch(kind: type[nn.Module], config: ModelConfig) -> None:
    model, images = build(kind, config), images_for(config)
    alone = torch.cat([model(image[None]) for image in images])
    torch.testing.assert_close(alone, model(images), **for_dtype(torch.float64))


@pytest.mark.parametrize(("kind", "config"), SMALL, ids=KINDS)
def test_first_and_second_derivatives(kind: type[nn.Module], config: ModelConfig) -> None:
    model, images = build(kind, config), images_for(config, 2).requires_grad_()
    parameters = [p.detach().requires_grad_() for p in model.parameters()]
    names = [name for name, _ in model.named_parameters()]

    def call(images: Tensor, *values: Tensor) -> Tensor:
        return torch.func.functional_call(model, dict(zip(names, values, strict=True)), (images,))

    assert torch.autograd.gradcheck(call, (images, *parameters))
    assert torch.autograd.gradgradcheck(call, (images, *parameters), fast_mode=True)


def test_dropout_stands_where_the_sources_have_it() -> None:
    def share_of_zeros(model: nn.Module, layer: nn.Module, images: Tensor) -> float:
        seen: list[Tensor] = []
        layer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
        model.train()(images)
        return float((seen[0] == 0).double().mean())

    images = torch.rand(64, 1, 8, 8) + 0.5
    cnn = PaintingCNN(PaintingCNNConfig(8, 1, 2, (4,), 64))
    nn.init.constant_(cnn.blocks[0].conv.weight, 0.1)  # no zero from a ReLU
    assert 0.17 < share_of_zeros(cnn, cnn.dense, images) < 0.23
    two = TwoLayerPaintingCNN(TwoLayerPaintingCNNConfig(8, 1, 2, (4, 16), 64))
    for layer in (two.conv1, two.conv2, two.dense):
        nn.init.constant_(layer.weight, 0.1)
    assert 0.22 < share_of_zeros(two, two.dense, images) < 0.28
    assert 0.46 < share_of_zeros(two, two.head, images) < 0.54
    assert not any(isinstance(module, nn.Dropout) for module in PaintingMLP(MLP).modules())


@pytest.mark.parametrize(("kind", "config"), SMALL, ids=KINDS)
def test_channels_last_gives_the_same(kind: type[nn.Module], config: ModelConfig) -> None:
    model, images = build(kind, config), images_for(config)
    expected = model(images)
    result = model.to(memory_format=torch.channels_last)(images.contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(result, expected, **for_dtype(torch.float64))


@pytest.mark.parametrize(("kind", "config"), SMALL, ids=KINDS)
def test_a_handful_of_classes_is_learnt_by_heart(kind: type[nn.Module], config: ModelConfig) -> None:
    config = config.replace(feature_dim=32, **({} if "channels" not in config.to_dict() else {"channels": (8, 8)}))
    model, images, labels = kind(config), images_for(config, 6).float(), torch.arange(6) % 3
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(80):
        optimizer.zero_grad()
        F.cross_entropy(model(images), labels).backward()
        optimizer.step()
    assert torch.equal(model.eval()(images).argmax(1), labels)


@pytest.mark.parametrize(("kind", "config"), SMALL, ids=KINDS)
def test_images_of_another_shape_are_refused(kind: type[nn.Module], config: Any) -> None:
    side = config.resolution
    for shape in ((2, 2, side, side + 1), (2, 1, side, side), (2, side, side), (2, 2, side + 1, side + 1)):
        with pytest.raises(ValueError, match=rf"`images` is .* must be \[N, 2, {side}, {side}\]"):
            kind(config)(torch.zeros(shape))


@pytest.mark.parametrize("config", [config for _, config in SMALL], ids=KINDS)
def test_json_round_trip(config: ModelConfig) -> None:
    assert type(config).from_json(config.to_json()) == config
    assert config.to_dict() == json.loads(config.to_json())
    assert len({config, type(config).from_dict(config.to_dict())}) == 1


@pytest.mark.parametrize(
    ("kind", "field", "value"),
    [
        (PaintingCNNConfig, "resolution", 7),
        (PaintingCNNConfig, "resolution", 1025),
        (PaintingCNNConfig, "resolution", 64.0),
        (PaintingCNNConfig, "image_channels", 0),
        (PaintingCNNConfig, "num_classes", True),
        (PaintingCNNConfig, "channels", ()),
        (PaintingCNNConfig, "channels", (4, 0)),
        (PaintingCNNConfig, "feature_dim", 0),
        (PaintingCNNConfig, "dropout", 1.0),
        (PaintingCNNConfig, "dropout", -0.1),
        (PaintingCNNConfig, "norm", 1),
        (PaintingCNNConfig, "pooling", "max"),
        (PaintingMLPConfig, "resolution", 0),
        (PaintingMLPConfig, "resolution", 1025),
        (PaintingMLPConfig, "feature_dim", 0),
        (TwoLayerPaintingCNNConfig, "resolution", 5),
        (TwoLayerPaintingCNNConfig, "channels", (1, 2, 3)),
        (TwoLayerPaintingCNNConfig, "dropout", (0.5,)),
        (TwoLayerPaintingCNNConfig, "dropout", (0.5, 1.0)),
        (TwoLayerPaintingCNNConfig, "num_classes", 0),
    ],
)
def test_values_out_of_range_are_named(kind: type[ModelConfig], field: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"`{field}`"):
        kind(**{field: value})
