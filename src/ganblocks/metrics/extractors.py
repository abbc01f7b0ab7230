"""Feature networks ready for use, each behind a `FeatureExtractor`.

Nothing here is downloaded: pretrained weights are given as tensors, or as the path of a ``.safetensors`` file. The
command ``ganblocks checkpoint import FILE.pth --out FILE.safetensors`` makes one of a file that torch.save wrote,
without running anything in it.
"""

import importlib
import itertools
import math
import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ganblocks._checks import require
from ganblocks.errors import MetricError
from ganblocks.metrics.features import FeatureExtractor
from ganblocks.metrics.input_spec import InputSpec

__all__ = [
    "DEFAULT_LAYERS",
    "classifier_extractor",
    "inception_extractor",
    "random_extractor",
    "torchvision_extractor",
]

Weights = Mapping[str, Tensor] | str | os.PathLike[str]

DEFAULT_LAYERS: Mapping[str, str] = {"inception_v3": "flatten", "resnet50": "flatten", "vgg16": "classifier.4"}
"""By architecture of torchvision, the layer of the features where none is named: the pooled 2048 values of
``inception_v3`` and ``resnet50``, and the second 4096 of ``vgg16``, after its ReLU (Kynkaanniemi et al. 2019)."""

_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_PLUS_MINUS_ONE = ("googlenet", "inception_v3")  # their published weights were trained on [-1, 1]
_LEAK = 0.2
_INCEPTION_SIZE = 299
_TO_SAFETENSORS = "`ganblocks checkpoint import FILE.pth --out FILE.safetensors`"
_patching = threading.Lock()


