"""The classifier over a backbone: its counts, its penalty by hand, weights from outside, and a backbone that rests."""

import copy
import json
import sys
import weakref
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torch import Tensor, nn
from torch.func import functional_call
from torchvision import models
from torchvision.transforms.functional import normalize

from ganblocks.errors import CheckpointError
from ganblocks.models.backbone_classifier import BackboneClassifier, BackboneClassifierConfig
from ganblocks.visualization.summary import model_summary
from tolerances import for_dtype

SMALL = BackboneClassifierConfig(
    backbone="mobilenet_v3_small", num_classes=3, hidden_dim=4, weight_l2=0.5, bias_l1=2.0, activity_l1=0.25
)


def images(count: int = 4, side: int = 32, seed: int = 0) -> Tensor:
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def small(**changes: object) -> BackboneClassifier:
    torch.manual_seed(0)
    return BackboneClassifier(SMALL.replace(**changes))


@pytest.fixture(scope="module")
def document() -> BackboneClassifier:
    return BackboneClassifier(BackboneClassifierConfig.document())


@pytest.fixture(scope="module")
def light() -> BackboneClassifier:
    return small()


def test_totals_are_those_of_the_document(document: BackboneClassifier) -> None:
    trained = sum(p.numel() for p in document.parameters() if p.requires_grad)
    statistics = sum(
        b.numel() for name, b in document.named_buffers() if name.endswith(("mean", "var")) and "." in name
    )
    in_keras_only = 3 + 3 + 1  # mean, variance and count of the layer that normalises the images
    assert trained == 11_093_290
    assert statistics == 90_368
    assert trained + statistics + in_keras_only == 11_183_665
    assert sum(p.numel() for p in document.backbone.parameters()) == 10_696_232
    assert [sum(p.numel() for p in part.parameters()) for part in (document.norm, document.dense, document.head)] == [
        3072,
        393_472,
        514,
    ]
    totals = [line.split()[-1] for line in model_summary(document, (3, 32, 32)).splitlines() if "otal" in line]
    assert f"{trained + statistics:,}" in totals


def test_the_document_is_in_the_layers(document: BackboneClassifier) -> None:
    assert (document.norm.eps, document.norm.momentum, document.dropout.p) == (1e-3, 0.01, 0.45)
    norms = [module for module in document.backbone.modules() if isinstance(module, nn.BatchNorm2d)]
    assert {norm.momentum for norm in norms} == {0.01}
    assert {norm.eps for norm in norms} == {1e-5}  # torchvision's, as its weights want
    config = document.config
    assert (config.pooling, config.weight_l2, config.bias_l1, config.activity_l1) == ("max", 0.016, 0.006, 0.006)
    assert not document.pretrained
    bound = (6 / (1536 + 256)) ** 0.5
    assert 0.99 * bound < document.dense.weight.abs().max() <= bound
    assert document.dense.bias.count_nonzero() == document.head.bias.count_nonzero() == 0


def test_where_nothing_is_said_the_backbones_momentum_is_torchvisions(light: BackboneClassifier) -> None:
    assert {m.momentum for m in light.backbone.modules() if isinstance(m, nn.BatchNorm2d)} == {0.01}  # MobileNet's own
    other = small(backbone_norm_momentum=0.3)
    assert {m.momentum for m in other.backbone.modules() if isinstance(m, nn.BatchNorm2d)} == {0.3}
    assert other.norm.momentum == 0.1


def test_the_penalty_by_hand() -> None:
    model = small(hidden_dim=2)
    with torch.no_grad():
        model.dense.weight.zero_()[:, :2] = torch.tensor([[1.0, -2.0], [0.5, 0.0]])
        model.dense.bias.copy_(torch.tensor([-3.0, 1.5]))
    features = torch.tensor([[1.0, 0.0], [2.0, 5.0], [0.0, 0.0], [4.0, 0.0]])
    weights_and_biases = 0.5 * (1 + 4 + 0.25) + 2 * (3 + 1.5)  # 11.625
    assert model.penalty().item() == weights_and_biases
    assert model.penalty(features).item() == weights_and_biases + 0.25 * 12 / 4
    assert model.penalty(-features).item() == weights_and_biases + 0.25 * 12 / 4
    assert model.penalty(features[:0]).item() == weights_and_biases
    assert small(weight_l2=0.0, bias_l1=0.0, activity_l1=0.0).penalty(torch.ones(2, 4)).item() == 0
    with pytest.raises(ValueError, match=r"`features` is \(4, 3\), but must be \[N, 2\]"):
        model.penalty(torch.zeros(4, 3))


