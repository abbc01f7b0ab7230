"""The ready-made extractors against torch-fidelity and torchvision, with random weights and without a network."""

import functools
import math
import socket
import sys
import threading
import urllib.request

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import nn
from torch_fidelity import feature_extractor_inceptionv3 as fidelity

from ganblocks.errors import MetricError
from ganblocks.functional.image_range import from_uint8
from ganblocks.metrics.extractors import (
    DEFAULT_LAYERS,
    classifier_extractor,
    inception_extractor,
    random_extractor,
    torchvision_extractor,
)
from ganblocks.metrics.input_spec import InputSpec
from tolerances import for_dtype, named

FLOAT32, INCEPTION, RESIZED = for_dtype(torch.float32), named("inception_float32"), named("resize_levels")
DOWNLOAD = fidelity.load_state_dict_from_url


def pixels(*shape, seed=0):
    return torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


@pytest.fixture(autouse=True)
def _nothing_is_downloaded_or_unpickled(monkeypatch):
    def refuse(*args, **options):
        raise AssertionError(f"tried to reach the network or to unpickle: {args}")

    monkeypatch.setattr(urllib.request, "urlopen", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", refuse)
    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
    monkeypatch.setattr(torch, "load", refuse)


# ---- random weights


def test_a_seed_and_nothing_else_decides_the_random_weights():
    first, before = random_extractor(), torch.get_rng_state()
    torch.manual_seed(1)
    assert random_extractor().fingerprint == first.fingerprint
    torch.manual_seed(0)
    random_extractor(seed=5)
    assert torch.equal(torch.get_rng_state(), before)
    others = [random_extractor(seed=1), random_extractor(1), random_extractor(dimension=64), random_extractor(size=64)]
    assert len({first.fingerprint, *(other.fingerprint for other in others)}) == 5
    images = pixels(1, 3, 32, 32)
    assert not torch.allclose(first(images).features, others[0](images).features)


@given(
    batch=st.integers(1, 3),
    channels=st.sampled_from([1, 3]),
    seen=st.sampled_from([1, 3]),
    sides=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    size=st.sampled_from([None, 16, (8, 32)]),
    dimension=st.sampled_from([16, 128, 192]),
)
def test_the_random_network_takes_any_image(batch, channels, seen, sides, size, dimension):
    extractor = random_extractor(seen, size=size, dimension=dimension)
    assert extractor.dimension == dimension
    found = extractor(pixels(batch, channels, *sides))
    assert found.features.shape == (batch, dimension)
    assert found.logits is None


def test_the_random_network_keeps_the_variance_from_layer_to_layer():
    network = random_extractor(size=None, dimension=1024).network
    noise = torch.randn(4, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    features, start = network(noise).double(), 0
    for width in (64, 64, 128, 256):
        mean, std = features[:, start : start + width], features[:, start + width : start + 2 * width]
        assert 0.5 < float((mean**2 + std**2).mean()) < 1.5  # 1, but for what the zeros at the border take
        start += 2 * width
    assert start == 1024


def test_more_damage_moves_the_random_features_further():
    ramp = torch.linspace(-0.8, 0.8, 32)
    shift = torch.linspace(-0.1, 0.1, 32).view(32, 1, 1, 1)
    images = (ramp.view(1, 1, 1, 32) * ramp.view(1, 1, 32, 1)).expand(32, 3, 32, 32) + shift
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(1))
    extractor = random_extractor()
    clean = extractor(images).features.mean(dim=0)
    moved = [
        float((extractor((images + amount * noise).clamp(-1, 1)).features.mean(dim=0) - clean).norm())
        for amount in (0.0, 0.05, 0.2, 0.8)
    ]
    assert moved[0] == 0
    assert moved == sorted(set(moved))


@pytest.mark.parametrize("options", [{"dimension": 8}, {"dimension": 100}, {"image_channels": 2}, {"size": 0}])
def test_random_networks_that_cannot_be_are_refused(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        random_extractor(**options)


# ---- Inception


@pytest.fixture(scope="module")
def inception():
    """Torch-fidelity's network with random weights that keep activations near size 1."""
    patch = pytest.MonkeyPatch()
    patch.setattr(fidelity, "load_state_dict_from_url", lambda *args, **options: {})
    patch.setattr(fidelity.FeatureExtractorInceptionV3, "load_state_dict", lambda self, state: None)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = fidelity.FeatureExtractorInceptionV3("reference", ["2048", "logits_unbiased"])
        for module in network.modules():
            if isinstance(module, nn.Conv2d):
                fan = module.weight[0].numel()
                module.weight.normal_(0, math.sqrt(2 / fan))
            elif isinstance(module, nn.BatchNorm2d):
                for tensor in (module.weight, module.running_var):
                    tensor.uniform_(0.8, 1.2)
                for tensor in (module.bias, module.running_mean):
                    tensor.normal_(0, 0.1)
    patch.undo()
    assert fidelity.load_state_dict_from_url is DOWNLOAD
    return network


@pytest.fixture(scope="module")
def inception_weights(inception):
    return inception.state_dict()


@pytest.fixture(scope="module")
def legacy(inception_weights):
    return inception_extractor(inception_weights)


def test_legacy_inception_is_torch_fidelitys_from_the_bytes_on(inception, legacy):
    images = pixels(1, 3, 40, 52)
    features, logits = inception(images)
    found = legacy(images)
    assert min(features.std(), logits.std()) > 1000 * INCEPTION["atol"]
    torch.testing.assert_close(found.features, features, **INCEPTION)
    torch.testing.assert_close(found.logits, logits, **INCEPTION)
    assert (found.features.shape, found.logits.shape) == ((1, 2048), (1, 1008))


def test_clean_inception_is_the_same_network_behind_another_resize(inception_weights, legacy):
    before = torch.get_rng_state()
    extractor = inception_extractor(inception_weights, clean=True)
    assert torch.equal(torch.get_rng_state(), before)
    assert fidelity.load_state_dict_from_url is DOWNLOAD
    assert type(extractor.network) is type(legacy.network)
    assert all(map(torch.equal, extractor.network.state_dict().values(), inception_weights.values()))
    assert (extractor.name, extractor.dimension) == (legacy.name, 2048)
    assert extractor.spec.to_json() != legacy.spec.to_json()

    images = pixels(1, 3, 40, 52)
    planes = [Image.fromarray(plane.numpy().astype(np.float32)) for plane in images[0]]
    resized = [np.asarray(plane.resize((299, 299), Image.Resampling.BICUBIC)).clip(0, 255) for plane in planes]
    expected = torch.from_numpy(np.stack(resized))[None]
    torch.testing.assert_close(128 * extractor.spec.prepare(images) + 128, expected, **RESIZED)
    assert (128 * legacy.spec.prepare(images) + 128 - expected).abs().max() > 10


def test_wrong_inception_weights_are_named_and_nothing_stays_patched(inception_weights):
    wrong = {key: value for key, value in inception_weights.items() if not key.startswith("Mixed_7")}
    with pytest.raises(MetricError, match=r"not those of the Inception network: .*Mixed_7a\.branch3x3_1") as caught:
        inception_extractor({**wrong, "other": torch.zeros(1)})
    assert len(str(caught.value)) < 600
    assert fidelity.load_state_dict_from_url is DOWNLOAD


def test_other_threads_download_as_ever_while_the_network_is_built(monkeypatch):
    """What stands in for the download answers the thread that builds, and passes others on."""
    answers = []

    class Network(nn.Module):
        def __init__(self, *args):
            super().__init__()
            answers.append(fidelity.load_state_dict_from_url("mine"))
            thread = threading.Thread(target=lambda: answers.append(fidelity.load_state_dict_from_url("theirs")))
            thread.start()
            thread.join()

    monkeypatch.setattr(fidelity, "load_state_dict_from_url", lambda url: f"from {url}")
    monkeypatch.setattr(fidelity, "FeatureExtractorInceptionV3", Network)
    inception_extractor({"weight": torch.ones(1)})
    assert answers == [{"weight": torch.ones(1)}, "from theirs"]


# ---- torchvision


def random_network(architecture):
    models = pytest.importorskip("torchvision.models", reason="torchvision is an extra")
    return models.get_model(architecture, weights=None).eval()


@functools.cache
def without_memory(architecture):
    """A network and its extractor on the device that knows shapes only."""
    models = pytest.importorskip("torchvision.models", reason="torchvision is an extra")
    with torch.device("meta"):
        network = models.get_model(architecture, **({"init_weights": False} if architecture == "inception_v3" else {}))
        return network, torchvision_extractor(architecture, network.state_dict(), device="meta")


def standardised(images):
    """Bytes as weights trained on ImageNet see them."""
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    return (images / 255 - mean.view(3, 1, 1)) / std.view(3, 1, 1)


def test_torchvision_features_are_those_of_the_network_cut_by_hand():
    network = random_network("resnet18")
    before = torch.get_rng_state()
    extractor = torchvision_extractor("resnet18", network.state_dict(), layer="flatten")
    assert torch.equal(torch.get_rng_state(), before)
    images = pixels(1, 3, 224, 224)
    with torch.no_grad():
        features = nn.Sequential(*list(network.children())[:-1])(standardised(images)).flatten(1)
        logits = network(standardised(images))
    found = extractor(images)
    assert min(features.std(), logits.std()) > 10 * INCEPTION["atol"]
    torch.testing.assert_close(found.features, features, **INCEPTION)
    torch.testing.assert_close(found.logits, logits, **INCEPTION)
    assert extractor.dimension == 512
    assert extractor.fingerprint.startswith("torchvision resnet18 flatten weights ")


@pytest.mark.parametrize(("architecture", "dimension"), [("vgg16", 4096), ("resnet50", 2048), ("inception_v3", 2048)])
def test_the_default_layers_have_their_published_dimension(architecture, dimension):
    _, extractor = without_memory(architecture)
    size = extractor.spec.size
    features, logits = extractor.network(torch.empty(2, 3, *size, device="meta"))
    assert architecture in DEFAULT_LAYERS
    assert size == ((299, 299) if architecture == "inception_v3" else (224, 224))
    assert (features.shape, logits.shape) == ((2, dimension), (2, 1000))
    if architecture == "vgg16":
        assert extractor.network.layer == "classifier.4"  # the second 4096, after its ReLU


def test_inception_v3_sees_what_its_published_weights_were_trained_on():
    network, extractor = without_memory("inception_v3")
    network.transform_input = True  # so the published weights come: from ImageNet's mean and std to what they want
    images = pixels(1, 3, 299, 299)
    wanted = network._transform_input(standardised(images))
    torch.testing.assert_close(extractor.spec.prepare(images), wanted, **FLOAT32)


def test_a_file_of_weights_and_a_spec_of_ones_own_are_taken(tmp_path):
    path = tmp_path / "squeezenet.safetensors"
    safetensors.torch.save_file(random_network("squeezenet1_1").state_dict(), path)
    spec = InputSpec(64, "bilinear", value_range=(0, 1))
    extractor = torchvision_extractor("squeezenet1_1", path, layer="flatten", spec=spec)
    assert extractor.spec == spec
    found = extractor(pixels(1, 1, 20, 20))  # its features are its logits
    assert torch.equal(found.features, found.logits)


def test_torchvision_mistakes_are_named():
    network = random_network("squeezenet1_1")
    weights = network.state_dict()
    with pytest.raises(MetricError, match=r"not those of torchvision's squeezenet1_1: .*features\.0\.weight"):
        torchvision_extractor("squeezenet1_1", {}, layer="flatten")
    with pytest.raises(ValueError, match=r"`layer` is None.*squeezenet1_1"):
        torchvision_extractor("squeezenet1_1", weights)
    with pytest.raises(ValueError, match=r"`layer` is 'fc2'.*flatten"):
        torchvision_extractor("squeezenet1_1", weights, layer="fc2")
    with pytest.raises(ValueError, match="no_such_net"):
        torchvision_extractor("no_such_net", weights, layer="flatten")


# ---- where weights come from


@pytest.mark.parametrize("make", [inception_extractor, torchvision_extractor])
def test_without_weights_it_says_how_to_get_them(make, tmp_path):
    with pytest.raises(ValueError, match=r"never downloaded.*ganblocks checkpoint import FILE\.pth --out"):
        make()
    with pytest.raises(ValueError, match=r"must be a \.safetensors file.*ganblocks checkpoint import"):
        make(weights=tmp_path / "weights.pth")
    with pytest.raises(FileNotFoundError):
        make(weights=tmp_path / "missing.safetensors")
    (tmp_path / "broken.safetensors").write_bytes(b"\xff" * 100)
    with pytest.raises(MetricError, match=r"broken\.safetensors cannot be read"):
        make(weights=str(tmp_path / "broken.safetensors"))


@pytest.mark.parametrize(
    ("make", "module", "extra"),
    [
        (inception_extractor, "torch_fidelity.feature_extractor_inceptionv3", "metrics"),
        (lambda weights: torchvision_extractor("vgg16", weights), "torchvision.models", "vision"),
    ],
)
def test_a_missing_extra_is_named(make, module, extra, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=rf'pip install "ganblocks\[{extra}\]"'):
        make({})


# ---- classifiers


class Classifier(nn.Module):
    """A small classifier with the surface that the extractor asks for."""

    class Config:
        resolution = 12
        image_channels = 1

    def __init__(self):
        super().__init__()
        self.config = self.Config()
        self.body = nn.Sequential(nn.Conv2d(1, 6, 3), nn.BatchNorm2d(6), nn.Dropout(0.5))
        self.head = nn.Linear(6, 4)

    def features(self, images):
        return self.body(images).relu().mean(dim=(2, 3))

    def forward(self, images):
        return self.head(self.features(images))


class NamedLogits(Classifier):
    def logits_from_features(self, features):
        return 2 * self.head(features)


class OnlyForward(Classifier):
    def __init__(self):
        super().__init__()
        self.last = self.head
        self.head = None

    def forward(self, images):
        return 3 * self.last(self.features(images))


@pytest.mark.parametrize(("kind", "factor"), [(Classifier, 1), (NamedLogits, 2), (OnlyForward, 3)])
def test_a_classifier_gives_its_features_and_logits(kind, factor):
    model = kind().train()
    extractor = classifier_extractor(model)
    assert extractor.spec == InputSpec(12, image_channels=1)
    assert extractor.fingerprint.startswith(f"{kind.__name__} weights ")
    images = pixels(3, 1, 12, 12)
    found = extractor(images)
    assert all(module.training for module in model.modules())
    model.eval()
    features = model.features(from_uint8(images))
    last = model.last if kind is OnlyForward else model.head
    torch.testing.assert_close(found.features, features.detach(), **FLOAT32)
    torch.testing.assert_close(found.logits, factor * last(features).detach(), **FLOAT32)
    assert extractor(pixels(2, 3, 20, 9)).features.shape == (2, 6)


def test_a_classifier_is_used_and_not_copied():
    model = Classifier()
    extractor = classifier_extractor(model, name="mine", spec=InputSpec(8, image_channels=1))
    assert extractor.fingerprint.startswith("mine weights ")
    assert extractor.spec.size == (8, 8)
    before = extractor(pixels(1, 1, 8, 8)).logits
    with torch.no_grad():
        model.head.bias += 1
    torch.testing.assert_close(extractor(pixels(1, 1, 8, 8)).logits, before + 1, **FLOAT32)


def test_networks_that_are_no_classifier_are_refused():
    with pytest.raises(TypeError, match="without a method `features`"):
        classifier_extractor(nn.Linear(3, 3))
    model = Classifier()
    del model.config
    with pytest.raises(ValueError, match=r"`spec` is None.*resolution"):
        classifier_extractor(model)
