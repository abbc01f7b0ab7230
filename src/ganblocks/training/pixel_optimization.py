"""Neural style transfer: an image is changed, pixel by pixel, until its features say what is wanted.

Gatys, Ecker and Bethge (CVPR 2016). Nothing is trained here but the pixels; the network that makes the features is
fixed. Images are intensities in [0, 1].
"""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Self, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from ganblocks._checks import require, require_rank
from ganblocks.errors import NonFiniteError
from ganblocks.functional.color import match_color, with_luminance
from ganblocks.functional.gram import gram_matrix
from ganblocks.training.precision import Precision
from ganblocks.training.style_terms import StyleWeights, style_terms

__all__ = ["ColorHandling", "StyleRecipe", "StyleStep", "Stylized", "document", "stylize"]

ColorHandling = Literal["free", "matched", "luminance"]
Start = Literal["content", "noise", "style"]
Features = Callable[[Tensor], Mapping[str, Tensor]]

_READ_EVERY = 25  # steps: so often the host waits for a GPU


@dataclasses.dataclass(frozen=True)
class StyleRecipe(StyleWeights):
    """How the pixels are found; see `StyleWeights` for what they are to be like.

    Attributes:
        steps: Updates at each scale, at least 1.
        scales: Sides as shares of the full ones, above 0 to 1, rising to 1: each goes on from the result before.
        start: What the first scale begins with.
        optimizer: ``"adam"``, or ``"lbfgs"``, of which a step is one line search.
        learning_rate: Of Adam; L-BFGS has 1 and a search.
        betas: Of Adam.
        eps: Of Adam.
        color: ``"free"``; ``"matched"`` = the style image gets the colours of the content first (`match_color`);
            ``"luminance"`` = only brightness is taken from the result (`with_luminance`).
    """

    steps: int = 200
    scales: tuple[float, ...] = (0.5, 1.0)
    start: Start = "content"
    optimizer: Literal["adam", "lbfgs"] = "adam"
    learning_rate: float = 0.02
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    color: ColorHandling = "free"

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "scales", tuple(self.scales))
        require(self.steps >= 1, "steps", self.steps, "at least 1")
        rising = len(self.scales) > 0 and list(self.scales) == sorted(set(self.scales))
        fits = rising and self.scales[0] > 0 and self.scales[-1] == 1
        require(fits, "scales", self.scales, "shares above 0 that rise to 1")
        require(self.learning_rate > 0, "learning_rate", self.learning_rate, "above 0")
        for name, known in (
            ("start", get_args(Start)), ("optimizer", ("adam", "lbfgs")),
            ("color", get_args(ColorHandling)),
        ):  # fmt: skip
            require(getattr(self, name) in known, name, getattr(self, name), f"one of {known}")

    def replace(self, **changes: Any) -> Self:
        """A copy with other values in the named fields."""
        return dataclasses.replace(self, **changes)


@dataclasses.dataclass(frozen=True)
class StyleStep:
    """What is known after a step.

    Attributes:
        step: Updates so far, over all scales, from 1.
        steps: Updates there will be.
        scale: Index of the scale.
        losses: ``loss``, and its parts ``content``, ``style`` and ``variation`` before their weights, 0-d tensors
            without graph, of the image before the update.
        image: The image after it, ``[1, C, h, w]``; it changes in place with the next step.
    """

    step: int
    steps: int
    scale: int
    losses: Mapping[str, Tensor]
    image: Tensor


@dataclasses.dataclass(frozen=True)
class Stylized:
    """What `stylize` returns.

    Attributes:
        image: ``[1, C, H, W]`` in [0, 1], of the size of the content.
        history: For each step its scale and the numbers of `StyleStep.losses`.
    """

    image: Tensor
    history: tuple[Mapping[str, float], ...]


def document(**overrides: Any) -> StyleRecipe:
    """The form of the course text's tutorial: Adam at 0.02 with betas (0.99, 0.999) and eps 0.1, 1,000 steps, one size.

    Weights 1e4 for the content, 1e-2 for the style and 30 for the variation, for features of VGG19 with its original
    preprocessing (``preprocessing="caffe"``).

    Args:
        **overrides: Fields of `StyleRecipe`.
    """
    values: dict[str, Any] = {
        "content_weight": 1e4,
        "style_weight": 1e-2,
        "variation_weight": 30.0,
        "relative": False,
        "steps": 1000,
        "scales": (1.0,),
        "betas": (0.99, 0.999),
        "eps": 0.1,
    }
    return StyleRecipe(**{**values, **overrides})