@given(features=hnp.arrays(np.float64, st.tuples(st.integers(0, 5), st.just(4)), elements=st.floats(-1e3, 1e3)))
def test_the_penalty_is_the_formula(light: BackboneClassifier, features: np.ndarray) -> None:
    W, b = (tensor.detach().double().numpy() for tensor in (light.dense.weight, light.dense.bias))
    expected = 0.5 * (W**2).sum() + 2.0 * np.abs(b).sum() + 0.25 * np.abs(features).sum() / max(len(features), 1)
    np.testing.assert_allclose(light.penalty(torch.from_numpy(features)).item(), expected, **for_dtype(torch.float32))


class Penalty(nn.Module):
    def __init__(self, model: BackboneClassifier) -> None:
        super().__init__()
        self.model = model

    def forward(self, features: Tensor) -> Tensor:
        return self.model.penalty(features)


def test_the_penalty_has_gradients_of_both_orders(light: BackboneClassifier) -> None:
    rng = torch.Generator().manual_seed(0)
    # away from the kink at 0, which differences would step over
    weight, bias, features = (
        ((torch.rand(shape, generator=rng, dtype=torch.float64) + 0.1) * sign).requires_grad_()
        for shape, sign in (((4, 6), -1), ((4,), -1), ((3, 4), 1))
    )

    def penalty(weight: Tensor, bias: Tensor, features: Tensor) -> Tensor:
        replaced = {"model.dense.weight": weight, "model.dense.bias": bias}
        return functional_call(Penalty(light), replaced, (features,))

    assert torch.autograd.gradcheck(penalty, (weight, bias, features))
    assert torch.autograd.gradgradcheck(penalty, (weight, bias, features))


def test_the_last_call_in_training_is_what_is_penalised() -> None:
    model = small(dropout=0.0)
    model(images())
    kept = model.penalty()
    gradient = torch.autograd.grad(kept, model.norm.weight, retain_graph=True)[0]
    model.norm.momentum = None  # the next call normalises by the same batch
    explicit = model.penalty(model.features(images()))
    assert torch.equal(kept, explicit)
    assert kept > model.eval().penalty()
    assert torch.equal(gradient, torch.autograd.grad(explicit, model.norm.weight)[0])
    assert gradient.count_nonzero() > 0


def test_nothing_is_kept_in_evaluation_mode_and_copies_have_no_graph() -> None:
    model = small()
    model(images())
    kept = weakref.ref(model._activity)
    twin = copy.deepcopy(model)
    assert twin.penalty() < model.penalty()
    assert all(torch.equal(a, b) for a, b in zip(twin.parameters(), model.parameters(), strict=True))
    model.eval()
    assert kept() is None
    model(images())
    assert model._activity is None
    weights_only = model.penalty()
    assert torch.equal(weights_only, model.train().penalty())


def test_features_are_what_the_head_sees(light: BackboneClassifier) -> None:
    model = copy.deepcopy(light).eval()
    features = model.features(images())
    assert features.shape == (4, 4)
    assert features.min() >= 0
    assert torch.equal(model.head(features), model(images()))
    assert model(images(2, 40)[..., :33]).shape == (2, 3)
    assert model(images(0)).shape == (0, 3)


