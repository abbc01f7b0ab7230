"""A classifier over a convolutional network that was trained on photographs, with a small penalised head.

The backbone is one of torchvision's networks without its last layers. Global pooling makes a vector of its last map;
batch normalisation, a dense layer with ReLU, dropout and the layer of the logits follow. The dense layer may be
penalised by its weights, its biases and what it puts out, as Keras's regularisers do it.
"""

import dataclasses
import math
import os
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ganblocks._checks import require
from ganblocks._modes import evaluation_mode
from ganblocks.errors import CheckpointError
from ganblocks.layers.initialization import initialize
from ganblocks.models.config import ModelConfig

__all__ = ["BackboneClassifier", "BackboneClassifierConfig"]

_FAMILIES = ("convnext_", "efficientnet_", "mobilenet_", "regnet_", "resnet", "resnext", "vgg", "wide_resnet")
_ENDS = ("avgpool", "classifier", "fc")  # what these families call the first part behind their last map
_SMALLEST_SIDE = 32  # these networks halve images five times
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclasses.dataclass(frozen=True)
class BackboneClassifierConfig(ModelConfig):
    """Architecture of a `BackboneClassifier`, and the weights of its penalty.

    Attributes:
        backbone: Name of a network as ``torchvision.models.get_model`` knows it, of the families ConvNeXt,
            EfficientNet, MobileNet, RegNet, ResNet, ResNeXt, VGG and wide ResNet.
        num_classes: K, at least 1.
        pooling: What makes one number of each map of the backbone: its ``"average"`` or its ``"max"``.
        hidden_dim: Size of the dense layer and of the feature vector, at least 1.
        dropout: Share of the features that training leaves out in front of the last layer, 0 to below 1.
        norm_momentum: Share by which a batch replaces the running statistics of the head's batch normalisation, 0 to 1.
            Keras counts the share that is kept: 1 less this.
        norm_eps: Added to the variances there, above 0.
        backbone_norm_momentum: The same share for all batch normalisation of the backbone; ``None`` = torchvision's
            own. Its eps stays torchvision's, which belongs to its weights.
        weight_l2: Weight of the sum of squares of the dense layer's weights in the penalty, 0 or above.
        bias_l1: Weight of the sum of absolute values of its biases, 0 or above.
        activity_l1: Weight of the sum of absolute values of what it puts out, an image, 0 or above.
    """

    backbone: str = "efficientnet_b3"
    num_classes: int = 2
    pooling: Literal["average", "max"] = "average"
    hidden_dim: int = 256
    dropout: float = 0.25
    norm_momentum: float = 0.1
    norm_eps: float = 1e-5
    backbone_norm_momentum: float | None = None
    weight_l2: float = 0.0
    bias_l1: float = 0.0
    activity_l1: float = 0.0

    def __post_init__(self) -> None:
        known = isinstance(self.backbone, str) and self.backbone.startswith(_FAMILIES)
        families = ", ".join(f"{prefix}..." for prefix in _FAMILIES)
        require(known, "backbone", self.backbone, f"one of torchvision's networks {families}")
        require(self.pooling in ("average", "max"), "pooling", self.pooling, "'average' or 'max'")
        for name in ("num_classes", "hidden_dim"):
            value = getattr(self, name)
            require(type(value) is int and value >= 1, name, value, "a whole number, at least 1")
        numbers = ("dropout", "norm_momentum", "norm_eps", "weight_l2", "bias_l1", "activity_l1")
        for name in numbers if self.backbone_norm_momentum is None else (*numbers, "backbone_norm_momentum"):
            value = getattr(self, name)
            require(type(value) in (int, float), name, value, "a number")
            if name.endswith("momentum"):
                require(0 <= value <= 1, name, value, "between 0 and 1")
            elif name.endswith(("_l1", "_l2")):
                require(0 <= value < math.inf, name, value, "0 or above, and finite")
        require(0 <= self.dropout < 1, "dropout", self.dropout, "from 0 to below 1")
        require(0 < self.norm_eps < math.inf, "norm_eps", self.norm_eps, "above 0 and finite")

    @classmethod
    def document(cls, **overrides: object) -> Self:
        """The course text's classifier of brain images: EfficientNet-B3, maximum over each map, and its Keras numbers.

        11,093,290 parameters. Keras's momentum of 0.99 is 0.01 here. Its summary counts 11,183,665: running statistics
        (90,368) and the 7 constants of the layer that normalises its images are in it.

        Args:
            **overrides: Fields of the configuration.
        """
        values = {
            "backbone": "efficientnet_b3",
            "num_classes": 2,
            "pooling": "max",
            "hidden_dim": 256,
            "dropout": 0.45,
            "norm_momentum": 0.01,
            "norm_eps": 1e-3,
            "backbone_norm_momentum": 0.01,
            "weight_l2": 0.016,
            "bias_l1": 0.006,
            "activity_l1": 0.006,
        }
        return cls.from_dict({**values, **overrides})