def stylize(
    content: Tensor,
    style: Tensor,
    features: Features,
    *,
    content_layers: Sequence[str],
    style_layers: Sequence[str],
    recipe: StyleRecipe | None = None,
    mask: Tensor | None = None,
    seed: int = 0,
    precision: Precision | None = None,
    on_step: Callable[[StyleStep], None] | None = None,
) -> Stylized:
    """Give an image the look of another.

    Args:
        content: ``[1, C, H, W]`` in [0, 1].
        style: ``[1, C, H', W']`` in [0, 1], of any size. Where it is larger than the content, it shrinks to its area.
        features: Images to maps by name, such as a `ganblocks.models.feature_maps.FeatureMaps`, on the device of
            ``precision``. It must know all layers named here.
        content_layers: Where the result is to be like the content.
        style_layers: Where its Gram matrices are to be like those of the style.
        recipe: ``None`` = `StyleRecipe` as it is.
        mask: ``[1, 1, H, W]`` from 0 to 1: 0 leaves a pixel of the content as it is. ``None`` = 1 everywhere.
        seed: Of the noise to start from.
        precision: Of the features; the pixels are float32. ``None`` = float32 on the CPU.
        on_step: Called after every step, for progress and pictures.

    Returns:
        The image and the losses of all steps, on the CPU.

    Raises:
        NonFiniteError: If a loss is NaN or infinite; it is looked at every 25 steps.
        TypeError: If an image is not floating-point.
        ValueError: If an image is of another shape or leaves [0, 1], a layer is unknown, or only the luminance is asked
            for of images that are not RGB.
    """
    recipe = recipe or StyleRecipe()
    precision = precision or Precision("fp32", torch.device("cpu"))
    wanted = (1, *content.shape[1:2])
    for name, image in (("content", content), ("style", style)):
        _require_image(image, name)
        require(tuple(image.shape[:2]) == wanted, name, tuple(image.shape), f"{list(wanted)[:2]} and a size")
    if mask is not None:
        _require_image(mask, "mask")
        shape = (1, 1, *content.shape[2:])
        require(tuple(mask.shape) == shape, "mask", tuple(mask.shape), f"{list(shape)}")
    coloured = recipe.color != "luminance" or content.shape[1] == 3
    require(coloured, "recipe.color", recipe.color, f"'free' or 'matched' for images of {content.shape[1]} channels")
    content, style = content.float().to(precision.device), style.float().to(precision.device)
    mask = torch.ones_like(content[:, :1]) if mask is None else mask.float().to(precision.device)
    area = (content.shape[2] * content.shape[3]) / (style.shape[2] * style.shape[3])
    style = _resized(style, min(1.0, math.sqrt(area)))
    if recipe.color == "matched":
        style = match_color(style, content).clamp(0, 1)

    noise = torch.rand(content.shape, generator=torch.Generator().manual_seed(seed)).to(precision.device)
    like_content = F.interpolate(style, content.shape[2:], mode="bilinear", align_corners=False)
    image = {"content": content, "noise": noise, "style": like_content}[recipe.start]
    history: list[Mapping[str, float]] = []
    for scale, share in enumerate(recipe.scales):
        small, part = _resized(content, share), _resized(mask, share)
        image = F.interpolate(image, small.shape[2:], mode="bilinear", align_corners=False, antialias=True)
        game = _Scale(small, _resized(style, share), part, features, content_layers, style_layers, recipe, precision)
        image = game.run(image, scale, history, on_step)
    if recipe.color == "luminance":
        image = with_luminance(content, image).clamp(0, 1)
    return Stylized(image.cpu(), tuple(history))