@pytest.mark.parametrize(
    ("name", "pooling"),
    [("mobilenet_v3_small", "average"), ("resnet18", "max"), ("regnet_x_400mf", "average"), ("efficientnet_b0", "max")],
)
def test_the_backbone_is_torchvisions_network_up_to_its_pooling(name: str, pooling: str) -> None:
    network = models.get_model(name, weights=None, num_classes=7).eval()  # another head than ImageNet's
    seen: list[Tensor] = []
    network.avgpool.register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    given_images = images(3, 64)  # maps of 2 by 2
    network(normalize((given_images + 1) / 2, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
    maps = seen[0].detach().numpy()
    pooled = torch.from_numpy(maps.max(axis=(2, 3)) if pooling == "max" else maps.mean(axis=(2, 3)))
    config = SMALL.replace(backbone=name, pooling=pooling)
    model = BackboneClassifier(config, network.state_dict()).eval()
    assert model.pretrained
    model.norm.register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    model(given_images)
    torch.testing.assert_close(seen[1], pooled, **for_dtype(torch.float32))
    assert model.norm.num_features == pooled.shape[1]


def test_names_of_the_weights_are_those_of_the_first_release(light: BackboneClassifier) -> None:
    kept = (name for name in models.mobilenet_v3_small(weights=None).state_dict() if name.startswith("features."))
    norm = ("bias", "num_batches_tracked", "running_mean", "running_var", "weight")
    names = {f"backbone.{name}" for name in kept} | {f"norm.{name}" for name in norm}
    names |= {"dense.weight", "dense.bias", "head.weight", "head.bias"}
    assert light.state_dict().keys() == names


def test_weights_come_from_a_file_of_tensors(tmp_path: Path) -> None:
    network = models.mobilenet_v3_small(weights=None)
    path = tmp_path / "weights.safetensors"
    safetensors.torch.save_file(network.state_dict(), path)
    own = BackboneClassifier(SMALL, path).backbone.state_dict()
    assert all(torch.equal(tensor, network.state_dict()[name]) for name, tensor in own.items())
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match="cannot be read as safetensors"):
        BackboneClassifier(SMALL, path)
    with pytest.raises(CheckpointError, match="there is no file"):
        BackboneClassifier(SMALL, str(tmp_path / "none.safetensors"))
    with pytest.raises(ValueError, match=r"`weights` is .*checkpoint import"):
        BackboneClassifier(SMALL, tmp_path / "weights.pth")


def test_weights_of_something_else_are_refused() -> None:
    state = models.mobilenet_v3_small(weights=None).state_dict()
    with pytest.raises(CheckpointError, match=r"not those of torchvision's mobilenet_v3_small.*features") as error:
        BackboneClassifier(SMALL, models.squeezenet1_1(weights=None).state_dict())
    assert len(str(error.value)) < 600
    missing = {name: tensor for name, tensor in state.items() if name != "features.0.0.weight"}
    with pytest.raises(CheckpointError, match=r"Missing key.*features.0.0.weight"):
        BackboneClassifier(SMALL, missing)
    with pytest.raises(CheckpointError, match=r"Unexpected key.*surplus"):
        BackboneClassifier(SMALL, {**state, "surplus": torch.zeros(1)})


def test_a_frozen_backbone_is_in_evaluation_mode_whatever_is_said() -> None:
    model = small()
    assert model.freeze_backbone() is model
    assert (model.training, model.norm.training, model.backbone_frozen) == (True, True, True)
    for part in (model, model.eval(), model.train(), copy.deepcopy(model).train()):
        assert not any(module.training for module in part.backbone.modules())
        assert not any(parameter.requires_grad for parameter in part.backbone.parameters())
    assert model.head.training
    model.unfreeze_backbone()
    assert all(module.training for module in model.modules())
    assert all(parameter.requires_grad for parameter in model.parameters())
    model.eval().freeze_backbone()
    assert not model.norm.training
    model.unfreeze_backbone()
    assert not model.backbone.training


def test_images_of_another_shape_are_refused(light: BackboneClassifier) -> None:
    for shape in ((4, 1, 32, 32), (3, 32, 32), (4, 3, 31, 32), (4, 3, 32, 0)):
        with pytest.raises(ValueError, match=r"`images` is .*must be \[N, 3, H, W\]"):
            light(torch.zeros(shape))


def test_configurations_survive_json() -> None:
    for config in (SMALL, BackboneClassifierConfig(), BackboneClassifierConfig.document(backbone="resnet18")):
        assert BackboneClassifierConfig.from_json(config.to_json()) == config
    assert json.loads(BackboneClassifierConfig().to_json())["backbone_norm_momentum"] is None
    assert BackboneClassifierConfig.document(num_classes=4, weight_l2=0.0).replace(num_classes=2, weight_l2=0.016) == (
        BackboneClassifierConfig.document()
    )


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("backbone", "lenet"),
        ("backbone", 3),
        ("num_classes", 0),
        ("num_classes", 2.0),
        ("pooling", "median"),
        ("hidden_dim", 0),
        ("dropout", 1.0),
        ("dropout", "0.5"),
        ("norm_momentum", 1.5),
        ("backbone_norm_momentum", -0.1),
        ("norm_eps", 0.0),
        ("weight_l2", -0.1),
        ("bias_l1", float("nan")),
        ("activity_l1", float("inf")),
    ],
)
def test_what_a_configuration_refuses(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"`{field}` is "):
        BackboneClassifierConfig(**{field: value})  # type: ignore[arg-type]


def test_unknown_networks_of_a_known_family_are_told_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"`backbone` is 'resnet19', but must be one of .*resnet18"):
        BackboneClassifier(SMALL.replace(backbone="resnet19"))


def test_without_torchvision_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchvision", None)
    with pytest.raises(ImportError, match=r'pip install "ganblocks\[vision\]"'):
        BackboneClassifier(SMALL)
