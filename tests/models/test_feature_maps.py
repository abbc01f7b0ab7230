"""Fixed networks behind perceptual losses: torchvision's own VGG19 beside ours, weights from files, recomputation."""

from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from ganblocks.errors import CheckpointError
from ganblocks.models.feature_maps import FeatureMaps, PaintingFeatures, VGG19Features
from ganblocks.models.painting_classifier import PaintingCNN, PaintingCNNConfig
from tolerances import for_dtype

MEAN, STD = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
PLACES = {"block1_conv1": 0, "block1_conv2": 2, "block2_conv1": 5, "block3_conv1": 10, "block3_conv4": 16}


def random_images(N: int = 2, H: int = 16, W: int = 20) -> Tensor:
    return torch.rand(N, 3, H, W, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def theirs() -> Any:
    models = pytest.importorskip("torchvision.models", reason="torchvision's network is the oracle")
    torch.manual_seed(0)
    with torch.device("meta"):
        network = models.vgg19()
    features = network.features[:18].to_empty(device="cpu")
    for layer in features:
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight)
            nn.init.normal_(layer.bias, std=0.1)
    return features


def test_maps_are_those_of_torchvision(theirs: Any) -> None:
    state = {f"features.{name}": tensor for name, tensor in theirs.state_dict().items()}
    model = VGG19Features(tuple(PLACES), state)
    images = random_images()
    found = model(images)
    assert list(found) == list(PLACES)
    x = (images - MEAN[:, None, None]) / STD[:, None, None]
    for place, layer in enumerate(theirs):
        x = layer(x.clone())
        for name, convolution in PLACES.items():
            if place == convolution + 1:  # its ReLU
                torch.testing.assert_close(found[name], x, **for_dtype(torch.float32))


def test_averages_and_the_original_preprocessing() -> None:
    seeded = [torch.Generator().manual_seed(3) for _ in range(2)]
    layers = ("block1_conv1", "block2_conv1")
    plain = VGG19Features(layers, generator=seeded[0])
    other = VGG19Features(layers, pooling="average", preprocessing="caffe", generator=seeded[1])
    images = random_images()
    bytes_ = 255 * images[:, [2, 1, 0]] - torch.tensor([103.939, 116.779, 123.68])[:, None, None]
    first: Any = plain.blocks[0]
    expected = first["block1_conv1"](bytes_)
    torch.testing.assert_close(other(images)["block1_conv1"], expected, **for_dtype(torch.float32))
    both = nn.functional.avg_pool2d(first["block1_conv2"](expected), 2)
    second: Any = plain.blocks[1]
    torch.testing.assert_close(other(images)["block2_conv1"], second["block2_conv1"](both), **for_dtype(torch.float32))


def test_the_convolutions_of_all_blocks_have_the_published_parameters() -> None:
    with torch.device("meta"):
        model = VGG19Features(["block5_conv4"])
    assert sum(p.numel() for p in model.parameters()) == 20_024_384


def test_nothing_behind_the_last_layer_and_nothing_to_train() -> None:
    model = VGG19Features(["block2_conv1"])
    assert sum(isinstance(layer, nn.Conv2d) for layer in model.modules()) == 3
    assert not any(p.requires_grad for p in model.parameters())
    assert not model.train().training
    assert model.smallest_side == 2


@pytest.mark.parametrize("kind", ["vgg", "paintings"])
def test_recomputing_changes_no_gradient(kind: str) -> None:
    images = random_images(1)
    gradients = []
    for recompute in (False, True):
        torch.manual_seed(0)
        model: FeatureMaps
        if kind == "vgg":
            layers = ["block1_conv2", "block2_conv1", "block2_conv2"]
            model = VGG19Features(layers, recompute=recompute, generator=torch.Generator().manual_seed(0))
        else:
            model = PaintingFeatures(PaintingCNN(PaintingCNNConfig(16, 3, 4, (4, 5), 3)), recompute=recompute)
        x = images.clone().requires_grad_()
        loss = sum(maps.square().mean() for maps in model(x).values())
        assert isinstance(loss, Tensor)
        loss.backward()
        assert x.grad is not None
        gradients.append(x.grad)
    assert torch.equal(*gradients)
    assert bool(gradients[0].any())


def test_weights_come_from_a_file_and_dense_layers_are_left_aside(tmp_path: Path) -> None:
    layers = ["block1_conv1", "block1_conv2"]
    state = {
        "features.0.weight": torch.randn(64, 3, 3, 3),
        "features.0.bias": torch.randn(64),
        "features.2.weight": torch.randn(64, 64, 3, 3),
        "features.2.bias": torch.randn(64),
        "features.5.weight": torch.randn(128, 64, 3, 3),  # behind the last layer
        "classifier.0.weight": torch.randn(4, 4),
    }
    safetensors.torch.save_file(state, tmp_path / "vgg19.safetensors")
    model = VGG19Features(layers, tmp_path / "vgg19.safetensors")
    convolution: Any = model.blocks[0]
    assert torch.equal(convolution["block1_conv2"][0].weight, state["features.2.weight"])
    assert torch.equal(convolution["block1_conv1"][0].bias, state["features.0.bias"])
    for wrong in (
        {**state, "features.2.weight": torch.randn(64, 64, 1, 1)},
        {name: tensor for name, tensor in state.items() if name != "features.0.bias"},
    ):
        with pytest.raises(CheckpointError, match="torchvision's vgg19"):
            VGG19Features(layers, wrong)
    with pytest.raises(CheckpointError, match="no file"):
        VGG19Features(layers, tmp_path / "other.safetensors")
    (tmp_path / "broken.safetensors").write_bytes(b"no weights")
    with pytest.raises(CheckpointError, match="safetensors"):
        VGG19Features(layers, tmp_path / "broken.safetensors")
    with pytest.raises(ValueError, match="checkpoint import"):
        VGG19Features(layers, tmp_path / "vgg19.pth")


def test_maps_of_a_painting_classifier_are_its_blocks() -> None:
    classifier = PaintingCNN(PaintingCNNConfig(16, 3, 4, (4, 5), 3, norm=True, pooling="average"))
    classifier(random_images(2, 16, 16))  # statistics that are not those of the beginning
    model = PaintingFeatures(classifier)
    images = random_images(2, 10, 12)  # of any size
    first = classifier.blocks[0](images)
    found = model(images)
    assert list(found) == ["block1", "block2"]
    assert torch.equal(found["block1"], first)
    assert torch.equal(found["block2"], classifier.blocks[1](first))
    assert list(PaintingFeatures(classifier, ["block1"])(images)) == ["block1"]
    assert model.smallest_side == 4


def test_what_does_not_fit_is_told() -> None:
    for layers in ([], ["block6_conv1"], ["block1_conv1", "block1_conv1"]):
        with pytest.raises(ValueError, match="layers"):
            VGG19Features(layers)
    with pytest.raises(ValueError, match="pooling"):
        VGG19Features(["block1_conv1"], pooling="median")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="preprocessing"):
        VGG19Features(["block1_conv1"], preprocessing="keras")  # type: ignore[arg-type]
    model = VGG19Features(["block2_conv1"])
    for images in (torch.rand(1, 1, 8, 8), torch.rand(3, 8, 8), torch.rand(1, 3, 1, 8)):
        with pytest.raises(ValueError, match=r"\[N, 3, H, W\] with at least 2 pixels"):
            model(images)
