"""The small classifier: its parameters to the last one, its features, and what its configuration refuses."""

import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from ganblocks.models.classifier import ClassifierConfig, SmallClassifier
from tolerances import for_dtype

SMALL = ClassifierConfig(resolution=6, image_channels=2, num_classes=3, channels=(2, 3), feature_dim=4, dropout=0.5)


def warmed(config: ClassifierConfig, **options: object) -> SmallClassifier:
    """In evaluation mode, with running statistics and scales that differ from those of the start."""
    model = SmallClassifier(config)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm1d | torch.nn.BatchNorm2d):
            torch.nn.init.normal_(module.running_mean)
            torch.nn.init.uniform_(module.running_var, 0.5, 2.0)
            torch.nn.init.uniform_(module.weight, -2.0, 2.0)  # a sign that pooling would feel
            torch.nn.init.normal_(module.bias)
    return model.to(**options).eval()


def test_number_of_parameters_by_hand() -> None:
    first, second = 9 * 1 * 32 + 2 * 32, 9 * 32 * 64 + 2 * 64
    dense, head = 64 * 7 * 7 * 128 + 2 * 128, 128 * 10 + 10
    assert first + second + dense + head == 421_866
    assert sum(p.numel() for p in SmallClassifier(ClassifierConfig()).parameters()) == 421_866


def test_names_of_the_weights_are_those_of_the_first_release() -> None:
    norm = ("bias", "num_batches_tracked", "running_mean", "running_var", "weight")
    names = {f"{place}.{name}" for place in ("blocks.0.norm", "blocks.1.norm", "norm") for name in norm}
    names |= {"blocks.0.conv.weight", "blocks.1.conv.weight", "dense.weight", "head.weight", "head.bias"}
    assert SmallClassifier(SMALL).state_dict().keys() == names


def test_the_formula_written_out() -> None:
    model = warmed(SMALL, dtype=torch.float64)
    state = model.state_dict()

    def normalised(x: Tensor, name: str) -> Tensor:
        mean, variance, scale, shift = (
            state[f"{name}.{key}"].reshape(1, -1, *[1] * (x.dim() - 2))
            for key in ("running_mean", "running_var", "weight", "bias")
        )
        return (x - mean) / (variance + 1e-5).sqrt() * scale + shift

    x = images = torch.rand(5, 2, 6, 6, dtype=torch.float64) * 2 - 1
    for block in ("blocks.0", "blocks.1"):
        x = F.conv2d(x, state[f"{block}.conv.weight"], padding=1)
        N, C, H, W = x.shape
        x = x[..., : H // 2 * 2, : W // 2 * 2].reshape(N, C, H // 2, 2, W // 2, 2).amax(dim=(3, 5))
        x = normalised(x, f"{block}.norm").clamp(min=0)
    features = normalised(x.reshape(5, 3) @ state["dense.weight"].T, "norm").clamp(min=0)
    logits = features @ state["head.weight"].T + state["head.bias"]
    torch.testing.assert_close(model.features(images), features, **for_dtype(torch.float64))
    torch.testing.assert_close(model(images), logits, **for_dtype(torch.float64))


@given(
    resolution=st.integers(4, 13),
    image_channels=st.integers(1, 3),
    num_classes=st.integers(1, 4),
    channels=st.lists(st.integers(1, 3), min_size=1, max_size=2),
    N=st.integers(0, 4),
)
def test_head_of_the_features_is_the_forward_pass_at_any_shape(
    resolution: int, image_channels: int, num_classes: int, channels: list[int], N: int
) -> None:
    config = ClassifierConfig(resolution, image_channels, num_classes, tuple(channels), feature_dim=5)
    model = warmed(config)
    images = torch.rand(N, image_channels, resolution, resolution) * 2 - 1
    features = model.features(images)
    assert features.shape == (N, 5)
    assert (features >= 0).all()
    assert model(images).shape == (N, num_classes)
    assert torch.equal(model.head(features), model(images))


def test_in_training_the_features_are_dropped_out_and_the_statistics_learnt() -> None:
    model, images = SmallClassifier(SMALL), torch.rand(8, 2, 6, 6)
    a, b = model(images), model(images)
    assert not torch.equal(a, b)
    assert int(model.norm.num_batches_tracked) == 2
    model = SmallClassifier(SMALL.replace(dropout=0.0))
    assert torch.equal(model(images), model(images))


def test_an_image_is_classified_alone_as_in_a_batch() -> None:
    model, images = warmed(SMALL, dtype=torch.float64), torch.rand(4, 2, 6, 6, dtype=torch.float64)
    alone = torch.cat([model(image[None]) for image in images])
    torch.testing.assert_close(alone, model(images), **for_dtype(torch.float64))


@pytest.mark.parametrize("training", [False, True])
def test_first_and_second_derivatives(training: bool) -> None:
    config = ClassifierConfig(4, num_classes=2, channels=(2,), feature_dim=3, dropout=0.0)
    model = warmed(config, dtype=torch.float64).train(training)
    for module in model.modules():
        module.momentum = 0.0  # a function of its input, at each of the many calls
    images = (torch.rand(3, 1, 4, 4, dtype=torch.float64) * 2 - 1).requires_grad_()
    parameters = [p.detach().requires_grad_() for p in model.parameters()]
    names = [name for name, _ in model.named_parameters()]

    def call(images: Tensor, *values: Tensor) -> Tensor:
        return torch.func.functional_call(model, dict(zip(names, values, strict=True)), (images,))

    assert torch.autograd.gradcheck(call, (images, *parameters))
    assert torch.autograd.gradgradcheck(call, (images, *parameters), fast_mode=True)


def test_channels_last_gives_the_same() -> None:
    model, images = warmed(SMALL, dtype=torch.float64), torch.rand(4, 2, 6, 6, dtype=torch.float64)
    expected = model(images)
    model = model.to(memory_format=torch.channels_last)
    result = model(images.contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(result, expected, **for_dtype(torch.float64))


@pytest.mark.parametrize("shape", [(2, 2, 6, 5), (2, 1, 6, 6), (2, 6, 6), (2, 2, 8, 8)])
def test_images_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"`images` is .* must be \[N, 2, 6, 6\]"):
        SmallClassifier(SMALL)(torch.zeros(shape))


def test_json_round_trip() -> None:
    assert ClassifierConfig.from_json(SMALL.to_json()) == SMALL
    assert json.loads(SMALL.to_json())["channels"] == [2, 3]
    assert SMALL.to_dict() == json.loads(SMALL.to_json())  # plain JSON, as the metadata of a checkpoint must be
    assert len({SMALL, ClassifierConfig.from_dict(SMALL.to_dict())}) == 1


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("resolution", 3),
        ("resolution", 1025),
        ("resolution", 28.0),
        ("image_channels", 0),
        ("num_classes", 0),
        ("num_classes", True),
        ("channels", ()),
        ("channels", (4, 0)),
        ("channels", ("4",)),
        ("channels", (1,) * 5),
        ("feature_dim", 0),
        ("dropout", 1.0),
        ("dropout", -0.1),
    ],
)
def test_values_out_of_range_are_named(field: str, value: object) -> None:
    name = "resolution" if value == (1,) * 5 else field
    with pytest.raises(ValueError, match=f"`{name}`"):
        ClassifierConfig(**{field: value})  # type: ignore[arg-type]


def test_unknown_fields_are_named() -> None:
    with pytest.raises(ValueError, match="depth"):
        ClassifierConfig.from_dict({"depth": 3})
