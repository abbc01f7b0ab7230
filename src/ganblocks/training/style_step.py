"""One update of a network that changes the style of images in one pass.

`TransformStep` teaches a network a single style (Johnson, Alahi and Fei-Fei, ECCV 2016). `StyleDecoderStep` teaches a
decoder to show whatever style the features were given (Huang and Belongie, ICCV 2017).
"""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ganblocks._checks import require, require_rank, require_same_shape
from ganblocks.functional.adaptive_norm import adaptive_instance_norm
from ganblocks.functional.gram import gram_matrix
from ganblocks.functional.image_range import intensities
from ganblocks.losses.perceptual import moment_loss
from ganblocks.training.network_step import NetworkStep
from ganblocks.training.precision import Precision
from ganblocks.training.randomness import StepContext
from ganblocks.training.style_terms import StyleWeights, style_terms

__all__ = ["StyleDecoderStep", "TransformStep"]

Features = Callable[[Tensor], Mapping[str, Tensor]]


class _StyleStep(NetworkStep):
    """What both have in common: batches become intensities, and features are seen in the step's precision."""

    features: Features

    def __call__(self, images: Tensor, labels: Tensor | None, context: StepContext) -> dict[str, Tensor]:
        """Train on one batch, uint8 or float in [-1, 1]; labels are not looked at.

        Returns:
            ``loss`` of this batch before its update, and its parts before their weights: 0-d tensors without graph.

        Raises:
            ValueError: If the images, or what the network makes of them, are of another shape.
        """
        return super().__call__(images, None, context)

    def _inputs(self, images: Tensor, labels: Tensor | None) -> tuple[Tensor, Tensor | None]:
        require_rank(images, "images", 4, 4)
        given = intensities(images.to(self.precision.device, non_blocking=True))
        return given.to(memory_format=self.precision.memory_format(images.shape[-1])), labels

    def _maps(self, images: Tensor) -> Mapping[str, Tensor]:
        with self.precision.autocast():
            return self.features(images)

    def _made(self, given: Tensor, images: Tensor) -> Tensor:
        """What the network makes, in float32."""
        with self.precision.autocast():
            made: Tensor = self._network(given)
        require_same_shape(made, images, "what the network makes", "images")
        return made.float()


class TransformStep(_StyleStep):
    """One update of a network that knows one style, such as `ganblocks.models.style_transfer.TransformNetwork`.

    Its loss is `style_terms` of what it makes of a batch: like the batch in the content layers, like the style image in
    the style layers.

    Args:
        network: Images ``[N, C, H, W]`` in [0, 1] to the same. Its mode is left as it is.
        features: Images to maps by name, such as a `ganblocks.models.feature_maps.FeatureMaps`, on the device of
            ``precision``.
        style: ``[1, C, h, w]`` in [0, 1], of any size.
        content_layers: Where the results are to be like the images.
        style_layers: Where their Gram matrices are to be like those of the style.
        optimizer: Over the network's parameters.
        weights: Of the terms; ``None`` = `StyleWeights` as they are.
        precision: Of the forward passes; ``None`` = float32 on the CPU.
        max_skipped_updates: See `ClassifierStep`.
        micro_batch: See `ClassifierStep`.

    Raises:
        TypeError: If the style is not floating-point.
        ValueError: If it is of another shape, or a layer is unknown.
    """

    def __init__(
        self,
        network: nn.Module,
        features: Features,
        style: Tensor,
        *,
        content_layers: Sequence[str],
        style_layers: Sequence[str],
        optimizer: torch.optim.Optimizer,
        weights: StyleWeights | None = None,
        precision: Precision | None = None,
        max_skipped_updates: int = 0,
        micro_batch: int | None = None,
    ) -> None:
        super().__init__(
            "network", optimizer=optimizer, precision=precision, max_skipped_updates=max_skipped_updates,
            micro_batch=micro_batch,
        )  # fmt: skip
        require_rank(style, "style", 4, 4)
        require(style.is_floating_point(), "style", style.dtype, "of a floating-point dtype", TypeError)
        require(len(style) == 1, "style", tuple(style.shape), "[1, C, H, W]")
        self.network = network
        self.features = features
        self.weights: StyleWeights = weights or StyleWeights()
        with torch.no_grad():
            seen = self._maps(style.float().to(self.precision.device))
        for name, layers in (("content_layers", content_layers), ("style_layers", style_layers)):
            require(len(layers) > 0, name, list(layers), "at least one")
            for layer in layers:
                require(layer in seen, name, layer, f"one of {sorted(seen)}")
        self.content_layers: tuple[str, ...] = tuple(content_layers)
        self._looks = {layer: gram_matrix(seen[layer]) for layer in style_layers}

    def _loss(self, images: Tensor, labels: Tensor | None, context: StepContext) -> tuple[Tensor, dict[str, Tensor]]:
        made = self._made(images, images)
        with torch.no_grad():
            wanted = self._maps(images)
            contents = {layer: wanted[layer].float() for layer in self.content_layers}
        terms = style_terms(made, self._maps(made), contents, self._looks, self.weights)
        loss = terms.pop("loss")
        return loss, {name: term.detach() for name, term in terms.items()}


