"""Named feature maps of a fixed network: what perceptual losses look at.

`VGG19Features` are the maps that neural style transfer was found with (Gatys, Ecker and Bethge, CVPR 2016), by weights
from a file. `PaintingFeatures` are those of a `PaintingCNN` that this library has trained: a small network that
has seen few pictures, for where no weights of VGG can be had. Images are intensities in [0, 1] here, as for
autoencoders.
"""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Literal, Self, get_args

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ganblocks._checks import require
from ganblocks.errors import CheckpointError
from ganblocks.layers.conv import Conv2d
from ganblocks.layers.initialization import initialize
from ganblocks.models.backbone_classifier import IMAGENET_MEAN, IMAGENET_STD, channel_constant, read_weights
from ganblocks.models.backbones import Weights
from ganblocks.models.painting_classifier import PaintingCNN

__all__ = ["FeatureMaps", "PaintingFeatures", "Preprocessing", "VGG19Features"]

Preprocessing = Literal["torchvision", "caffe"]

_BLOCKS = (2, 2, 4, 4, 4)  # convolutions of each block of VGG19
_WIDTHS = (64, 128, 256, 512, 512)
_CAFFE_MEAN = (103.939, 116.779, 123.68)  # of blue, green and red, 0 to 255


class FeatureMaps(nn.Module):
    """A fixed network in blocks, of which some layers are asked for.

    Its parameters take no gradient, and it stays in evaluation mode. Gradients reach the images.

    Args:
        blocks: For each block its layers by name, in order; the network has no other path.
        layers: Names of the layers whose maps are wanted. Nothing behind the last of them is computed.
        recompute: Whether a block's maps are computed a second time for the gradient instead of kept: less memory, and
            one more forward pass.

    Raises:
        ValueError: If a layer is unknown, named twice, or none is named.
    """

    def __init__(
        self, blocks: Sequence[Mapping[str, nn.Module]], layers: Sequence[str], *, recompute: bool = False
    ) -> None:
        super().__init__()
        names = [name for block in blocks for name in block]
        require(len(layers) > 0, "layers", list(layers), f"at least one of {', '.join(names)}")
        for name in layers:
            require(name in names, "layers", name, f"one of {', '.join(names)}")
        require(len(set(layers)) == len(layers), "layers", list(layers), "each there once")
        last = max(names.index(name) for name in layers)
        kept = set(names[: last + 1])
        parts = [OrderedDict((name, layer) for name, layer in block.items() if name in kept) for block in blocks]
        self.blocks: nn.ModuleList = nn.ModuleList(nn.ModuleDict(part) for part in parts if part)
        self.layers: tuple[str, ...] = tuple(layers)
        self.recompute = recompute
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> Self:
        """Nothing: the network is fixed."""
        return super().train(False)

    def prepared(self, images: Tensor) -> Tensor:
        """Intensities in [0, 1] as the first layer takes them."""
        return images

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """The maps of the layers asked for.

        Args:
            images: ``[N, C, H, W]`` in [0, 1], large enough that every map has a place.

        Returns:
            Maps ``[N, channels, h, w]`` by name, in the order of the network.

        Raises:
            ValueError: If the images are of another shape, or too small.
        """
        shape, channels, smallest = tuple(images.shape), self._channels, self.smallest_side
        fits = images.dim() == 4 and shape[1] == channels and min(shape[2:]) >= smallest
        require(fits, "images", shape, f"[N, {channels}, H, W] with at least {smallest} pixels a side")
        x, found = self.prepared(images), OrderedDict[str, Tensor]()
        for block in self.blocks:
            again = self.recompute and torch.is_grad_enabled() and x.requires_grad
            if again:  # nothing in it is random
                *kept, x = checkpoint(self._through, block, x, use_reentrant=False, preserve_rng_state=False)
            else:
                *kept, x = self._through(block, x)
            found |= dict(zip(self._asked(block), kept, strict=True))
        return found

    @property
    def smallest_side(self) -> int:
        """Of images, so that every map has a place: the side is halved by each pooling."""
        return int(2 ** sum(isinstance(layer, (nn.MaxPool2d, nn.AvgPool2d)) for layer in self.modules()))

    @property
    def _channels(self) -> int:
        return next(layer.in_channels for layer in self.modules() if isinstance(layer, nn.Conv2d))

    def _asked(self, block: nn.Module) -> list[str]:
        return [name for name, _ in block.named_children() if name in self.layers]

    def _through(self, block: nn.Module, x: Tensor) -> tuple[Tensor, ...]:
        """The maps of a block that are asked for, and its last one."""
        kept = []
        for name, layer in block.named_children():
            x = layer(x)
            if name in self.layers:
                kept.append(x)
        return (*kept, x)


