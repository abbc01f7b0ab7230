"""A class and attributes from one network: the same features, and nothing of the classifier inside has changed."""

import json
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from ganblocks.errors import CheckpointError
from ganblocks.models.backbones import VGGClassifierConfig
from ganblocks.models.classifier import ClassifierConfig, SmallClassifier
from ganblocks.models.painting_classifier import (
    PaintingCNN,
    PaintingCNNConfig,
    PaintingMLP,
    PaintingMLPConfig,
    TwoLayerPaintingCNN,
    TwoLayerPaintingCNNConfig,
)
from ganblocks.models.registry import classifier_from_metadata, load_classifier
from ganblocks.models.two_head_classifier import TwoHeadClassifier, TwoHeadClassifierConfig
from tolerances import for_dtype

CNN = PaintingCNNConfig(7, 2, 3, (2, 3), 4)
INSIDE: list[Any] = [
    ("painting_cnn", PaintingCNN(CNN)),
    ("painting_cnn", PaintingCNN(CNN.replace(norm=True, pooling="average"))),
    ("painting_mlp", PaintingMLP(PaintingMLPConfig(3, 2, 3, 4))),
    ("two_layer_painting_cnn", TwoLayerPaintingCNN(TwoLayerPaintingCNNConfig(7, 2, 3, (2, 3), 4))),
]


def images_for(classifier: nn.Module, N: int = 3) -> Tensor:
    config: Any = classifier.config
    return torch.rand(N, config.image_channels, config.resolution, config.resolution) * 2 - 1


@pytest.mark.parametrize(("name", "inside"), INSIDE)
def test_both_heads_see_the_features_of_the_classifier_inside(name: str, inside: nn.Module) -> None:
    model = TwoHeadClassifier(inside, 5, name=name).eval()
    nn.init.normal_(model.attribute_head.bias)
    images = images_for(inside)
    logits, attributes = model.both(images)
    assert torch.equal(logits, inside(images))
    assert torch.equal(model(images), logits)
    features: Any = inside.features
    by_hand = features(images) @ model.attribute_head.weight.T + model.attribute_head.bias
    torch.testing.assert_close(attributes, by_hand, **for_dtype(torch.float32))
    assert attributes.shape == (3, 5)


@given(N=st.integers(0, 4), A=st.integers(1, 6))
def test_any_number_of_images_and_attributes(N: int, A: int) -> None:
    model = TwoHeadClassifier(PaintingCNN(CNN), A).eval()
    logits, attributes = model.both(images_for(model.classifier, N))
    assert (tuple(logits.shape), tuple(attributes.shape)) == ((N, 3), (N, A))


def test_gradients_of_both_heads_reach_the_shared_layers() -> None:
    model = TwoHeadClassifier(PaintingCNN(CNN.replace(dropout=0.0)), 2).double()
    nn.init.uniform_(model.classifier.get_parameter("dense.bias"), 0.5, 1.5)
    images = images_for(model.classifier, 2).double().requires_grad_()
    assert torch.autograd.gradcheck(model.both, (images,))
    for part in (0, 1):
        model.zero_grad()
        model.both(images)[part].sum().backward()
        gradient = model.classifier.get_parameter("blocks.0.conv.weight").grad
        assert gradient is not None
        assert bool(gradient.any())


def test_parameters_are_those_inside_and_one_layer() -> None:
    inside = PaintingCNN(PaintingCNNConfig(num_classes=50))
    assert sum(p.numel() for p in TwoHeadClassifier(inside, 31).parameters()) == 11_245_010 + 31 * 129


def test_it_comes_back_from_a_file(tmp_path: Path) -> None:
    model = TwoHeadClassifier(PaintingCNN(CNN), 2).eval()
    about = {"model": "two_head_classifier", "config": json.dumps(model.config.to_dict())}
    safetensors.torch.save_file(model.state_dict(), tmp_path / "classifier.safetensors", about)
    back = load_classifier(tmp_path)
    assert isinstance(back, TwoHeadClassifier)
    assert back.config == model.config
    assert isinstance(back.classifier, PaintingCNN)
    assert back.classifier.config == CNN
    images = images_for(model.classifier)
    for ours, theirs in zip(model.both(images), back.both(images), strict=True):
        assert torch.equal(ours, theirs)


def test_what_it_cannot_be_built_on_is_told() -> None:
    with pytest.raises(TypeError, match="Identity needs `features"):
        TwoHeadClassifier(nn.Identity(), 2)
    with pytest.raises(ValueError, match="num_attributes` is 0"):
        TwoHeadClassifier(SmallClassifier(ClassifierConfig(num_classes=2)), 0)
    fields = TwoHeadClassifierConfig("painting_cnn", CNN.to_dict(), 2).to_dict()
    nested = {**fields, "classifier": "two_head_classifier", "classifier_config": fields}
    for wrong, told in (
        (nested, "single head"),
        ({**fields, "classifier": "biggan"}, "'biggan'"),
        ({**fields, "classifier_config": {"depth": 3}}, "depth"),
        ({**fields, "classifier_config": None}, "fields"),
        ({**fields, "num_attributes": 1.0}, "whole number"),
    ):
        with pytest.raises(CheckpointError, match=told):
            classifier_from_metadata({"model": "two_head_classifier", "config": wrong})


def test_the_number_of_classes_is_that_inside() -> None:
    assert TwoHeadClassifierConfig("painting_cnn", CNN.to_dict(), 2).num_classes == 3
    assert TwoHeadClassifierConfig("vgg_classifier", VGGClassifierConfig(num_classes=7).to_dict(), 2).num_classes == 7