def random_extractor(
    image_channels: int = 3,
    *,
    size: int | tuple[int, int] | None = 32,
    dimension: int = 128,
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> FeatureExtractor:
    """A small convolutional network with fixed random weights.

    For images far from photographs, and where no pretrained weights may be had: random features keep the order of
    better and worse there (Naeem et al. 2020, on random embeddings, with a VGG16). This network is another one, so its
    scores compare only with its own. Four convolutions of 3 x 3 with stride 2, leaky ReLU (0.2), no biases, and
    variance-preserving normal weights (He et al. 2015, equation 15); the features are the mean and the standard
    deviation over the image of every channel of every layer. There are no logits.

    Args:
        image_channels: 1 or 3; images of the other kind are converted.
        size: Images are resized to this, bicubic with antialias; ``None`` = as they come.
        dimension: Of the features, a multiple of 16. A few thousand images make a Frechet distance of 128.
        seed: Of the weights, which depend on nothing but it, ``image_channels`` and ``dimension``; the global random
            state is neither used nor changed.
        device: Where it runs.

    Raises:
        ValueError: An argument is out of range.
    """
    require(dimension >= 16 and dimension % 16 == 0, "dimension", dimension, "a multiple of 16, at least 16")
    spec = InputSpec(size, image_channels=image_channels)
    network = _RandomNetwork(image_channels, dimension, seed)
    name = f"random network {dimension} seed {seed}"
    return FeatureExtractor(network, spec, name=name, device=device, dimension=dimension)


def torchvision_extractor(
    architecture: str = "vgg16",
    weights: Weights | None = None,
    *,
    layer: str | None = None,
    spec: InputSpec | None = None,
    device: torch.device | str = "cpu",
) -> FeatureExtractor:
    """A classifier of torchvision, cut at one layer; its last layer gives the logits.

    Args:
        architecture: As ``torchvision.models.get_model`` knows it.
        weights: Its whole state dict, or the path of a ``.safetensors`` file that holds it.
        layer: Node of ``torchvision.models.feature_extraction`` that gives the features [N, D]; ``None`` = that of
            `DEFAULT_LAYERS`, where the architecture is listed.
        spec: Input; ``None`` = that of weights trained on ImageNet, 224 pixels (299 for ``inception_v3``), the whole
            image resized bicubic with antialias, and ImageNet's mean and standard deviation ([-1, 1] for
            ``inception_v3`` and ``googlenet``, which is what their published weights see).
        device: Where it runs.

    Raises:
        ImportError: torchvision is missing.
        ValueError: No weights, a file of another kind, or an unknown architecture or layer.
        MetricError: The weights are not of this architecture, or their file is damaged.
    """
    layer = layer or DEFAULT_LAYERS.get(architecture)
    known = ", ".join(DEFAULT_LAYERS)
    require(layer is not None, "layer", layer, f"the name of a layer for {architecture} (known without: {known})")
    source = f"the file that torchvision.models.get_model_weights({architecture!r}) names"
    state = _read(weights, f"torchvision's {architecture}", source)
    models = _extra("torchvision.models", "vision")
    tracing = _extra("torchvision.models.feature_extraction", "vision")
    # The start values are overwritten; drawing those of two architectures takes a minute, and torchvision warns of it.
    options = {"init_weights": False} if architecture in _PLUS_MINUS_ONE else {}
    with torch.random.fork_rng(devices=[]):
        network = models.get_model(architecture, weights=None, **options)
    _load(network, state, f"torchvision's {architecture}")
    network.requires_grad_(False).eval()
    nodes = tracing.get_graph_node_names(network, suppress_diff_warning=True)[1]
    require(layer in nodes, "layer", layer, f"a layer of {architecture}, such as {', '.join(nodes[-6:])}")
    cut = tracing.create_feature_extractor(network, sorted({layer, nodes[-1]}), suppress_diff_warning=True)
    if spec is None:
        size = _INCEPTION_SIZE if architecture == "inception_v3" else 224
        spec = InputSpec(size, value_range=(0.0, 1.0), mean=_IMAGENET_MEAN, std=_IMAGENET_STD)
        if architecture in _PLUS_MINUS_ONE:
            spec = InputSpec(size)
    cut_network = _CutNetwork(cut.eval(), str(layer), nodes[-1])
    return FeatureExtractor(cut_network, spec, name=f"torchvision {architecture} {layer}", device=device)


def inception_extractor(
    weights: Weights | None = None, *, clean: bool = False, device: torch.device | str = "cpu"
) -> FeatureExtractor:
    """The Inception network of 2015-12-05, which published Frechet, kernel and inception scores are made with.

    The layers are torch-fidelity's; the way in is ours. Features: 2048, pooled. Logits: 1008, without the bias, as
    that library and StyleGAN3 take them for the inception score.

    Args:
        weights: The state dict of ``weights-inception-2015-12-05-6726825d.pth`` (torch-fidelity) or
            ``pt_inception-2015-12-05-6726825d.pth`` (pytorch-fid), or the path of a ``.safetensors`` file with it.
        clean: False = the input of the original code, TensorFlow 1's bilinear resize without antialias; True = that of
            clean-fid (Parmar et al. 2022), bicubic with antialias, clipped and not rounded. Scores made with one do not
            compare with those of the other, and their fingerprints differ.
        device: Where it runs.

    Raises:
        ImportError: torch-fidelity is missing.
        ValueError: No weights, or a file of another kind.
        MetricError: The weights are not of this network, or their file is damaged.
    """
    source = "weights-inception-2015-12-05-6726825d.pth among the releases of torch-fidelity"
    state = _read(weights, "the Inception network", source)
    network = _Inception(_torch_fidelity_inception(state))
    spec = InputSpec(
        _INCEPTION_SIZE, resize="bicubic" if clean else "bilinear_tf1", antialias=clean, value_range=(-1.0, 127 / 128)
    )
    return FeatureExtractor(network, spec, name="inception 2015-12-05", device=device, dimension=2048)


def classifier_extractor(
    model: nn.Module,
    *,
    name: str | None = None,
    spec: InputSpec | None = None,
    device: torch.device | str | None = None,
) -> FeatureExtractor:
    """A classifier of your own, such as one trained on the data that a generator imitates.

    Args:
        model: Has a method ``features(images) -> [N, D]``. Logits come from its ``logits_from_features(features)``,
            else its ``head(features)``, else from calling it with the images. Used as it is, not copied.
        name: In the fingerprint; ``None`` = the name of its class.
        spec: Its input; ``None`` = the ``resolution`` and ``image_channels`` of its ``config``, in [-1, 1], images of
            another size resized bicubic with antialias.
        device: Where it is moved to; ``None`` = it stays where it is.

    Raises:
        TypeError: It has no method ``features``.
        ValueError: ``spec`` is None and ``model.config`` does not say the two.
    """
    if not callable(getattr(model, "features", None)):
        raise TypeError(
            f"`model` is a {type(model).__name__} without a method `features`; a network that returns features [N, D] "
            "from its forward goes into FeatureExtractor itself"
        )
    if spec is None:
        config: Any = getattr(model, "config", None)
        stated = hasattr(config, "resolution") and hasattr(config, "image_channels")
        require(stated, "spec", spec, "given for a model whose `config` lacks `resolution` or `image_channels`")
        spec = InputSpec(config.resolution, image_channels=config.image_channels)
    return FeatureExtractor(_Classifier(model), spec, name=name or type(model).__name__, device=device)


class _RandomNetwork(nn.Module):
    """Strided convolutions whose weights a seed gives; statistics of every layer are the features."""

    def __init__(self, image_channels: int, dimension: int, seed: int) -> None:
        super().__init__()
        generator = torch.Generator("cpu").manual_seed(seed)
        channels = [image_channels, dimension // 16, dimension // 16, dimension // 8, dimension // 4]
        for index, (fan, width) in enumerate(itertools.pairwise(channels)):
            std = math.sqrt(2 / ((1 + _LEAK**2) * 9 * fan))
            weight = std * torch.randn(width, fan, 3, 3, generator=generator, dtype=torch.float64, device="cpu")
            self.register_buffer(f"weight_{index}", weight.float())
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        statistics = []
        for weight in self.buffers():
            images = F.leaky_relu(F.conv2d(images, weight, stride=2, padding=1), _LEAK)
            variance, mean = torch.var_mean(images, dim=(2, 3), correction=0)
            statistics += [mean, variance.sqrt()]
        return torch.cat(statistics, dim=1)


class _CutNetwork(nn.Module):
    """Two nodes of a traced network as a pair."""

    def __init__(self, network: nn.Module, layer: str, last: str) -> None:
        super().__init__()
        self.network, self.layer, self.last = network, layer, last
        self.eval()

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        nodes = self.network(images)
        return nodes[self.layer], nodes[self.last]


class _Inception(nn.Module):
    """The layers of torch-fidelity's network in their order; its own forward takes bytes only and resizes them."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network: Any = network
        self.eval()

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        for name, layer in self.network.named_children():
            if name != "fc":
                images = layer(images)
        features = images.flatten(1)
        return features, features @ self.network.fc.weight.T


class _Classifier(nn.Module):
    """Features and logits of a model, in the way it offers them."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model: Any = model
        self.training = model.training

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        features = self.model.features(images)
        for name in ("logits_from_features", "head"):
            if callable(getattr(self.model, name, None)):
                return features, getattr(self.model, name)(features)
        return features, self.model(images)


def _torch_fidelity_inception(state: dict[str, Tensor]) -> Any:
    """Torch-fidelity's network with these weights, neither downloaded nor unpickled.

    Its constructor loads weights in one of two ways: without a path it downloads a pickle, and with a path it reads
    that pickle with ``weights_only=False``, which runs code that the file names. We take neither: for the moment of the
    call, and for this thread only, the function that downloads is one that returns the tensors we have.
    """
    module = _extra("torch_fidelity.feature_extractor_inceptionv3", "metrics")
    with _patching, torch.random.fork_rng(devices=[]):
        download, thread = module.load_state_dict_from_url, threading.get_ident()

        def given(*args: Any, **options: Any) -> Any:
            return state if threading.get_ident() == thread else download(*args, **options)

        module.load_state_dict_from_url = given
        try:
            return module.FeatureExtractorInceptionV3("inception", ["2048", "logits_unbiased"])
        except RuntimeError as error:
            raise _unfit("the Inception network", error) from error
        finally:
            module.load_state_dict_from_url = download


def _read(weights: Weights | None, network: str, source: str) -> dict[str, Tensor]:
    """The state dict that a caller gave, by itself or in a file."""
    if weights is None:
        raise ValueError(
            f"`weights` is None, but {network} needs pretrained weights, which are never downloaded here: "
            f"get {source}, turn it into a file of tensors with {_TO_SAFETENSORS}, and give its path"
        )
    if isinstance(weights, Mapping):
        return dict(weights)
    path = Path(weights)
    if path.suffix != ".safetensors":
        raise ValueError(
            f"`weights` is {str(path)!r}, but must be a .safetensors file or a mapping of tensors, as other files may "
            f"run code when they are read; {_TO_SAFETENSORS} turns one into the other"
        )
    if path.exists() and not path.is_file():  # opening a FIFO would wait for ever
        raise MetricError(f"{path} is no file of weights")
    try:
        return safetensors.torch.load_file(path)
    except safetensors.SafetensorError as error:
        raise MetricError(f"{path} cannot be read as safetensors: {error}") from error


def _load(network: nn.Module, state: dict[str, Tensor], what: str) -> None:
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        raise _unfit(what, error) from error


def _unfit(network: str, error: RuntimeError) -> MetricError:
    """The message about wrong weights, of which torch's own can be thousands of words long."""
    text = " ".join(str(error).split())
    return MetricError(f"the weights are not those of {network}: {text[:400]}{' ...' if len(text) > 400 else ''}")


def _extra(module: str, extra: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.split(".")[0]
        raise ImportError(f'{package} is needed for this, but missing: pip install "ganblocks[{extra}]"') from error