class _Scale:
    """The game at one size: targets, and the updates of the pixels."""

    def __init__(
        self, content: Tensor, style: Tensor, mask: Tensor, features: Features, content_layers: Sequence[str],
        style_layers: Sequence[str], recipe: StyleRecipe, precision: Precision,
    ) -> None:  # fmt: skip
        self.content, self.mask, self.features = content, mask, features
        self.recipe, self.precision = recipe, precision
        self.masked = bool((mask < 1).any())
        with torch.no_grad():
            of_content, of_style = self._maps(content), self._maps(style)
        for name, layers in (("content_layers", content_layers), ("style_layers", style_layers)):
            require(len(layers) > 0, name, list(layers), "at least one")
            for layer in layers:
                require(layer in of_content, name, layer, f"one of {sorted(of_content)}")
        self.contents = {layer: of_content[layer].float() for layer in content_layers}
        self.styles = {layer: gram_matrix(of_style[layer]) for layer in style_layers}

    def run(
        self, image: Tensor, scale: int, history: list[Mapping[str, float]], on_step: Callable[[StyleStep], None] | None
    ) -> Tensor:
        recipe = self.recipe
        pixels = image.clone(memory_format=torch.contiguous_format).requires_grad_()
        optimizer: torch.optim.Optimizer
        if recipe.optimizer == "adam":
            optimizer = torch.optim.Adam(
                [pixels], lr=recipe.learning_rate, betas=recipe.betas, eps=recipe.eps, fused=True
            )
        else:
            optimizer = torch.optim.LBFGS([pixels], max_iter=1, line_search_fn="strong_wolfe")
        first: dict[str, Tensor] = {}
        waiting: list[dict[str, Tensor]] = []  # losses that the host has not read yet
        done = len(history)

        def closure() -> Tensor:
            image = self._composed(pixels)
            losses = style_terms(image, self._maps(image), self.contents, self.styles, recipe)
            (gradient,) = torch.autograd.grad(losses["loss"], [pixels])
            pixels.grad = gradient.contiguous()  # as the pixels: a fused optimizer walks through both side by side
            if not first:
                first.update({name: loss.detach() for name, loss in losses.items()})
            return losses["loss"]

        for step in range(recipe.steps):
            first.clear()
            optimizer.step(closure)  # type: ignore[no-untyped-call, unused-ignore]
            with torch.no_grad():
                pixels.clamp_(0, 1)
            waiting.append(dict(first))
            if len(waiting) == _READ_EVERY or step + 1 == recipe.steps:
                history += [
                    _read(losses, scale, len(history) - done + 1 + place) for place, losses in enumerate(waiting)
                ]
                waiting.clear()
            if on_step is not None:
                steps = recipe.steps * len(recipe.scales)
                shown = self._composed(pixels.detach())
                on_step(StyleStep(done + step + 1, steps, scale, dict(first), shown))
        return self._composed(pixels.detach()).contiguous()

    def _composed(self, pixels: Tensor) -> Tensor:
        """Pixels where the mask is 1, the content where it is 0."""
        return torch.lerp(self.content, pixels, self.mask) if self.masked else pixels

    def _maps(self, image: Tensor) -> Mapping[str, Tensor]:
        image = image.contiguous(memory_format=self.precision.memory_format(min(image.shape[2:])))
        with self.precision.autocast():
            return self.features(image)


def _read(losses: Mapping[str, Tensor], scale: int, step: int) -> Mapping[str, float]:
    """The numbers of one step."""
    numbers = {name: float(loss) for name, loss in losses.items()}
    if not all(map(math.isfinite, numbers.values())):
        raise NonFiniteError(f"at step {step} of scale {scale + 1} the losses are {numbers}")
    return {"scale": scale, **numbers}


def _resized(image: Tensor, share: float) -> Tensor:
    if share == 1:
        return image
    size = [max(1, round(side * share)) for side in image.shape[2:]]
    return F.interpolate(image, size, mode="bilinear", align_corners=False, antialias=True).clamp(0, 1)


def _require_image(image: Tensor, name: str) -> None:
    require_rank(image, name, 4, 4)
    require(image.is_floating_point(), name, image.dtype, "of a floating-point dtype", TypeError)
    require(image.numel() > 0, name, tuple(image.shape), "[1, C, H, W] with at least one pixel")
    lowest, highest = (float(bound) for bound in image.aminmax())
    require(lowest >= 0 and highest <= 1, name, f"from {lowest:.3g} to {highest:.3g}", "from 0 to 1")