class StyleDecoderStep(_StyleStep):
    """One update of a decoder for any style, such as `ganblocks.models.style_transfer.StyleDecoder`.

    Each image of the batch is the content of one result and the style of another. The features of the content get the
    moments of the style's (`adaptive_instance_norm`); what the decoder makes of them is to have these features in the
    last layer, and the moments of the style in all of them (Huang and Belongie 2017, equations 11 to 13).

    Args:
        decoder: Features of the last layer to images ``[N, C, H, W]`` in [0, 1].
        features: As for `TransformStep`, of ``layers``.
        layers: The last is the one that the decoder inverts.
        optimizer: Over the decoder's parameters.
        style_weight: Of the second term, 0 or above.
        precision: Of the forward passes; ``None`` = float32 on the CPU.
        max_skipped_updates: See `ClassifierStep`.
        micro_batch: See `ClassifierStep`.

    Raises:
        ValueError: If there is no layer, or the weight is negative.
    """

    def __init__(
        self,
        decoder: nn.Module,
        features: Features,
        layers: Sequence[str],
        *,
        optimizer: torch.optim.Optimizer,
        style_weight: float = 10.0,
        precision: Precision | None = None,
        max_skipped_updates: int = 0,
        micro_batch: int | None = None,
    ) -> None:
        require(len(layers) > 0, "layers", list(layers), "at least one")
        require(style_weight >= 0, "style_weight", style_weight, "0 or above")
        super().__init__(
            "decoder", optimizer=optimizer, precision=precision, max_skipped_updates=max_skipped_updates,
            micro_batch=micro_batch,
        )  # fmt: skip
        self.decoder = decoder
        self.features = features
        self.layers: tuple[str, ...] = tuple(layers)
        self.style_weight = style_weight

    def _loss(self, images: Tensor, labels: Tensor | None, context: StepContext) -> tuple[Tensor, dict[str, Tensor]]:
        N = len(images)
        shift = 1 + int(torch.randint(max(1, N - 1), (1,), generator=context.generator("styles")))
        with torch.no_grad():
            seen = self._maps(images)
            for layer in self.layers:
                require(layer in seen, "layers", layer, f"one of {sorted(seen)}")
            looks = {layer: seen[layer].roll(shift, 0).float() for layer in self.layers}
            wanted = adaptive_instance_norm(seen[self.layers[-1]].float(), looks[self.layers[-1]])
        found = self._maps(self._made(wanted, images))
        content = F.mse_loss(found[self.layers[-1]].float(), wanted)
        style = moment_loss({layer: found[layer] for layer in self.layers}, looks)
        return content + self.style_weight * style, {"content": content.detach(), "style": style.detach()}
