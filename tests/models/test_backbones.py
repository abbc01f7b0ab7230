"""Backbones with a new last layer: the totals of the experiments, weights from outside, libraries that are missing."""

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn
from torchvision import models
from torchvision.transforms.functional import normalize

from ganblocks.errors import CheckpointError
from ganblocks.models.backbones import PooledClassifier, PooledClassifierConfig, VGGClassifier, VGGClassifierConfig
from ganblocks.models.freezing import document_stage
from ganblocks.models.registry import load_classifier
from ganblocks.visualization.summary import model_summary
from tolerances import for_dtype

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SMALL_VGG = VGGClassifierConfig(resolution=32, num_classes=3, hidden_dim=4)


def images(count: int = 2, side: int = 32, seed: int = 0) -> Tensor:
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def parameters(module: nn.Module, kinds: type | tuple[type, ...] = nn.Module) -> int:
    return sum(p.numel() for m in module.modules() if isinstance(m, kinds) for p in m.parameters(recurse=False))


def on_meta(config: Any) -> Any:
    with torch.device("meta"):
        return (VGGClassifier if isinstance(config, VGGClassifierConfig) else PooledClassifier)(config)


@pytest.fixture(scope="module")
def densenet() -> PooledClassifier:
    torch.manual_seed(0)
    return PooledClassifier(PooledClassifierConfig(num_classes=3)).eval()


@pytest.fixture(scope="module")
def vgg() -> VGGClassifier:
    torch.manual_seed(0)
    return VGGClassifier(SMALL_VGG).eval()


@pytest.mark.parametrize(("classes", "total"), [(5, 50_394_949), (10, 50_415_434), (50, 50_579_314)])
def test_vgg16_at_100_pixels_has_the_parameters_of_the_document(classes: int, total: int) -> None:
    model = on_meta(VGGClassifierConfig(num_classes=classes))
    assert parameters(model) == total
    assert parameters(model, nn.Conv2d) == 14_714_688
    assert model.dense1.in_features == 3 * 3 * 512


def test_densenet121_has_the_parameters_that_keras_counts() -> None:
    model = on_meta(PooledClassifierConfig())
    statistics = sum(b.numel() for name, b in model.named_buffers() if name.endswith(("running_mean", "running_var")))
    assert parameters(model) == 6_958_981
    assert parameters(model.backbone) == 6_953_856
    assert statistics == 7_042_629 - 6_958_981


def test_inception_resnet_v2_has_the_convolutions_that_keras_counts() -> None:
    pytest.importorskip("timm")
    model = on_meta(PooledClassifierConfig("inception_resnet_v2"))
    channels = 60_544 // 2  # of all batch normalisation: Keras's means and variances
    assert parameters(model.backbone, nn.Conv2d) == 54_276_192 - channels
    assert parameters(model.backbone) == 54_276_192 + channels
    assert parameters(model.head) == 54_344_421 - 54_336_736
    for layers, left in ((700, 13_369_216), (600, 27_420_928)):
        model.freeze_through(document_stage(layers).name)
        behind = [m for m in model.backbone.modules() if all(p.requires_grad for p in m.parameters(recurse=False))]
        norms = sum(m.num_features for m in behind if isinstance(m, nn.BatchNorm2d))
        assert sum(p.numel() for p in model.backbone.parameters() if p.requires_grad) == left + norms
        assert all(not m.training for m in model.backbone.modules() if not parameters_learn(m))


def parameters_learn(module: nn.Module) -> bool:
    own = list(module.parameters())
    return not own or any(p.requires_grad for p in own)


def test_nasnet_large_has_the_parameters_that_keras_counts() -> None:
    pytest.importorskip("timm")
    assert parameters(on_meta(PooledClassifierConfig("nasnetalarge")).backbone) == 84_720_150


@pytest.mark.parametrize(("name", "side", "width"), [("inception_resnet_v2", 75, 1536), ("nasnetalarge", 64, 4032)])
def test_timms_networks_give_maps_of_the_known_width(name: Any, side: int, width: int) -> None:
    pytest.importorskip("timm")
    model = PooledClassifier(PooledClassifierConfig(name)).eval()
    with torch.no_grad():
        assert model.features(images(1, side)).shape == (1, width)