class VGG19Features(FeatureMaps):
    """Maps of VGG19 (Simonyan and Zisserman 2015), behind the ReLU of the named convolutions.

    Layers are called ``block1_conv1`` to ``block5_conv4``, as Keras calls them. Without weights they are He's random
    numbers, which know nothing of any picture.

    Args:
        layers: See `FeatureMaps`.
        weights: Of torchvision's ``vgg19``, as a mapping or a ``.safetensors`` file; its dense layers, if they are
            there, are left aside. ``None`` = random ones.
        pooling: ``"max"``, as it was trained, or ``"average"``, with which Gatys et al. 2016 got more pleasing images.
        preprocessing: What the weights were trained with: ``"torchvision"`` = RGB less ImageNet's mean, over its
            standard deviation; ``"caffe"`` = BGR from 0 to 255 less the mean, as in the original and in Keras.
        recompute: See `FeatureMaps`.
        generator: Where random weights come from.

    Raises:
        CheckpointError: If the weights are not those of a VGG19, or cannot be read.
        ValueError: If an argument is not one of its values.
    """

    def __init__(
        self,
        layers: Sequence[str],
        weights: Weights | None = None,
        *,
        pooling: Literal["max", "average"] = "max",
        preprocessing: Preprocessing = "torchvision",
        recompute: bool = False,
        generator: torch.Generator | None = None,
    ) -> None:
        require(pooling in ("max", "average"), "pooling", pooling, "'max' or 'average'")
        known = get_args(Preprocessing)
        require(preprocessing in known, "preprocessing", preprocessing, f"one of {known}")
        pool = nn.MaxPool2d if pooling == "max" else nn.AvgPool2d
        blocks: list[OrderedDict[str, nn.Module]] = []
        places: dict[str, int] = {}  # of each convolution in torchvision's list
        place, channels = 0, 3
        for block, (count, width) in enumerate(zip(_BLOCKS, _WIDTHS, strict=True), start=1):
            found: OrderedDict[str, nn.Module] = OrderedDict()
            if block > 1:
                found[f"block{block - 1}_pool"] = pool(2)
                place += 1
            for number in range(1, count + 1):
                name = f"block{block}_conv{number}"
                found[name] = nn.Sequential(Conv2d(channels, width, 3, padding=1), nn.ReLU(inplace=True))
                places[name], channels = place, width
                place += 2
            blocks.append(found)
        super().__init__(blocks, layers, recompute=recompute)
        self.pooling, self.preprocessing = pooling, preprocessing
        self.register_buffer("mean", channel_constant(IMAGENET_MEAN), persistent=False)
        self.register_buffer("std", channel_constant(IMAGENET_STD), persistent=False)
        self.register_buffer("caffe_mean", channel_constant(_CAFFE_MEAN), persistent=False)
        if weights is None:
            initialize(self, "he_normal", generator=generator)
        else:
            self._load(read_weights(weights), places)

    def prepared(self, images: Tensor) -> Tensor:
        """As the weights were trained."""
        if self.preprocessing == "caffe":
            return 255 * images.flip(1) - self.get_buffer("caffe_mean").to(images.dtype)
        mean, std = (self.get_buffer(name).to(images.dtype) for name in ("mean", "std"))
        return (images - mean) / std

    def _load(self, state: Mapping[str, Tensor], places: Mapping[str, int]) -> None:
        convolutions = {
            name: layer[0]
            for block in self.blocks
            for name, layer in block.named_children()
            if isinstance(layer, nn.Sequential)
        }
        with torch.no_grad():
            for name, convolution in convolutions.items():
                for key in ("weight", "bias"):
                    own, theirs = convolution.get_parameter(key), f"features.{places[name]}.{key}"
                    if theirs not in state or state[theirs].shape != own.shape:
                        there = tuple(state[theirs].shape) if theirs in state else "not there"
                        text = f"{theirs!r} is {there}, but must be of shape {tuple(own.shape)}"
                        raise CheckpointError(f"the weights are not those of torchvision's vgg19: {text}")
                    own.copy_(state[theirs])


class PaintingFeatures(FeatureMaps):
    """Maps of a `PaintingCNN`, behind its blocks ``block1``, ``block2`` and so on; each halves the side.

    Args:
        classifier: Its convolutions are held, not copied, and frozen.
        layers: See `FeatureMaps`; ``None`` = all blocks.
        recompute: See `FeatureMaps`.

    Raises:
        ValueError: As `FeatureMaps`.
    """

    def __init__(
        self, classifier: PaintingCNN, layers: Sequence[str] | None = None, *, recompute: bool = False
    ) -> None:
        named = {f"block{number}": block for number, block in enumerate(classifier.blocks, start=1)}
        super().__init__([{name: block} for name, block in named.items()], layers or list(named), recompute=recompute)