class BackboneClassifier(nn.Module):
    """Images to logits, by way of a network that may have been trained on something else before.

    The dense layers of the head begin with Glorot's uniform weights and biases of 0.

    Args:
        config: The architecture.
        weights: Of the backbone: the state dict of torchvision's whole network, whose last layers are left out, or the
            path of a ``.safetensors`` file that holds it. ``ganblocks checkpoint import FILE.pth --out
            FILE.safetensors`` makes one of the file that torchvision names; nothing is downloaded. ``None`` =
            torchvision's random start.

    Attributes:
        pretrained: Whether ``weights`` were given: without them the backbone knows nothing of any image.
        backbone_frozen: Whether `freeze_backbone` is in force.

    Shape:
        Images ``[N, 3, H, W]`` in [-1, 1], 32 pixels at least, to logits ``[N, num_classes]``. ImageNet's mean and
        standard deviation, which the backbone expects, are applied inside.

    Raises:
        CheckpointError: If the file is missing or damaged, or the weights are not those of this backbone.
        ImportError: If torchvision is missing.
        ValueError: If torchvision has no network of that name, or the file is of another kind.
    """

    def __init__(
        self,
        config: BackboneClassifierConfig,
        weights: Mapping[str, Tensor] | str | os.PathLike[str] | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        self.pretrained: bool = weights is not None
        self.backbone_frozen: bool = False
        state = None if weights is None else read_weights(weights)
        self.backbone: nn.Sequential
        self.backbone, width = _torchvision_backbone(config.backbone, state)
        if config.backbone_norm_momentum is not None:
            for module in self.backbone.modules():
                if isinstance(module, _BatchNorm):
                    module.momentum = config.backbone_norm_momentum
        self.norm: nn.BatchNorm1d = nn.BatchNorm1d(width, eps=config.norm_eps, momentum=config.norm_momentum)
        self.dense: nn.Linear = initialize(nn.Linear(width, config.hidden_dim), "glorot_uniform")
        self.dropout: nn.Dropout = nn.Dropout(config.dropout)
        self.head: nn.Linear = initialize(nn.Linear(config.hidden_dim, config.num_classes), "glorot_uniform")
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", channel_constant(IMAGENET_MEAN), persistent=False)
        self.register_buffer("std", channel_constant(IMAGENET_STD), persistent=False)
        self._activity: Tensor | None = None

    def features(self, images: Tensor) -> Tensor:
        """What the dense layer puts out, ``[N, hidden_dim]``, 0 or above.

        In evaluation mode ``head(features(images))`` is ``forward(images)``, bit for bit. In training mode the sum
        of their absolute values is kept for `penalty`, until the next call or the change to evaluation mode.

        Args:
            images: As for `forward`.

        Raises:
            ValueError: If the shape is another one.
        """
        shape = tuple(images.shape)
        fits = images.dim() == 4 and shape[1] == 3 and min(shape[2:]) >= _SMALLEST_SIDE
        require(fits, "images", shape, f"[N, 3, H, W], H and W at least {_SMALLEST_SIDE}")
        maps = self.backbone(((images + 1) / 2 - self.mean) / self.std)
        pooled = maps.amax((2, 3)) if self.config.pooling == "max" else maps.mean((2, 3))
        features: Tensor = self.dense(self.norm(pooled)).relu()
        self._activity = _mean_absolute_sum(features) if self.training else None
        return features

    def forward(self, images: Tensor) -> Tensor:
        """Classify.

        Args:
            images: ``[N, 3, H, W]`` in [-1, 1]. In training mode N is at least 2, as batch normalisation needs.

        Returns:
            Logits ``[N, K]``, not normalised: ``softmax(dim=1)`` makes probabilities of them.

        Raises:
            ValueError: If the shape is another one.
        """
        logits: Tensor = self.head(self.dropout(self.features(images)))
        return logits

    def penalty(self, features: Tensor | None = None) -> Tensor:
        """The dense layer's penalty, to be added to the loss, as Keras defines its three parts.

        ``weight_l2 * sum(W**2) + bias_l1 * sum(|b|) + activity_l1 * sum(|a|) / N``: no half before the squares, and the
        activations ``a`` of a batch of N images are divided by N. Differentiable to any order but for the kink at 0,
        where the derivative of the absolute value counts as 0.

        Args:
            features: The activations ``[N, hidden_dim]``, such as `features` gives them. ``None`` = those of the last
                call in training mode, with their graph; where there was none since the model was in evaluation mode,
                the part of the activations is 0.

        Returns:
            0-d, in at least float32.

        Raises:
            ValueError: If ``features`` has another shape.
        """
        weight, bias = _wide(self.dense.weight), _wide(self.dense.bias)
        penalty = self.config.weight_l2 * weight.square().sum() + self.config.bias_l1 * bias.abs().sum()
        if features is None:
            activity = self._activity
        else:
            wanted = (self.config.hidden_dim,)
            fits = features.dim() == 2 and features.shape[1:] == wanted
            require(fits, "features", tuple(features.shape), f"[N, {self.config.hidden_dim}]")
            activity = _mean_absolute_sum(features)
        return penalty if activity is None else penalty + self.config.activity_l1 * activity

    def freeze_backbone(self) -> Self:
        """Keep the backbone as it is while the head is trained.

        Its parameters take no gradient, and it stays in evaluation mode whatever `train` says: its running statistics
        do not move and are what it normalises by, and it leaves nothing out. `state_dict` does not tell of it.

        Returns:
            This model.
        """
        self.backbone_frozen = True
        self.backbone.requires_grad_(False)
        return self.train(self.training)

    def unfreeze_backbone(self) -> Self:
        """Undo `freeze_backbone`: all parameters of the backbone are trained again, in the mode of the model.

        Returns:
            This model.
        """
        self.backbone_frozen = False
        self.backbone.requires_grad_(True)
        return self.train(self.training)

    def train(self, mode: bool = True) -> Self:
        """Set the mode of all parts but of a frozen backbone.

        Args:
            mode: ``True`` = training, ``False`` = evaluation.

        Returns:
            This model.
        """
        super().train(mode)
        if self.backbone_frozen:
            self.backbone.eval()
        if not mode:
            self._activity = None
        return self

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_activity": None}  # a copy has no part in the graph


def channel_constant(values: tuple[float, ...]) -> Tensor:
    """[1, 3, 1, 1] on the default device; real under ``torch.device("meta")`` too, as no state dict brings it later."""
    device = torch.get_default_device()
    return torch.tensor(values, device="cpu" if device.type == "meta" else device).reshape(1, 3, 1, 1)


def _mean_absolute_sum(features: Tensor) -> Tensor:
    """Sum of absolute values, an image; 0 where there is no image."""
    return _wide(features).abs().sum() / max(len(features), 1)


def _wide(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.dtype.itemsize < 4 else tensor


def _torchvision_backbone(name: str, state: Mapping[str, Tensor] | None) -> tuple[nn.Sequential, int]:
    """A network up to its last map, under torchvision's names, and the number of channels there."""
    try:
        from torchvision import models
    except ImportError as error:
        raise ImportError('torchvision is needed for this, but missing: pip install "ganblocks[vision]"') from error
    known = [other for other in models.list_models(module=models) if other.startswith(_FAMILIES)]
    require(name in known, "backbone", name, f"one of {', '.join(known)}")
    network = _network(models, name)
    names = [child for child, _ in network.named_children()]
    end = min(names.index(last) for last in _ENDS if last in names)
    backbone = nn.Sequential(OrderedDict(list(network.named_children())[:end]))
    if state is not None:
        _load(backbone, state, set(network.state_dict()), name)
    parameter = next(backbone.parameters())
    with torch.no_grad(), evaluation_mode(backbone):
        width: int = backbone(parameter.new_zeros(1, 3, _SMALLEST_SIDE, _SMALLEST_SIDE)).shape[1]
    return backbone, width


def _network(models: Any, name: str) -> nn.Module:
    """Torchvision's network with its random start, on the default device."""
    network: nn.Module
    if name.startswith("regnet_") and torch.get_default_device().type == "meta":
        # Torchvision works out their widths with tensors, of which it needs the numbers.
        with torch.random.fork_rng(devices=[]), torch.device("cpu"):
            network = models.get_model(name, weights=None)
        return network.to("meta")
    network = models.get_model(name, weights=None)
    return network


def _load(backbone: nn.Module, state: Mapping[str, Tensor], known: set[str], name: str) -> None:
    """Take the backbone's part of a state dict; the parts behind it may have any size, but no unknown name."""
    own = backbone.state_dict().keys()
    head = known - own
    try:
        backbone.load_state_dict({key: tensor for key, tensor in state.items() if key not in head})
    except RuntimeError as error:
        text = " ".join(str(error).split())
        text = f"{text[:400]}{' ...' if len(text) > 400 else ''}"  # torch lists every name
        raise CheckpointError(f"the weights are not those of torchvision's {name}: {text}") from error


def read_weights(weights: Mapping[str, Tensor] | str | os.PathLike[str]) -> Mapping[str, Tensor]:
    """The state dict that a caller gave, by itself or in a file."""
    if isinstance(weights, Mapping):
        return weights
    path = Path(weights)
    kind = (
        "a .safetensors file or a mapping of tensors: `ganblocks checkpoint import` makes one of what torch.save wrote"
    )
    require(path.suffix == ".safetensors", "weights", str(path), kind)
    if not path.is_file():  # opening a FIFO would wait for ever
        raise CheckpointError(f"there is no file {path}")
    try:
        return safetensors.torch.load_file(path)
    except (OSError, safetensors.SafetensorError) as error:
        raise CheckpointError(f"{path} cannot be read as safetensors: {error}") from error