def test_the_pooled_classifier_is_torchvisions_network_up_to_its_last_layer(densenet: PooledClassifier) -> None:
    network = models.densenet121(weights=None).eval()
    network.features.load_state_dict(densenet.backbone.features.state_dict())
    network.classifier = nn.Identity()
    x = images(2, 40)
    with torch.no_grad():
        expected = network(normalize((x + 1) / 2, list(MEAN), list(STD)))
        torch.testing.assert_close(densenet.features(x), expected, **for_dtype(torch.float32))
        assert torch.equal(densenet.head(densenet.features(x)), densenet(x))


def test_vggs_convolutions_are_torchvisions(vgg: VGGClassifier) -> None:
    with torch.device("meta"):
        layers = {name: models.get_model(name).features for name in ("vgg16", "vgg19")}
    for name, expected in layers.items():
        model = on_meta(SMALL_VGG.replace(backbone=name))
        own = {key: tensor.shape for key, tensor in model.backbone.features.state_dict().items()}
        assert own == {key: tensor.shape for key, tensor in expected.state_dict().items()}
    network = layers["vgg16"].to_empty(device="cpu")
    network.load_state_dict(vgg.backbone.features.state_dict())
    x = images()
    with torch.no_grad():
        maps = network(normalize((x + 1) / 2, list(MEAN), list(STD)))
        torch.testing.assert_close(vgg.backbone(vgg._normalised(x)), maps, **for_dtype(torch.float32))
        hidden = (maps.flatten(1) @ vgg.dense1.weight.T + vgg.dense1.bias).clamp(min=0)
        hidden = (hidden @ vgg.dense2.weight.T + vgg.dense2.bias).clamp(min=0)
        torch.testing.assert_close(vgg.features(x), hidden, **for_dtype(torch.float32))
        assert torch.equal(vgg.head(vgg.features(x)), vgg(x))


def test_weights_come_from_a_file_under_new_and_old_names(tmp_path: Path, densenet: PooledClassifier) -> None:
    own = {name: tensor for name, tensor in densenet.backbone.state_dict().items() if "num_batches" not in name}
    older = {
        name.replace(".norm1.", ".norm.1.").replace(".conv1.", ".conv.1.").replace(".norm2.", ".norm.2.")
        .replace(".conv2.", ".conv.2.") if "denselayer" in name else name: tensor
        for name, tensor in own.items()
    }  # fmt: skip
    older["classifier.weight"] = torch.zeros(1000, 1024)
    assert any(".norm.1." in name for name in older)
    safetensors.torch.save_file(older, tmp_path / "old.safetensors")
    for weights in (own, tmp_path / "old.safetensors"):
        model = PooledClassifier(densenet.config, weights)
        assert model.pretrained
        assert torch.equal(model.eval().features(images()), densenet.features(images()))
    with pytest.raises(CheckpointError, match=r"not those of densenet121: 1 missing \['features.conv0.weight'\]"):
        PooledClassifier(densenet.config, {name: t for name, t in own.items() if name != "features.conv0.weight"})
    with pytest.raises(CheckpointError, match=r"1 unknown \['other'\]"):
        PooledClassifier(densenet.config, {**own, "other": torch.zeros(1)})
    with pytest.raises(CheckpointError, match=r"of another shape \['features.conv0.weight'\]"):
        PooledClassifier(densenet.config, {**own, "features.conv0.weight": torch.zeros(1)})


def test_vgg_takes_torchvisions_convolutions_and_leaves_its_dense_layers(vgg: VGGClassifier) -> None:
    torch.manual_seed(1)
    state = {**vgg.backbone.state_dict(), "classifier.0.weight": torch.zeros(2, 2)}
    model = VGGClassifier(SMALL_VGG, state)
    assert model.pretrained
    assert torch.equal(model.backbone(images()), vgg.backbone(images()))
    assert not torch.equal(model.dense1.weight, vgg.dense1.weight)


def test_a_frozen_part_is_in_evaluation_mode_and_its_norms_rest(densenet: PooledClassifier) -> None:
    model = PooledClassifier(densenet.config).freeze_through("features.transition1").train()
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    model(images())
    moved = {name for name, buffer in model.named_buffers() if not torch.equal(buffer, before[name])}
    assert "backbone.features.norm5.running_mean" in moved
    rests = ("features.norm0", "features.denseblock1", "features.transition1")
    assert not {name for name in moved if name.removeprefix("backbone.").startswith(rests)}
    assert {p.requires_grad for p in model.backbone.features.denseblock1.parameters()} == {False}
    assert {p.requires_grad for p in model.backbone.features.denseblock2.parameters()} == {True}


class Stub(nn.Module):
    """Enough of timm's network to be called as one."""

    def __init__(self) -> None:
        super().__init__()
        self.conv2d_1a = nn.Conv2d(3, 8, 3, stride=16)
        self.repeat_2 = nn.Sequential(*[nn.BatchNorm2d(8) for _ in range(9)])
        self.conv2d_7b = nn.Conv2d(8, 1536, 1)

    def forward_features(self, x: Tensor) -> Tensor:
        return self.conv2d_7b(self.repeat_2(self.conv2d_1a(x)))


def test_a_network_of_timm_is_asked_for_without_weights_and_gives_its_maps(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def create_model(name: str, **options: object) -> nn.Module:
        asked.append((name, options))
        return Stub()

    timm = ModuleType("timm")
    timm.create_model = create_model  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "timm", timm)
    model = PooledClassifier(PooledClassifierConfig("inception_resnet_v2")).eval()
    assert asked == [("inception_resnet_v2", {"pretrained": False, "num_classes": 0})]
    x = images(2, 75)
    torch.testing.assert_close(model._normalised(x), x, **for_dtype(torch.float32))  # it was trained on [-1, 1]
    assert torch.equal(model.features(x), model.backbone.forward_features(x).mean((2, 3)))
    model.freeze_through(document_stage(700).name)
    norms = model.train().backbone.repeat_2
    assert [norm.training for norm in norms] == [False] * 5 + [True] * 4
    with pytest.raises(ValueError, match=r"`images` is \(2, 3, 74, 74\), .* at least 75"):
        model(images(2, 74))


@pytest.mark.parametrize(("library", "backbone"), [("timm", "nasnetalarge"), ("torchvision", "densenet121")])
def test_without_its_library_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, library: str, backbone: Any) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == library]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(ImportError, match=rf'{library} is needed .* pip install "ganblocks\[vision\]"'):
        PooledClassifier(PooledClassifierConfig(backbone))


@pytest.mark.parametrize("name", ["densenet", "vgg"])
def test_a_classifier_comes_back_from_its_file(tmp_path: Path, name: str, request: pytest.FixtureRequest) -> None:
    model = request.getfixturevalue(name)
    about = {
        "model": {"densenet": "pooled_classifier", "vgg": "vgg_classifier"}[name],
        "config": model.config.to_json(),
    }
    weights = {key: tensor.contiguous() for key, tensor in model.state_dict().items()}
    safetensors.torch.save_file(weights, tmp_path / "classifier.safetensors", about)
    loaded = load_classifier(tmp_path)
    assert (type(loaded), loaded.config) == (type(model), model.config)
    with torch.no_grad():
        assert torch.equal(loaded(images()), model(images()))


def test_images_of_another_shape_are_refused(densenet: PooledClassifier, vgg: VGGClassifier) -> None:
    for shape in ((2, 3, 31, 32), (2, 1, 32, 32), (3, 32, 32)):
        with pytest.raises(ValueError, match=r"`images` is .* at least 32"):
            densenet(torch.zeros(shape))
    with pytest.raises(ValueError, match=r"must be \[N, 3, 32, 32\]"):
        vgg(torch.zeros(2, 3, 33, 33))


@pytest.mark.parametrize(
    ("config", "field", "value"),
    [
        (PooledClassifierConfig, "backbone", "resnet18"),
        (PooledClassifierConfig, "num_classes", 0),
        (PooledClassifierConfig, "dropout", 1.0),
        (PooledClassifierConfig, "dropout", float("nan")),
        (VGGClassifierConfig, "backbone", "vgg11"),
        (VGGClassifierConfig, "resolution", 31),
        (VGGClassifierConfig, "hidden_dim", 2.0),
    ],
)
def test_what_a_configuration_refuses(config: Any, field: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"`{field}` is {value!r}"):
        config(**{field: value})


def test_the_summary_counts_as_keras(densenet: PooledClassifier) -> None:
    head = 1024 * 3 + 3
    lines = model_summary(densenet, (3, 32, 32)).splitlines()
    assert any(line.startswith("Total as Keras counts") and f"{7_037_504 + head:,}" in line for line in lines)
